import cv2
import numpy as np
import pytest

from omnivore_jax.model.position_bias import offset_rows
from omnivore_jax.weights.bias_forms import (
    factored_tables,
    joint_table,
    lost,
    resize_bicubic,
    resize_table,
)

WINDOW = (3, 2, 4)
ROWS = (5, 3, 7)


def table(*shape):
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_bicubic_has_the_impulse_response_of_pytorch():
    impulse = np.zeros((1, 13, 13, 1), np.float32)
    impulse[0, 6, 6] = 1
    row = resize_bicubic(impulse, (23, 13))[0, :, 6, 0]
    np.testing.assert_allclose(
        row[[10, 9, 8]], [0.5069, -0.07397, -0.04833], atol=5e-5
    )  # FACTS 2.2
    np.testing.assert_allclose(row, row[::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new"), [((13, 13), (23, 23)), ((13, 9), (7, 11)), ((5, 5), (1, 3))]
)
def test_bicubic_is_that_of_opencv(old, new):
    x = table(*old, 3)
    want = cv2.resize(
        x, new[::-1], interpolation=cv2.INTER_CUBIC
    )  # also a = -0.75, half pixels, borders repeated
    np.testing.assert_allclose(resize_bicubic(x[None], new)[0], want, atol=2e-5)


def test_a_factored_bias_has_an_exact_joint_table_and_comes_back_from_it():
    spatial, temporal = table(21, 2), table(5, 2)
    joint = joint_table(spatial, temporal)
    for d in range(5):
        np.testing.assert_array_equal(joint[d * 21 : (d + 1) * 21], spatial + temporal[d])
    back = factored_tables(joint, WINDOW)
    np.testing.assert_allclose(joint_table(*back), joint, atol=1e-6)
    assert lost(joint, *back) < 1e-6


def test_the_way_back_is_the_least_squares_solution():
    joint = table(105, 2)
    design = np.concatenate([np.tile(np.eye(21), (5, 1)), np.repeat(np.eye(5), 21, axis=0)], axis=1)
    best = design @ np.linalg.lstsq(design, joint, rcond=None)[0]
    found = factored_tables(joint, WINDOW)
    np.testing.assert_allclose(joint_table(*found), best, atol=1e-6)
    residual = np.linalg.norm(joint - best) / np.linalg.norm(joint)
    assert lost(joint, *found) == pytest.approx(residual, rel=1e-5)
    assert lost(joint, *factored_tables(joint, WINDOW, "image")) > residual


def test_the_way_back_can_keep_the_bias_within_a_frame():
    joint = table(105, 2)
    kept = joint_table(*factored_tables(joint, WINDOW, "image"))
    still = offset_rows(WINDOW, (1, 2, 4))
    np.testing.assert_array_equal(kept[still], joint[still])
    assert not np.array_equal(joint_table(*factored_tables(joint, WINDOW))[still], joint[still])


def test_a_2d_table_is_repeated_whole_for_every_offset_in_time():
    flat = table(21, 2)
    np.testing.assert_array_equal(resize_table(flat, (1, 2, 4), WINDOW), np.tile(flat, (5, 1)))


@pytest.mark.parametrize("frames", [2, 3, 6])
def test_offsets_in_time_that_both_windows_have_keep_their_rows(frames):
    old, new = table(105, 2), (frames, 2, 4)
    found = resize_table(old, WINDOW, new)
    both = (min(frames, 3), 2, 4)
    np.testing.assert_array_equal(found[offset_rows(new, both)], old[offset_rows(WINDOW, both)])
    if frames == 6:
        np.testing.assert_array_equal(found.reshape(11, 21, 2)[0], old.reshape(5, 21, 2)[0])


def test_a_wider_window_stretches_every_frame_by_itself():
    old = table(105, 2)
    found = resize_table(old, WINDOW, (3, 4, 5)).reshape(5, 7, 9, 2)
    want = [
        cv2.resize(frame, (9, 7), interpolation=cv2.INTER_CUBIC)
        for frame in old.reshape(5, 3, 7, 2)
    ]
    np.testing.assert_allclose(found, want, atol=2e-5)
