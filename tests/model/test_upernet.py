"""UPerNet against a plain PyTorch reading of mmsegmentation's, on the same weights."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.core.tree import flatten
from omnivore_jax.model.params import abstract_model, init_params, merge
from omnivore_jax.model.upernet import POOLS, UPerNetSpec, adaptive_mean, resize
from omnivore_jax.model.variants import model_config
from omnivore_jax.weights.torch.names import path_of, to_torch

SPEC = UPerNetSpec(5, channels=64, auxiliary_channels=32)
CONFIG = model_config("tiny")
POOLED = jnp.zeros((1, 1))
"""The feature that a linear head reads; this one does not."""


@cache
def trained():
    """A model whose parameters are all drawn, norms and biases too."""
    params = init_params(CONFIG, {"map": SPEC}, jax.random.key(0))
    rng = np.random.default_rng(0)
    draw = {"scale": lambda x: 1 + 0.3 * x, "bias": lambda x: 0.2 * x, "kernel": lambda x: 0.1 * x}

    def change(path, leaf):
        make = draw.get(path[-1].key, lambda x: 0.1 * x)
        return jnp.asarray(make(rng.standard_normal(leaf.shape)), jnp.float32)

    return jax.tree_util.tree_map_with_path(change, params)


@cache
def outputs():
    """Maps of all stages for an input whose size no stride divides, and the head's scores."""
    model = merge(abstract_model(CONFIG, {"map": SPEC})[0], trained())
    x = np.random.default_rng(1).standard_normal((2, 1, 76, 100, 4)).astype(np.float32)
    names = model.heads["map"].stages
    maps = jax.jit(lambda x: model.features(x, names))(x)
    scores = jax.jit(lambda x: model(x, "map"))(x)
    return {name: np.asarray(maps[name]) for name in names}, scores


def test_scores_equal_those_of_a_plain_pytorch_reading():
    torch = pytest.importorskip("torch")
    from torch.nn import functional as F

    state = {}
    for path, leaf in flatten(trained()["heads"]["map"]).items():
        name, array = to_torch(f"heads.map.{path}", np.asarray(leaf))
        assert path_of(name) == f"heads.map.{path}"
        state[name.removeprefix("heads.map.")] = torch.tensor(array)

    def conv(name, x):
        weight = state[f"{name}.weight"]
        x = F.conv2d(x, weight, padding=weight.shape[-1] // 2)
        norm = state[f"{name}.norm.weight"], state[f"{name}.norm.bias"]
        return F.relu(F.group_norm(x, 32, *norm))

    def up(x, like):
        return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)

    def classify(name, x):
        scores = F.linear(x.movedim(1, -1), state[f"{name}.weight"], state[f"{name}.bias"])
        return scores.numpy()

    maps, scores = outputs()
    planes = []
    for k, x in enumerate(maps.values()):
        norm = state[f"norms.{k}.weight"], state[f"norms.{k}.bias"]
        planes.append(F.layer_norm(torch.tensor(x[:, 0]), x.shape[-1:], *norm).movedim(-1, 1))
    pooled = [F.adaptive_avg_pool2d(planes[3], side) for side in POOLS]
    context = [up(conv(f"pools.{k}", x), planes[3]) for k, x in enumerate(pooled)]
    levels = [conv(f"laterals.{k}", x) for k, x in enumerate(planes[:3])]
    levels.append(conv("bottleneck", torch.cat([planes[3], *context], 1)))
    for k in (3, 2, 1):
        levels[k - 1] = levels[k - 1] + up(levels[k], levels[k - 1])
    smooth = [conv(f"smooths.{k}", x) for k, x in enumerate(levels[:3])] + [levels[3]]
    joined = conv("fusion", torch.cat([up(x, levels[0]) for x in smooth], 1))
    auxiliary = classify("auxiliary_classifier", conv("auxiliary", planes[2]))
    np.testing.assert_allclose(scores.scores, classify("classifier", joined), atol=1e-5, rtol=1e-4)
    np.testing.assert_allclose(scores.auxiliary, auxiliary, atol=1e-5, rtol=1e-4)
    assert scores.scores.shape == (2, 19, 25, 5) and np.std(scores.scores) > 0.01


@pytest.mark.parametrize("size", [(3, 4), (7, 5), (1, 1), (12, 18)])
def test_parts_of_any_map_are_averaged_as_pytorch_does(size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(2).standard_normal((1, *size, 3)).astype(np.float32)
    for side in POOLS:
        ours = adaptive_mean(jnp.asarray(x), side)
        theirs = torch.nn.functional.adaptive_avg_pool2d(torch.tensor(x).movedim(-1, 1), side)
        np.testing.assert_allclose(ours, theirs.movedim(1, -1), atol=1e-6)


@pytest.mark.parametrize("size", [(9, 11), (3, 4)])
def test_maps_are_resized_as_pytorch_does_to_more_and_to_fewer_pixels(size):
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(3).standard_normal((1, 5, 6, 2)).astype(np.float32)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(x).movedim(-1, 1), size, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(resize(jnp.asarray(x), size), theirs.movedim(1, -1), atol=1e-6)


def test_a_sample_is_scored_alike_in_every_batch():
    model = merge(abstract_model(CONFIG, {"map": SPEC})[0], trained())
    maps, scores = outputs()
    alone = {name: jnp.asarray(x[1:]) for name, x in maps.items()}
    again = model.heads["map"].score(POOLED, alone, None, 0.0)
    np.testing.assert_allclose(again.scores[0], scores.scores[1], atol=1e-5)


def test_what_it_cannot_do_is_said():
    model = merge(abstract_model(CONFIG, {"map": SPEC})[0], trained())
    clip = {name: jnp.repeat(x[:1], 2, 1) for name, x in outputs()[0].items()}
    with pytest.raises(ValueError, match="2 steps in time"):
        model.heads["map"].score(POOLED, clip, None, 0.0)
    with pytest.raises(ValueError, match="classes=1; use 2 or more"):
        UPerNetSpec(1)
