import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.noise import child_keys, drop_path_factors, drop_path_rates, dropout
from omnivore_jax.model.params import abstract_model, merge
from tests.params import random_params

KEYS = jax.random.split(jax.random.key(0), 4000)


def test_rates_grow_linearly_over_all_blocks():
    np.testing.assert_allclose(drop_path_rates(0.2, 12)[:3], [0, 0.0182, 0.0364], atol=1e-4)
    assert drop_path_rates(0.2, 12)[-1] == pytest.approx(0.2) and drop_path_rates(0.3, 1) == [0]


def test_branches_are_dropped_at_their_rate_independently_and_keep_their_mean():
    factors = np.asarray(drop_path_factors(KEYS, [0.0, 0.25, 0.5]))
    assert factors.shape == (3, 2, 4000) and (factors[0] == 1).all()
    for block, rate in ((1, 0.25), (2, 0.5)):
        np.testing.assert_allclose(np.unique(factors[block]), [0, 1 / (1 - rate)], rtol=1e-6)
        np.testing.assert_allclose((factors[block] == 0).mean(-1), rate, atol=0.03)
        np.testing.assert_allclose(factors[block].mean(-1), 1, atol=0.06)
    dropped = (factors[1:] == 0).reshape(4, -1)
    assert np.abs(np.corrcoef(dropped) - np.eye(4)).max() < 0.06


def test_dropout_zeroes_at_its_rate_and_keeps_the_mean_of_each_sample_by_its_key():
    x = jnp.ones((4000, 50))
    out = np.asarray(dropout(x, KEYS, 0.2))
    np.testing.assert_allclose(np.unique(out), [0, 1.25])
    assert (out == 0).mean() == pytest.approx(0.2, abs=0.01)
    np.testing.assert_array_equal(out[7:9], dropout(x[7:9], KEYS[7:9], 0.2))
    assert dropout(x, None, 0.2) is x and dropout(x, KEYS, 0.0) is x and child_keys(None, 3) is None


def test_a_dropped_branch_leaves_its_sample_and_a_kept_one_is_scaled():
    config = ModelConfig("one", 8, (2,), (2,), (1, 2, 2), init_std=0.3)
    model = merge(abstract_model(config, {})[0], jax.device_put(random_params(config, {})))
    block = jax.jit(model.trunk.layers[0].blocks[1].__call__)
    x = jax.random.normal(jax.random.key(1), (2, 1, 4, 4, 8))
    out = block(x, drop_path=jnp.array([[0.0, 2.0], [0.0, 0.0]]))
    np.testing.assert_array_equal(out[0], x[0])
    alone = block(x, drop_path=jnp.array([[1.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(out[1] - x[1], 2 * (alone[1] - x[1]), atol=1e-5)


def test_dropout_acts_at_all_its_places_and_only_in_training(monkeypatch):
    config = ModelConfig("one", 8, (2,), (2,), (1, 2, 2), init_std=0.3)
    model = merge(
        abstract_model(config, {"image": 4})[0],
        jax.device_put(random_params(config, {"image": 4})),
    )
    x = jax.random.normal(jax.random.key(1), (2, 1, 16, 16, 3))
    shapes, draw = [], jax.random.bernoulli
    monkeypatch.setattr(
        jax.random, "bernoulli", lambda key, p, shape: shapes.append(shape) or draw(key, p, shape)
    )
    compute = Compute(dropout=0.1)
    jax.eval_shape(lambda x, keys: model(x, keys=keys, compute=compute), x, KEYS[:2])
    block = [
        (4, 2, 4, 4),
        (1, 4, 4, 8),
        (1, 4, 4, 32),
        (1, 4, 4, 8),
    ]  # softmax, projection, GELU, output
    assert shapes == [(1, 4, 4, 8), *block, *block]
    still = jax.jit(lambda x: model(x, compute=compute))
    noisy = jax.jit(lambda x, keys: model(x, keys=keys, compute=compute))
    np.testing.assert_array_equal(still(x), still(x))
    assert not np.allclose(still(x), noisy(x, KEYS[:2]), atol=1e-4)
