"""Marginals of verbs and nouns, on distributions made by hand and against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.tasks.classification import Classification
from omnivore_jax.tasks.verb_noun import VerbNounTask, parts_of

NAMES = ("take plate", "take cup", "wash plate", "wash board:chopping")
TASK = VerbNounTask("action", 4).named(NAMES)


def result(probabilities, label, task=TASK):
    judged = task.judge(jnp.log(jnp.asarray(probabilities)), jnp.asarray(label))
    return task.result(jax.device_get(judged), [])


def test_the_verb_of_the_sum_wins_over_that_of_the_best_action():
    # The best action is "wash plate" (.40), yet "take" has .60 of the whole, and plate .65.
    done = result([[0.25, 0.35, 0.40, 0.0]], [1])
    assert (done.top1, done.verb, done.noun) == (0.0, 1.0, 0.0)
    assert done.row()["verb_top1"] == 1.0 and done.row()["noun_top1"] == 0.0
    assert isinstance(done, Classification) and done.confusion[1, 2] == 1


def test_sums_are_those_of_plain_loops_also_with_classes_that_no_name_belongs_to():
    rng = np.random.default_rng(0)
    names = [f"v{k % 7} n{k % 5}:x" for k in range(31)]
    task = VerbNounTask("action", 33).named(names)
    probabilities = rng.dirichlet(np.ones(33) / 3, 200).astype(np.float32) + 1e-9
    label = rng.integers(0, 31, 200).astype(np.int32)
    done = result(probabilities, label, task)
    for part, ours in ((0, done.verb), (1, done.noun)):
        right = 0
        for row, k in zip(probabilities, label, strict=True):
            sums: dict[str, float] = {}
            for p, name in zip(row, [*names, "? ?", "? ?"], strict=True):
                key = name.split(" ")[part]
                sums[key] = sums.get(key, 0.0) + float(p)
            right += max(sums, key=sums.__getitem__) == names[k].split(" ")[part]
        assert ours == pytest.approx(right / 200)


def test_numbers_stand_for_missing_names():
    assert parts_of(["0:3", "0:4", "2:3"]) == ((0, 0, 1), (0, 1, 0))
    with pytest.raises(ValueError, match="class 'cat' is no pair of verb and noun"):
        parts_of(["0:3", "cat"])
