import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omnivore_jax.core.tree import flatten
from omnivore_jax.model.params import abstract_model
from omnivore_jax.model.variants import model_config
from omnivore_jax.weights.torch.names import from_torch, layout, path_of, to_torch, torch_name

HEADS = {"image": 1000, "rgbd": 19, "video": 400}
TRAJECTORY = Path(__file__).parents[2] / "golden" / "tiny_trajectory.npz"


def shapes(name, **overrides):
    return flatten(abstract_model(model_config(name, **overrides), HEADS)[1])


def test_names_are_those_of_the_released_state_dict():
    """The oracle lists the parameters of the released tiny model, in its order."""
    with np.load(TRAJECTORY) as file:
        released = json.loads(str(file["__meta__"]))["names"]
    ours = shapes("tiny", position_bias="joint")
    assert sorted(map(torch_name, ours)) == sorted(released)
    assert [torch_name(path_of(name)) for name in released] == released


@pytest.mark.parametrize(
    ("path", "shape", "name", "released"),
    [
        (
            "trunk.patch_embed.proj.kernel",
            (2, 4, 4, 3, 96),
            "trunk.patch_embed.proj.weight",
            (96, 3, 2, 4, 4),
        ),
        (
            "trunk.layers.1.blocks.0.attn.qkv.kernel",
            (192, 576),
            "trunk.layers.1.blocks.0.attn.qkv.weight",
            (576, 192),
        ),
        (
            "trunk.layers.0.downsample.norm.scale",
            (384,),
            "trunk.layers.0.downsample.norm.weight",
            (384,),
        ),
        ("trunk.norm.bias", (768,), "trunk.norm.bias", (768,)),
        (
            "trunk.layers.0.blocks.0.attn.relative_position_bias_table.joint",
            (2535, 3),
            "trunk.layers.0.blocks.0.attn.relative_position_bias_table",
            (2535, 3),
        ),
        ("heads.video.kernel", (768, 400), "heads.video.1.weight", (400, 768)),
        ("heads.rgbd.bias", (19,), "heads.rgbd.bias", (19,)),
    ],
)
def test_keys_and_shapes_of_the_released_swin_t(path, shape, name, released):
    assert shapes("omnivore_swin_t", position_bias="joint")[path].shape == shape
    found, array = to_torch(path, np.zeros(shape, np.float32))
    assert (found, array.shape) == (name, released)


@pytest.mark.parametrize(
    "options",
    [
        {"depth_embed": d, "position_bias": b}
        for d in ("summed", "separate", "shared")
        for b in ("joint", "factored")
    ],
    ids=str,
)
def test_the_table_is_a_bijection(options):
    rng = np.random.default_rng(0)
    names = set()
    for path, leaf in shapes("tiny", **options).items():
        array = rng.standard_normal(leaf.shape).astype(np.float32)
        name, there = to_torch(path, array)
        back, again = from_torch(name, there)
        assert back == path and np.array_equal(again, array)
        names.add(name)
    assert len(names) == len(shapes("tiny", **options))


def test_ablations_have_the_names_of_the_released_code():
    assert (
        torch_name("trunk.patch_embed.var_proj.0.kernel") == "trunk.patch_embed.var_proj.0.weight"
    )
    assert shapes("tiny", depth_embed="separate")["trunk.depth_patch_embed.proj.kernel"].shape == (
        2,
        4,
        4,
        4,
        24,
    )


def test_elements_move_where_a_transposition_moves_them():
    kernel = np.arange(2 * 4 * 4 * 3 * 5).reshape(2, 4, 4, 3, 5)
    _, there = to_torch("trunk.patch_embed.proj.kernel", kernel)
    assert there[4, 2, 1, 3, 0] == kernel[1, 3, 0, 2, 4]
    assert (
        layout("trunk.patch_embed.proj.kernel", 5) == "convolution"
        and layout("trunk.norm.scale", 1) == "same"
    )


def test_buffers_are_no_parameters():
    buffer = "trunk.layers.0.blocks.0.attn.relative_position_index"
    with pytest.raises(ValueError, match="not a parameter of the released model"):
        path_of(buffer)


@pytest.mark.parametrize(
    "name", ["heads.video.weight", "heads.video.0.weight", "weight", "trunk.norm.gamma"]
)
def test_names_that_the_released_model_does_not_have_are_refused(name):
    with pytest.raises(ValueError, match="not a parameter of the released model"):
        path_of(name)


@pytest.mark.parametrize(
    "path", ["trunk.norm.kernel", "trunk.fc1.scale", "kernel", "trunk.norm.value"]
)
def test_paths_that_our_model_does_not_have_are_refused(path):
    with pytest.raises(ValueError, match="not the path of a parameter"):
        torch_name(path)


def test_the_table_needs_numpy_alone():
    code = (
        "import sys, omnivore_jax.weights.torch.names; "
        "print({'jax', 'flax', 'torch', 'orbax'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_head_may_be_called_what_a_norm_is_called():
    assert (
        torch_name("heads.norm.kernel") == "heads.norm.weight"
        and path_of("heads.norm1.weight") == "heads.norm1.kernel"
    )
