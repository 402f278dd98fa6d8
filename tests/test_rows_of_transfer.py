"""Rows of transfer, of every size, resolution, share and fold, run from their configs."""

import pytest

from omnivore_jax.data import manifest
from tests.rows import CONFIGS, data, load, run_row

__all__ = ["data"]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("config", [text for text in CONFIGS if "transfer" in text])
def test_a_row_trains_and_is_evaluated(config, data, tmp_path):
    figures = run_row(config, data, tmp_path / "run")
    [name] = [name for name, part in load(config).data.items() if hasattr(part, "kind")]
    held_out = manifest.read(data / name).count("val")
    scored = {figure["name"]: figure["n"] for figure in figures["datasets"] + figures["maps"]}
    assert scored == {name: held_out} and held_out > 0
