import numpy as np
import pytest

from omnivore_jax.core.types import Batch
from omnivore_jax.model.preprocess import (
    Preprocessing,
    depth_only,
    preprocess,
    standardise,
    to_unit,
)

SPEC = Preprocessing()


def batch(disparity=None):
    rgb = np.full((1, 1, 1, 1, 3), 255, np.uint8) * np.array([0, 1, 1], np.uint8)
    depth = None if disparity is None else np.full((1, 1, 1, 1, 1), disparity, np.float32)
    return Batch(rgb, depth, np.zeros(1, np.int32), np.ones(1, bool))


@pytest.mark.parametrize(("disparity", "unit"), [(-5, 0.000133), (0.5, 0.00667), (100, 1.0)])
def test_disparity_is_clamped_and_divided_as_the_released_code_does(disparity, unit):
    assert float(to_unit(batch(disparity), SPEC)[..., 3].squeeze()) == pytest.approx(unit, rel=5e-3)


def test_missing_depth_comes_out_as_very_near():
    assert float(preprocess(batch(3900.0), SPEC)[..., 3].squeeze()) == pytest.approx(
        32.48, abs=0.01
    )


def test_colours_are_scaled_and_standardised():
    want = [(0 - 0.485) / 0.229, (1 - 0.456) / 0.224, (1 - 0.406) / 0.225]
    np.testing.assert_allclose(preprocess(batch(), SPEC).ravel(), want, rtol=1e-5)


def test_dropped_colours_are_the_mean_colour():
    x = standardise(to_unit(batch(2.0), SPEC), SPEC)
    only = np.asarray(depth_only(x)).ravel()
    assert (only[:3] == 0).all() and only[3] == float(x.ravel()[3]) != 0


def test_statistics_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="must be above 0"):
        Preprocessing(std=(0.2, 0.0, 0.2))
    with pytest.raises(ValueError, match="disparity_max=0.0; use a number above"):
        Preprocessing(disparity_max=0.0)
