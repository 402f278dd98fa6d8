import pytest

from omnivore_jax.data.feeding import feeding


def test_a_clip_costs_by_its_frames_and_cores_add_up():
    assert feeding("video", 32, 1).cpu_seconds == pytest.approx(0.076)
    assert feeding("video", 16, 8).samples_per_second == pytest.approx(8 / 0.038)
    assert feeding("image", 1, 112).samples_per_second == pytest.approx(20_000)
    assert feeding("rgbd", 1, 1) == feeding("image", 1, 1)
