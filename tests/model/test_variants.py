import math
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.core.tree import flatten
from omnivore_jax.model.attention.base import Device
from omnivore_jax.model.compute import Compute, Remat
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.cost import activation_bytes, flops, layout, parameter_count
from omnivore_jax.model.params import abstract_model, init_params, merge
from omnivore_jax.model.variants import HUB_NAMES, list_models, model_config

XLA = Compute(attention="xla")
HEADS = {"image": 1000, "rgbd": 19, "video": 400}
INPUTS = {"image": (2, 1, 224, 224, 3), "video": (1, 32, 224, 224, 3), "rgbd": (2, 1, 224, 224, 4)}
COUNTS = {  # FACTS 1.3 and 1.5: trunk and total, joint, then factored
    "omnivore_swin_t": (27_853_830, 28_945_041, 27_529_392, 28_620_603),
    "omnivore_swin_s": (49_512_438, 50_603_649, 48_849_456, 49_940_667),
    "omnivore_swin_b": (88_660_168, 90_114_643, 86_765_504, 88_219_979),
    "omnivore_swin_l": (196_345_836, 198_526_839, 195_019_872, 197_200_875),
}
GMACS = {  # FINDINGS, performance: image, RGB-D, 8, 16 and 32 frames
    "omnivore_swin_t": (4.51, 4.51, 19.7, 43.9, 87.8),
    "omnivore_swin_s": (8.76, 8.76, 37.8, 82.8, 165.7),
    "omnivore_swin_b": (15.45, 15.46, 65.5, 140.7, 320.4),
    "omnivore_swin_l": (34.50, 34.52, 143.5, 301.6, 603.3),
}


@pytest.mark.parametrize("variant", COUNTS)
def test_parameter_counts_are_those_of_the_released_models(variant):
    counts = [
        parameter_count(model_config(variant, position_bias=form), HEADS)
        for form in ("joint", "factored")
    ]
    assert tuple(c[part] for c in counts for part in ("trunk", "total")) == COUNTS[variant]
    trunk = abstract_model(model_config(variant, position_bias="joint"), HEADS)[1]["trunk"]
    assert len(flatten(trunk)) == (175 if variant == "omnivore_swin_t" else 331)


def test_counts_of_the_parts_of_swin_t():
    flat = flatten(abstract_model(model_config("omnivore_swin_t", position_bias="joint"), HEADS)[1])
    size = {path: math.prod(leaf.shape) for path, leaf in flat.items()}
    assert sum(n for path, n in size.items() if path.startswith("trunk.patch_embed")) == 9_504
    assert sum(n for path, n in size.items() if path.startswith("trunk.depth_patch_embed")) == 3_360
    assert sum(n for path, n in size.items() if "relative_position_bias_table" in path) == 349_830
    assert sum(n for path, n in size.items() if path.startswith("heads.rgbd")) == 14_611


@pytest.mark.parametrize("variant", GMACS)
def test_arithmetic_is_within_one_percent_of_the_profiled(variant):
    sizes = [
        ((1, 224, 224), 3),
        ((1, 224, 224), 4),
        ((8, 224, 224), 3),
        ((16, 224, 224), 3),
        ((32, 224, 224), 3),
    ]
    found = [flops(model_config(variant), size, channels) / 2e9 for size, channels in sizes]
    np.testing.assert_allclose(found, GMACS[variant], rtol=0.01)


@pytest.mark.parametrize("variant", list_models())
@pytest.mark.parametrize("modality", INPUTS)
def test_every_variant_takes_every_modality(variant, modality):
    config = model_config(variant)
    graphdef, params = abstract_model(config, HEADS)
    x = jax.ShapeDtypeStruct(INPUTS[modality], jnp.float32)
    names = ("last", *(f"premerge{i}" for i in range(len(config.depths))))

    def both(params, x):  # what the model's calls do, in one pass
        model = merge(graphdef, params)
        feature, maps = model.trunk(x, stages=names)
        return model.heads[modality](feature), maps

    logits, maps = jax.eval_shape(both, params, x)
    assert (logits.shape, logits.dtype) == ((x.shape[0], HEADS[modality]), jnp.float32)
    stages = layout(config, x.shape[1:4])
    assert [maps[f"premerge{i}"].shape[1:] for i in range(len(stages))] == [
        (*s.size, s.channels) for s in stages
    ]
    assert maps["last"].shape[-1] == config.feature_dim


def test_layout_of_the_paper_s_inputs():
    image, video = (layout(model_config("omnivore_swin_t"), (t, 224, 224)) for t in (1, 32))
    assert [s.size for s in image] == [(1, 56, 56), (1, 28, 28), (1, 14, 14), (1, 7, 7)]
    assert [s.windows for s in image] == [64, 16, 4, 1] and [s.shift for s in image] == [
        (0, 3, 3)
    ] * 3 + [(0, 0, 0)]
    assert [s.shift for s in video] == [(4, 3, 3)] * 3 + [(4, 0, 0)] and video[
        0
    ].window_tokens == 392
    base = layout(model_config("omnivore_swin_b"), (32, 224, 224))
    assert [s.shift for s in base] == [(0, 3, 3)] * 3 + [(0, 0, 0)] and base[0].window == (16, 7, 7)


