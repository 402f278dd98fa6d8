"""Swins of Hugging Face transformers and MMPretrain, from golden arrays that they computed."""

from pathlib import Path

import numpy as np
import pytest

import omnivore_jax as ov
from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.conversion import convert
from omnivore_jax.weights.opening import open_weights
from tests.weights.torch import layout_files
from tests.weights.torch.layout_files import PLAIN

GOLDEN = Path(__file__).parents[2] / "golden"
TITLES = {
    "transformers": "Hugging Face transformers Swin 2-D",
    "mmpretrain": "MMPretrain Swin 2-D",
}


def golden(library):
    """The state dict, the input [b, c, h, w] and the logits."""
    with np.load(GOLDEN / f"{library}_swin.npz") as file:
        state = {k.removeprefix("state/"): file[k] for k in file.files if k.startswith("state/")}
        return state, file["x"], file["logits"]


@pytest.mark.parametrize("library", TITLES)
def test_logits_are_those_of_the_library(tmp_path, library):
    state, x, logits = golden(library)
    job = convert(layout_files.save(tmp_path / "f", state), tmp_path / "w.safetensors", PLAIN)
    assert job.layout == TITLES[library] and job.count("unused") == 0
    assert job.heads == {"image": 5} and job.config.depths == (1, 2, 1)
    rules = " ".join(row.rule for row in job.rows)
    said = {"transformers": "3 tensors joined", "mmpretrain": "from the order of nn.Unfold"}
    assert said[library] in rules
    picture = np.moveaxis(x, 1, -1)[:, None]
    model = ov.load(tmp_path / "w.safetensors")
    found = model(np.repeat(picture, 2, axis=1), "image")  # a clip that stands still
    np.testing.assert_allclose(found, logits, rtol=0, atol=1e-5)


def test_projections_that_lack_a_third_or_do_not_fit_are_refused(tmp_path):
    state, _, _ = golden("transformers")
    key = "swin.encoder.layers.0.blocks.0.attention.self.key.weight"
    path = tmp_path / "f"
    layout_files.save(path, {k: v for k, v in state.items() if k != key})
    with pytest.raises(UserError, match="lacks .*qkv.kernel"):
        convert(path, tmp_path / "w.safetensors", PLAIN)
    layout_files.save(path, state | {key: np.zeros((7, 8), np.float32)})
    with pytest.raises(UserError, match="are to be joined .* but their shapes"):
        open_weights(path)


@pytest.mark.parametrize("library", TITLES)
def test_keys_of_these_libraries_that_nobody_knows_are_refused(tmp_path, library):
    state, _, _ = golden(library)
    trunk = {"transformers": "swin.", "mmpretrain": "backbone."}[library]
    extra = {f"{trunk}embeddings.mask_token": np.zeros((1, 1, 8), np.float32)}
    path = layout_files.save(tmp_path / "f", state | extra)
    with pytest.raises(UserError, match="has, unused, .*mask_token"):
        convert(path, tmp_path / "w.safetensors", PLAIN)


COUNTERS = {
    "n_averaged": np.int64(3),
    "ema_state_dict.steps": np.int64(7),
    "ema.num_updates": np.int64(7),
    "callbacks.EarlyStopping{'monitor': 'val/acc'}.best_score": np.float32(0.5),
    "callbacks.Kept.means": np.zeros((3, 4), np.float32),
    "pytorch-lightning_version.x": np.zeros(3, np.float32),
}


def test_counters_of_averages_and_tensors_of_callbacks_are_the_trainers(tmp_path):
    averaged = layout_files.renamed(layout_files.released(), (r"^", "module."))
    source = open_weights(layout_files.save(tmp_path / "f", averaged | COUNTERS))
    assert sorted(source.training) == sorted(COUNTERS) and source.unknown == []


@pytest.mark.parametrize(
    ("key", "shape"),
    [
        ("module.trunk.n_averaged", ()),
        ("module.trunk.callbacks.weight", (3,)),
        ("n_averaged", (2,)),
        ("weights.scale", ()),
        ("module.trunk.layers.0.blocks.0.attn.steps", (1,)),
    ],
)
def test_what_only_looks_like_a_trainers_is_refused(tmp_path, key, shape):
    averaged = layout_files.renamed(layout_files.released(), (r"^", "module."))
    path = layout_files.save(tmp_path / "f", averaged | {key: np.zeros(shape, np.float32)})
    with pytest.raises(UserError, match="has, unused, .*; permit it by"):
        convert(path, tmp_path / "w.safetensors", PLAIN)
