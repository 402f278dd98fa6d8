import chex
import jax
import numpy as np
import pytest

import omnivore_jax as ov
from omnivore_jax.model import compiled
from omnivore_jax.model.compute import Compute

HEADS = {"image": 5, "video": 3}
MODEL = ov.create_model("demo", HEADS, seed=3, depths=(1,), num_heads=(2,), embed_dim=8)
X = np.random.default_rng(0).standard_normal((2, 3, 16, 16, 3), np.float32)


def test_calls_are_those_of_the_module_and_compile_once_a_shape(monkeypatch):
    traces = []
    merge = compiled.merge
    monkeypatch.setattr(compiled, "merge", lambda *a: traces.append(1) or merge(*a))
    first, again = MODEL(X, head="video"), MODEL(2 * X, head="video")
    assert len(traces) == 1 and first.shape == (2, 3) and not np.allclose(first, again)
    MODEL(X[:1], head="video")
    assert len(traces) == 2
    maps = MODEL.features(X, ("last", "premerge0"))
    MODEL.features(X, ["last", "premerge0"])
    assert len(traces) == 3
    module = MODEL.module()
    scores = jax.jit(lambda x: module(x, "video"))(X)
    np.testing.assert_allclose(first, scores, atol=1e-6)
    np.testing.assert_allclose(MODEL.features(X), maps["last"].mean((1, 2, 3)), atol=1e-6)


def test_how_it_is_run_changes_neither_parameters_nor_what_they_mean():
    narrow = ov.create_model(
        "demo", HEADS, seed=3, depths=(1,), num_heads=(2,), embed_dim=8,
        compute=Compute(dtype="bfloat16"),
    )  # fmt: skip
    assert narrow.config == MODEL.config
    chex.assert_trees_all_equal(narrow.params, MODEL.params)
    difference = np.abs(narrow.features(X) - MODEL.features(X)).max()
    assert 0 < difference < 0.1


def test_a_wrong_call_is_named_with_its_remedy():
    with pytest.raises(ValueError, match="head='audio' is not in this model; use one of image"):
        MODEL(X, head="audio")
    with pytest.raises(ValueError, match="windw=1 is not a field of a model"):
        ov.create_model("demo", HEADS, windw=1)
