import math

import jax
import pytest

from omnivore_jax.model.compute import Compute
from omnivore_jax.model.cost import activation_bytes
from omnivore_jax.model.params import abstract_model
from omnivore_jax.model.variants import model_config
from omnivore_jax.train.estimate import HardwareConfig, Work, elements_per_device, hours, memory
from omnivore_jax.train.mesh import MeshConfig, make_mesh, mesh_shape
from omnivore_jax.train.microbatch import Split
from omnivore_jax.train.state import abstract_state

SWIN_T = model_config("omnivore_swin_t", position_bias="joint")
HEADS = {"image": 1000, "video": 400, "rgbd": 19}
PARAMETERS = 28_945_041  # FACTS 1.3


@pytest.mark.parametrize(
    "config", [MeshConfig(), MeshConfig(2, 4, 1), MeshConfig(2, 2, 2)], ids=str
)
def test_the_estimate_divides_parameters_as_the_shardings_do(config):
    mesh = make_mesh(config)
    state = abstract_state(SWIN_T, HEADS, mesh)
    held = sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(state.params)
    )
    assert elements_per_device(state.params, mesh_shape(config, 8)) == held


def test_memory_of_swin_t_on_one_device_is_twenty_bytes_a_parameter_and_what_its_samples_keep():
    params = abstract_model(SWIN_T, HEADS)[1]
    one = {"data": 1, "fsdp": 1, "tensor": 1}
    found = memory(params, one, Split(1, 64, 64), activation_bytes=10**6, batch_bytes=150_528)
    assert found.total == 20 * PARAMETERS + 64 * 10**6 + 64 * 150_528
    accumulated = memory(params, one, Split(1, 64, 16), activation_bytes=10**6, batch_bytes=150_528)
    assert accumulated.total == found.total + 4 * PARAMETERS - 48 * 10**6


def test_hours_follow_from_flops_by_hand():
    """1.28 M images of 9 GFLOP, three passes, on a chip of 100 TFLOP/s at .3: 1,152 s.

    The same again for clips.
    """
    work = [Work(1_280_000, 9e9, "none"), Work(240_000, 36e9, "block")]
    hardware = HardwareConfig(chips=1, teraflops=100.0, utilisation=0.3)
    assert hours(work, hardware) * 3600 == pytest.approx(1152 + 1152)


@pytest.mark.parametrize(
    "wrong", [{"chips": 0}, {"utilisation": 1.2}, {"memory_gib": 0.0}], ids=str
)
def test_an_impossible_machine_is_named_with_its_remedy(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=.*; use "):
        HardwareConfig(**wrong)


def test_memory_of_a_clip_step_is_what_the_tpu_compiler_reserves():
    """Swin-B, depths 2, 1, 1, 1, two clips at once, blocks recomputed: 4.74 GiB on a v5e."""
    config = model_config("omnivore_swin_b", depths=(2, 1, 1, 1))
    compute = Compute(dtype="bfloat16", remat="block")
    clip = activation_bytes(config, (32, 224, 224), compute)
    params = abstract_model(config, HEADS)[1]
    one = {"data": 1, "fsdp": 1, "tensor": 1}
    pixels = 3 * 32 * 224**2 * 3  # of three batches
    total = memory(params, one, Split(1, 4, 2), activation_bytes=clip, batch_bytes=pixels).total
    assert 0.95 * 4.74 < total / 2**30 < 1.25 * 4.74
