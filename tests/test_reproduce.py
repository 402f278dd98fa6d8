"""Configs of docs/reproduce.md resolve, and every row of the paper has its numbers there."""

import pytest

from omnivore_jax.experiment.settings import resolve
from omnivore_jax.inference import paper
from tests.rows import CONFIGS, TEXT, load


@pytest.mark.parametrize("config", CONFIGS)
def test_a_config_resolves_with_steps_and_starts_from_a_run_that_another_makes(config):
    settings = resolve(load(config).to_dict())
    sizes = {name: row.num_train for name, row in settings.datasets.items()}
    assert settings.mixture(sizes).total_steps > 0
    if settings.init_from:
        made = {f"runs/{load(other).name}" for other in CONFIGS} | OTHERS
        assert settings.init_from in made


OTHERS = {
    *("runs/swin_s", "runs/swin_b", "runs/image_swin_s", "runs/image_swin_b"),
    *("runs/video_swin_b", "runs/depth_swin_b", "runs/swin_b-in21k_alone"),
}
"""Made by commands that the text sums up: "and swin_s.py, swin_b.py"."""


def test_every_row_of_an_evaluation_is_in_the_text_with_its_numbers():
    assert len(CONFIGS) > 40
    for row in paper.ROWS:
        assert f"Table {row.table}" in TEXT or f"Tables {row.table}" in TEXT or row.table in "71"
        for value in row.figures.values():
            assert f"{value:.1f}" in TEXT, (row.table, row.dataset, value)
