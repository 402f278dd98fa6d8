import jax
import numpy as np
import pytest

from omnivore_jax.model.position_bias import FactoredBias, JointBias, offset_rows
from omnivore_jax.weights.bias_forms import joint_table

KEY = jax.random.key(0)


def test_rows_of_the_released_index():
    rows = offset_rows((8, 7, 7), (8, 7, 7))
    assert rows.shape == (392, 392) and set(np.diag(rows)) == {1267}
    still = offset_rows((8, 7, 7), (1, 7, 7))
    assert (still.min(), still.max()) == (1183, 1351)
    assert offset_rows((16, 7, 7), (16, 7, 7))[0, 0] == 2619


@pytest.mark.parametrize(
    ("window", "same"),
    [
        ((4, 7, 7), True),
        ((1, 4, 7), True),
        ((1, 4, 4), False),
        ((1, 7, 4), False),
        ((2, 4, 7), False),
    ],
    ids=str,
)
def test_where_the_corner_is_the_geometry(window, same):
    rows = [offset_rows((8, 7, 7), window, corner=corner) for corner in (False, True)]
    assert np.array_equal(*rows) is same


def test_a_row_is_that_of_the_offset_query_minus_key():
    """By hand, against operator precedence and the order of the axes.

    Time slowest, width fastest.
    """
    rows, window = offset_rows((4, 5, 3), (2, 5, 3)), (2, 5, 3)
    for query, key in [((0, 0, 0), (1, 4, 2)), ((1, 4, 0), (0, 0, 2)), ((1, 2, 1), (1, 2, 2))]:
        dt, dh, dw = np.subtract(query, key)
        n, m = np.ravel_multi_index(query, window), np.ravel_multi_index(key, window)
        assert rows[n, m] == (dt + 3) * 9 * 5 + (dh + 4) * 5 + (dw + 2)


@pytest.mark.parametrize("window", [(4, 7, 7), (1, 7, 7), (2, 3, 3)], ids=str)
@pytest.mark.parametrize("corner", [False, True])
def test_factored_bias_has_an_exact_joint_form(window, corner):
    factored = FactoredBias((4, 7, 7), heads=2, corner=corner, key=KEY)
    joint = JointBias((4, 7, 7), heads=2, corner=corner, key=KEY)
    joint.joint[...] = joint_table(
        np.asarray(factored.spatial[...]), np.asarray(factored.temporal[...])
    )
    np.testing.assert_array_equal(joint(window), factored(window))


def test_bias_of_a_pair_is_its_spatial_plus_its_temporal_entry():
    bias = FactoredBias((4, 3, 3), heads=2, key=KEY)
    query, key = (1, 0, 2), (3, 1, 0)
    n = np.ravel_multi_index(np.array([query, key]).T, (4, 3, 3))
    dt, dh, dw = np.subtract(query, key)
    by_hand = bias.spatial[(dh + 2) * 5 + dw + 2] + bias.temporal[dt + 3]
    np.testing.assert_allclose(bias((4, 3, 3))[:, n[0], n[1]], by_hand, rtol=1e-6)
