import jax.numpy as jnp
import numpy as np
from omnivore_jax.train.losses import correct_count, cross_entropy_sum
from scipy.special import log_softmax


def test_the_loss_is_scipys_cross_entropy_over_real_samples():
    rng = np.random.default_rng(0)
    logits, targets = (
        rng.normal(0, 9, (5, 7)).astype(np.float32),
        rng.dirichlet(np.ones(7), 5).astype(np.float32),
    )
    mask = np.array([True, True, False, True, False])
    logits[2] = np.nan  # padding may hold anything
    expected = -(targets * log_softmax(logits.astype(np.float64), -1)).sum(-1)[mask].sum()
    found = cross_entropy_sum(jnp.asarray(logits), jnp.asarray(targets), jnp.asarray(mask))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_padding_is_never_counted_as_correct():
    logits = jnp.eye(4)
    correct = correct_count(logits, jnp.array([0, 1, 2, 0]), jnp.array([True, True, False, True]))
    assert int(correct) == 2
