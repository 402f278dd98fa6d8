"""Models of torchvision and timm are the oracle.

Requirements-torch.txt installs them, without it these are skipped.
"""

from dataclasses import replace
from importlib import util

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
if util.find_spec("torchvision") is None:
    pytest.skip("torchvision is not installed", allow_module_level=True)

import omnivore_jax as ov  # noqa: E402
from omnivore_jax.weights.conversion import convert  # noqa: E402
from omnivore_jax.weights.diff import compare, summary  # noqa: E402
from omnivore_jax.weights.opening import open_weights  # noqa: E402
from omnivore_jax.weights.torch.released import write_released  # noqa: E402
from tests.weights.torch.foreign import randomised, torchvision_models  # noqa: E402
from tests.weights.torch.layout_files import PLAIN  # noqa: E402

SHAPES = [(7, 100, 132), (1, 224, 224), (16, 224, 224)]
"""FACTS 2.4, as (t, h, w)."""


@jax.jit
def forward(model, x):
    feature = model.features(x)
    return feature, {name: head(feature) for name, head in model.heads.items()}


def through(model, tmp_path, **request):
    """Saves a model's state dict, converts it and opens the result."""
    torch.save(model.state_dict(), tmp_path / "f.pth")
    job = convert(tmp_path / "f.pth", tmp_path / "w.safetensors", replace(PLAIN, **request))
    return job, ov.load(tmp_path / "w.safetensors").module()


def run(model, shape):
    x = np.random.default_rng(0).standard_normal((1, *shape, 3), np.float32)
    feature, logits = forward(model, jnp.asarray(x))
    return torch.from_numpy(np.moveaxis(x, -1, 1)), np.asarray(feature), logits


def swin3d_features(model, x):
    with torch.no_grad():
        tokens = model.norm(model.features(model.pos_drop(model.patch_embed(x))))
    return tokens.mean((1, 2, 3)).numpy()


@pytest.mark.parametrize(
    ("name", "shape"),
    [("swin3d_t", SHAPES[0])]
    + [pytest.param("swin3d_t", shape, marks=pytest.mark.slow) for shape in SHAPES[1:]]
    + [
        pytest.param(n, shape, marks=pytest.mark.slow)
        for n in ("swin3d_s", "swin3d_b")
        for shape in SHAPES
    ],
)
def test_features_are_those_of_torchvisions_swin3d(tmp_path, name, shape):
    theirs = randomised(getattr(torchvision_models().video, name)(weights=None))
    job, ours = through(theirs, tmp_path)
    assert job.layout == "torchvision Swin 3-D" and job.config.name == name.replace(
        "swin3d", "omnivore_swin"
    )
    assert job.config.window == (8, 7, 7) and job.count("matched") == len(job.rows)
    x, feature, logits = run(ours, shape)
    want = swin3d_features(theirs, x)
    np.testing.assert_allclose(feature, want, rtol=0, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(
            logits["video"], theirs.head(torch.from_numpy(want)), rtol=0, atol=1e-5
        )


@pytest.mark.slow
def test_torchvisions_weights_go_in_and_out_again_without_a_bit_changed(tmp_path):
    theirs = randomised(torchvision_models().video.swin3d_t(weights=None))
    through(theirs, tmp_path)
    write_released(tmp_path / "w.safetensors", tmp_path / "back.torch", PLAIN)
    assert summary(compare(tmp_path / "f.pth", tmp_path / "back.torch")[0]) == "173 equal"
    back = torch.load(tmp_path / "back.torch", weights_only=True)
    for theirs_name, name in {
        "head": "heads.video.1",
        "features.2.1.mlp.3": "trunk.layers.1.blocks.1.mlp.fc2",
    }.items():
        part, _, key = name.partition(".")
        assert torch.equal(back[part][f"{key}.weight"], theirs.get_submodule(theirs_name).weight)


def test_a_static_clip_gives_an_inflated_swin_the_features_of_the_2d_one(tmp_path):
    theirs = randomised(torchvision_models().swin_t(weights=None))
    job, ours = through(theirs, tmp_path)
    assert job.layout == "torchvision Swin 2-D" and job.count("transformed") == 13
    picture = np.random.default_rng(0).standard_normal((1, 1, 224, 224, 3), np.float32)
    feature, logits = forward(ours, jnp.asarray(np.repeat(picture, 2, axis=1)))
    with torch.no_grad():
        want = theirs(torch.from_numpy(picture[:, 0]).permute(0, 3, 1, 2))
    np.testing.assert_allclose(logits["image"], want, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_timms_swin_is_torchvisions_under_other_names(tmp_path):
    timm = pytest.importorskip("timm")
    theirs = randomised(timm.create_model("swin_tiny_patch4_window7_224"))
    job, ours = through(theirs, tmp_path)
    assert job.layout == "timm Swin 2-D" and len(theirs.state_dict()) == 173
    picture = np.random.default_rng(0).standard_normal((1, 1, 224, 224, 3), np.float32)
    _, logits = forward(ours, jnp.asarray(np.repeat(picture, 16, axis=1)))
    with torch.no_grad():
        want = theirs(torch.from_numpy(picture[:, 0]).permute(0, 3, 1, 2))
    np.testing.assert_allclose(logits["image"], want, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_names_of_classes_come_from_the_libraries(tmp_path):
    from omnivore_jax.weights.class_names import class_names

    categories = torchvision_models()._meta
    assert class_names("torchvision", 1000) == categories._IMAGENET_CATEGORIES
    assert class_names("torchvision", 400) == categories._KINETICS400_CATEGORIES
    timm = pytest.importorskip("timm")
    info = timm.data.ImageNetInfo("imagenet-22k")
    assert class_names("timm", 21841) == [info.index_to_description(i) for i in range(21841)]


def test_every_key_of_torchvisions_swin3d_is_known(tmp_path):
    theirs = torchvision_models().video.swin3d_t(weights=None)
    torch.save({"model": theirs.state_dict(), "optimizer": {}, "epoch": 3}, tmp_path / "f")
    source = open_weights(tmp_path / "f")
    assert source.unknown == [] and len(source.arrays) + len(source.buffers) == len(
        theirs.state_dict()
    )
