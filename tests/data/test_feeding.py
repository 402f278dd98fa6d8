import pytest

from omnivore_jax.data.feeding import feeding


def test_a_clip_costs_by_its_frames_and_cores_add_up():
    assert feeding("video", 32, 1).cpu_seconds == pytest.approx(0.092)
    assert feeding("video", 16, 8).samples_per_second == pytest.approx(8 / 0.046)
    assert feeding("image", 1, 116).samples_per_second == pytest.approx(20_000)
    assert feeding("rgbd", 1, 1).cpu_seconds > feeding("image", 1, 1).cpu_seconds
