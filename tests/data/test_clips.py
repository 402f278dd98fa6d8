import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivore_jax.data import clips


def test_two_seconds_at_30_frames_a_second_give_32_frames_with_both_ends():
    times = np.arange(300) / 30
    picked = clips.by_seconds(times, 32, 2.0, 0.0)
    assert picked[0] == 0 and picked[-1] == 59 and len(picked) == 32
    assert np.array_equal(picked, [59 * k // 31 for k in range(32)])
    assert clips.by_seconds(times, 32, 2.0, 1.0)[[0, -1]].tolist() == [240, 299]
    assert clips.by_seconds(times, 32, 2.0, 0.5)[[0, -1]].tolist() == [120, 179]


def test_seconds_count_time_not_frames_where_the_rate_varies():
    times = np.concatenate([np.arange(10) * 0.5, 5 + np.arange(100) * 0.05])
    assert set(clips.by_seconds(times, 4, 2.0, 0.0)) == {0, 1, 2, 3}
    assert set(clips.by_seconds(times, 40, 2.0, 1.0)) == set(
        range(71, 110)
    )  # 8.04 s on: a frame lasts .09 s on average


def test_a_video_shorter_than_the_clip_is_taken_whole_and_repeats_frames():
    assert clips.by_seconds(np.arange(4) / 30, 8, 2.0, 0.7).tolist() == [0, 0, 0, 1, 1, 2, 2, 3]
    assert clips.by_seconds(np.zeros(1), 3, 2.0, 0.7).tolist() == [0, 0, 0]


def test_32_frames_at_stride_2_span_64_frames_anywhere_in_the_video():
    starts = {int(clips.by_stride(300, 32, 2, where)[0]) for where in np.linspace(0, 1, 2001)}
    assert starts == set(range(300 - 64 + 1))
    assert clips.by_stride(300, 32, 2, 0.0).tolist() == list(range(0, 64, 2))


def test_frames_beyond_the_end_of_a_short_video_wrap():
    assert clips.by_stride(5, 4, 2, 0.9).tolist() == [0, 2, 4, 1]
    assert clips.video_swin_views(50)[3].tolist() == [2 * k % 50 for k in range(32)]


def test_middles_of_32_segments_are_those_of_the_released_epic_evaluation():
    edges = [round(i * 299 / 32) for i in range(33)]  # FACTS 5, Python's rounding
    assert clips.by_segments(300, 32).tolist() == [
        (a + b) // 2 for a, b in zip(edges, edges[1:], strict=False)
    ]


def test_random_segments_hold_one_frame_each():
    picked = np.stack(
        [clips.by_segments(320, 32, np.random.default_rng(seed)) for seed in range(200)]
    )
    edges = np.round(np.arange(33) * 319 / 32)
    assert (picked >= edges[:-1]).all() and (picked <= edges[1:]).all()
    assert len(set(picked[:, 7])) == edges[8] - edges[7] + 1


def test_the_papers_four_clips_cover_the_first_ten_seconds():
    views = clips.paper_views(np.arange(450) / 30)  # 15 s
    samples = [int(x) for x in np.linspace(0, 299, 160)]
    assert [view.tolist() for view in views] == [samples[s : s + 32] for s in (0, 40, 80, 120)]


def test_video_swins_four_clips_start_in_the_middles_of_quarters():
    assert [int(view[0]) for view in clips.video_swin_views(300)] == [
        int((k + 0.5) * 237 / 4) for k in range(4)
    ]


@given(
    n=st.integers(1, 400),
    frames=st.integers(1, 40),
    stride=st.integers(1, 8),
    where=st.floats(0, 1),
)
def test_every_clip_lies_in_the_video_in_order_of_time_unless_it_wraps(n, frames, stride, where):
    for picked in (
        clips.by_seconds(np.arange(n) / 25, frames, 2.0, where),
        clips.by_stride(n, frames, stride, where),
        clips.by_segments(n, frames),
        *clips.paper_views(np.arange(n) / 25),
    ):
        assert picked.min() >= 0 and picked.max() < n
        assert (np.diff(picked) >= 0).all() or frames * stride > n
    assert len(clips.by_segments(n, frames)) == frames


@pytest.mark.parametrize("where", [0.0, 0.3, 1.0])
def test_a_clip_without_a_frame_in_its_stretch_takes_the_nearest(where):
    assert set(clips.by_seconds(np.array([0.0, 30.0, 60.0]), 2, 2.0, where)) <= {0, 1, 2}


@pytest.mark.parametrize("frames", [1, 2, 4, 8, 16, 32])
def test_shorter_clips_are_as_many_more_and_cover_the_video_alike(frames):
    """Figure 5: 128 frames of a video whatever their length, at the same rate, over its 10 s."""
    count = 128 // frames
    views = clips.paper_views(np.arange(300) / 30, frames, count)
    assert len(views) == count and {len(view) for view in views} == {frames}
    whole = np.concatenate(views)
    assert whole[0] == 0 and whole[-1] > 270 and len(np.unique(whole)) == 128
    if frames > 1:  # every second frame or so of 30 a second
        steps = np.concatenate([np.diff(view) for view in views])
        assert set(steps) <= {1, 2}