def test_recomputing_keeps_less():
    config, size = model_config("omnivore_swin_t"), (32, 224, 224)
    kept = [activation_bytes(config, size, Compute(remat=r)) for r in get_args(Remat)]
    assert kept[0] > kept[1] > kept[2] > 0


def test_the_tiles_of_a_tpu_take_more_and_bfloat16_less():
    config, size = model_config("omnivore_swin_t"), (1, 224, 224)
    narrow = Compute(dtype="bfloat16", attention="xla")
    whole, plain = (activation_bytes(config, size, XLA, Device(name)) for name in ("tpu", "cpu"))
    assert whole > plain > activation_bytes(config, size, narrow, Device("cpu"))


def test_activations_of_one_block_without_tiles_by_hand():
    """One window of 4 tokens, 8 channels, 2 heads, float32, one block, nothing computed again."""
    config = ModelConfig("one", 8, (1,), (2,), (1, 2, 2), patch=(1, 1, 1))
    tokens, maps = 4 * 4 * 8, 2 * 4 * 2 * 16  # maps stand there twice
    kept = (2 + 2 + 3 + 9 + 1) * tokens + maps
    ours = activation_bytes(config, (1, 2, 2), XLA, Device("cpu"))
    assert ours == kept + max(maps, 3 * tokens, 8 * tokens)


def test_fused_attention_keeps_no_maps():
    config, size = model_config("omnivore_swin_b"), (32, 224, 224)
    plain, fused = (
        activation_bytes(config, size, Compute("bfloat16", attention=name, remat="block"))
        for name in ("xla", "pallas_tpu")
    )
    assert fused < plain / 4
    with pytest.raises(ValueError, match="cannot serve: it is written for TPUs"):
        activation_bytes(config, size, Compute(attention="pallas_tpu"), Device("gpu"))


def test_names_of_the_hub_are_accepted_and_unknown_ones_named():
    for name, (variant, _) in HUB_NAMES.items():
        assert model_config(name).name == variant
    assert model_config("omnivore_swinB_epic").depth_embed == "none"
    with pytest.raises(ValueError, match="'swin_x' is not known; use one of omnivore_swin_t"):
        model_config("swin_x")
    with pytest.raises(ValueError, match="windw=.* is not a field"):
        model_config("tiny", windw=(1, 1, 1))
    with pytest.raises(ValueError, match="5 does not divide width 24"):
        model_config("tiny", num_heads=(5, 2, 4, 8))


def test_the_demo_is_as_small_as_reported():
    assert (
        parameter_count(model_config("demo"), {"image": 10, "video": 30, "rgbd": 10})["total"]
        == 145_606
    )


def drawn(config, heads):
    return jax.jit(lambda key: init_params(config, heads, key))(jax.random.key(0))


def test_initial_distributions_are_those_of_the_released_code():
    config = ModelConfig("wide", 96, (1, 1), (3, 6), (8, 7, 7), position_bias="joint")
    flat = {p: np.asarray(v) for p, v in flatten(drawn(config, {"image": 400})).items()}
    for path, bound in (("trunk.patch_embed", 0.10206), ("trunk.depth_patch_embed", 0.17678)):
        for leaf in ("kernel", "bias"):
            values = flat.pop(f"{path}.proj.{leaf}")
            assert bound * 0.9 < np.abs(values).max() <= bound and abs(values.mean()) < 0.2 * bound
            assert values.std() == pytest.approx(bound / 3**0.5, rel=0.15)  # uniform
    for path, values in flat.items():
        leaf = path.rpartition(".")[2]
        if leaf in ("bias", "scale"):
            assert (values == (leaf == "scale")).all(), path
            continue
        std = 0.01 if path.startswith("heads") else 0.02
        assert values.std() == pytest.approx(std, rel=0.03), path
        assert abs(values.mean()) < 5 * std / values.size**0.5, path
        assert np.abs(values).max() > 3 * std, path  # not cut off at two deviations


def test_weights_of_the_demo_start_wider():
    flat = flatten(drawn(model_config("demo"), {"image": 10}))
    for layer in (
        "layers.0.blocks.1.attn.qkv.kernel",
        "layers.0.blocks.1.attn.relative_position_bias_table.joint",
    ):
        assert float(flat[f"trunk.{layer}"].std()) == pytest.approx(0.15, rel=0.05)
    assert float(flat["heads.image.kernel"].std()) == pytest.approx(0.01, rel=0.1)
