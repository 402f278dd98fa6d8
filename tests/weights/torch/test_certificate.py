"""Certificates where PyTorch is missing, and the inputs that they rest on."""

import sys

import pytest

from omnivore_jax.model.variants import list_models, model_config
from omnivore_jax.model.window import window_grid
from omnivore_jax.weights.torch.certificate import has_torch, lines, make_inputs, not_run


def test_without_pytorch_it_says_that_it_was_not_run(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # makes its import fail
    assert not has_torch()
    assert not_run({}) == {"status": "not run: torch missing"}
    assert lines(not_run({})) == ["certificate: not run: torch missing"]


@pytest.mark.parametrize("name", list_models())
def test_in_every_variant_windows_shift_are_filled_up_and_are_clamped(name):
    config = model_config(name)
    grids = {}
    for kind, x in make_inputs(config).items():
        t, h, w = (
            -(-size // patch) for size, patch in zip(x.shape[1:4], config.patch, strict=True)
        )
        grids[kind] = window_grid((t, h, w), config.window, shifted=True)
    assert grids["image"].shift[0] == 0 and all(grids["image"].shift[1:])
    assert all(grids["video"].shift) and grids["video"].padded != grids["video"].size
    assert all(s < w for s, w in zip(grids["small"].size, config.window, strict=True))
    assert {x.shape[-1] for x in make_inputs(config).values()} == {3, 4}
    assert any(x.shape[2] % config.patch[1] for x in make_inputs(config).values())


def test_the_inputs_are_the_same_every_time_and_have_no_depth_where_the_model_has_none():
    config = model_config("tiny", depth_embed="none")
    one, other = make_inputs(config), make_inputs(config)
    assert "rgbd" not in one
    assert all((one[name] == other[name]).all() for name in one)
