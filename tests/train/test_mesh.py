import jax
import pytest
from jax.sharding import PartitionSpec as P

from omnivore_jax.train.mesh import MeshConfig, describe, make_mesh, mesh_shape, partition_spec

BLOCK = ("params", "trunk", "layers", "0", "blocks", "1")


@pytest.mark.parametrize(
    ("config", "sizes"),
    [
        (MeshConfig(), (8, 1, 1)),
        (MeshConfig(fsdp=4), (2, 4, 1)),
        (MeshConfig(data=2, fsdp=-1, tensor=2), (2, 2, 2)),
        (MeshConfig(8, 1, 1), (8, 1, 1)),
    ],
    ids=str,
)
def test_minus_one_takes_the_devices_that_are_left(config, sizes):
    assert tuple(mesh_shape(config, 8).values()) == sizes
    assert make_mesh(config).shape == dict(zip(("data", "fsdp", "tensor"), sizes, strict=True))
    assert " x ".join(map("{} {}".format, ("data", "fsdp", "tensor"), sizes)) in describe(config, 8)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        (
            MeshConfig(fsdp=3),
            r"mesh.data=-1 x mesh.fsdp=3 x mesh.tensor=1 does not fit the 8 devices; use a product",
        ),
        (
            MeshConfig(2, 2, 1),
            r"mesh.data=2 .* fit the 8 devices; use a product of 8 \(mesh.data=-1: the rest\)",
        ),
        (MeshConfig(4, 4, 1), r"does not fit the 8 devices"),
    ],
)
def test_a_mesh_that_does_not_fit_says_what_would(config, says):
    with pytest.raises(ValueError, match=says):
        mesh_shape(config, 8)


@pytest.mark.parametrize("sizes", [{"fsdp": 0}, {"tensor": -2}, {"fsdp": -1}])
def test_a_size_that_means_nothing_is_refused(sizes):
    with pytest.raises(ValueError, match="; use 1 or more|use -1 for one"):
        MeshConfig(**sizes)


@pytest.mark.parametrize(
    ("path", "shape", "spec"),
    [
        ((*BLOCK, "attn", "qkv", "kernel"), (96, 288), P("fsdp", "tensor")),
        ((*BLOCK, "attn", "qkv", "bias"), (288,), P("tensor")),
        ((*BLOCK, "attn", "proj", "kernel"), (96, 96), P("tensor", "fsdp")),
        ((*BLOCK, "attn", "proj", "bias"), (96,), P(None)),
        ((*BLOCK, "mlp", "fc1", "kernel"), (96, 384), P("fsdp", "tensor")),
        ((*BLOCK, "mlp", "fc2", "kernel"), (384, 96), P("tensor", "fsdp")),
        ((*BLOCK, "norm1", "scale"), (96,), P(None)),
        (("ema", "heads", "image", "kernel"), (768, 1000), P("fsdp", "tensor")),
        (("heads", "rgbd", "kernel"), (768, 19), P("fsdp", None)),
        (
            ("trunk", "patch_embed", "proj", "kernel"),
            (2, 4, 4, 3, 96),
            P(None, None, None, None, "fsdp"),
        ),
        (
            ("trunk", "layers", "0", "downsample", "reduction", "kernel"),
            (384, 192),
            P("fsdp", None),
        ),
        (("opt_state", "trunk", "count"), (), P()),
    ],
    ids=lambda value: (
        ".".join(value[-3:])
        if isinstance(value, tuple) and value and isinstance(value[0], str)
        else ""
    ),
)
def test_where_a_parameter_lives_follows_from_its_path_and_shape(path, shape, spec):
    assert partition_spec(path, shape, {"data": 1, "fsdp": 2, "tensor": 2}) == spec


def test_one_device_gives_a_mesh_too():
    assert make_mesh(MeshConfig(), jax.devices()[:1]).size == 1
