import json

import pytest

from omnivore_jax.checkpoint.scores import Scores
from omnivore_jax.core.errors import UserError


def test_the_best_is_the_highest_mean_and_survives_a_restart(tmp_path):
    scores = Scores(tmp_path)
    for step, mean, image in ((10, 0.5, 0.9), (20, 0.7, 0.6), (30, 0.7, 0.8)):
        scores.add(step, mean, {"image": image})
    scores.save()
    again = Scores(tmp_path)
    assert (
        again.best([10, 20, 30]) == 20 and again.best([10, 30]) == 30 and again.best([40]) is None
    )
    assert json.loads((tmp_path / "scores.json").read_text())["best"] == {"image": 10, "mean": 20}


def test_scores_that_are_no_numbers_or_no_file_are_refused(tmp_path):
    with pytest.raises(ValueError, match="score=nan of step 3"):
        Scores(tmp_path).add(3, float("nan"), {})
    (tmp_path / "scores.json").write_text("[]")
    with pytest.raises(UserError, match="scores.json cannot be read; delete it"):
        Scores(tmp_path)
