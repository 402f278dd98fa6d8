"""Rows of joint training, its ablations and its baselines run from their configs."""

import pytest

from tests.rows import CONFIGS, data, load, run_row

__all__ = ["data"]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("config", [text for text in CONFIGS if "transfer" not in text])
def test_a_row_trains_and_is_evaluated(config, data, tmp_path):
    figures = run_row(config, data, tmp_path / "run")
    parts = [name for name, part in load(config).data.items() if hasattr(part, "kind")]
    scored = {figure["name"] for figure in figures["datasets"]}
    assert scored == {name for name in parts if name != "imagenet21k"}  # which has no val split
    assert all(figure["n"] > 0 and 0 <= figure["top1"] <= 1 for figure in figures["datasets"])
