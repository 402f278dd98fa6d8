import os
import resource

import av
import numpy as np
import pytest

from omnivore_jax.data.decode import Clip, DecodeError
from omnivore_jax.ingest.layouts.base import Media
from omnivore_jax.ingest.layouts.spans import ClipSpan
from tests.ingest.downloads import numbers
from tests.media import CLIPS, clip

RARE = ("hevc", "msmpeg4", "mpeg2", "h264 at 30000/1001")
UNTIMED = "h264 with B-frames in AVI, which cannot time them"


@pytest.fixture
def video(tmp_path):
    def write(name, data=None):
        path = tmp_path / f"video.{CLIPS[name]['format']}"
        path.write_bytes(data or clip(name))
        return path

    return write


def span(path, begin, end):
    """The span of the frames `begin` to before `end`."""
    times = [*Clip(path.read_bytes()).times.tolist(), 99.0]
    return ClipSpan(path, times[begin], times[end])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in RARE))
        for name in CLIPS
        if name != UNTIMED
    ],
)
@pytest.mark.parametrize(("begin", "end"), [(13, 31), (0, 5), (57, 60)])
def test_a_span_holds_exactly_its_frames_at_their_times(video, name, begin, end):
    path = video(name)
    data = span(path, begin, end).read()
    assert numbers(data) == list(range(begin, end))
    times = Clip(path.read_bytes()).times[begin:end]
    assert np.allclose(Clip(data).times, times - times[0], atol=2e-5)


@pytest.mark.parametrize("name", ["h264 of varying rate", "vp9 without a frame count"])
def test_a_span_from_a_key_frame_is_copied_as_it_is(video, name):
    path = video(name)
    packets = [bytes(packet) for packet in packets_of(path) if packet.size]
    data = path.with_name("span.mp4")
    data.write_bytes(span(path, 12, 60).read())
    copies = [bytes(packet) for packet in packets_of(data) if packet.size]
    assert copies[0] == packets[12] and set(copies) <= set(packets) and len(copies) == 48
    again = path.with_name("again.mp4")
    again.write_bytes(span(path, 13, 60).read())
    assert not {bytes(packet) for packet in packets_of(again) if packet.size} & set(packets)


def packets_of(path):
    with av.open(str(path)) as container:
        yield from container.demux(video=0)


def test_bytes_are_the_same_every_time_and_any_place_is_decoded_from_a_key_frame_near(video):
    path = video("h264 with B-frames")
    data = span(path, 1, 60).read()
    assert data == span(path, 1, 60).read()
    path.with_name("span.mp4").write_bytes(data)
    keys = [
        packet.pts
        for packet in packets_of(path.with_name("span.mp4"))
        if packet.is_keyframe and packet.size
    ]
    assert len(keys) == 5


def test_a_video_of_gigabytes_is_not_held(video):
    path = video("h264 with B-frames", clip(n=150))
    os.truncate(path, 3 << 30)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert numbers(ClipSpan(path, 4.0, 4.2).read()) == list(range(100, 105))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # KiB


def test_a_phone_held_upright_gives_spans_that_are_upright(video):
    data = clip()
    at = data.index(b"tkhd") + 44
    turn = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path = video("h264 with B-frames", data[:at] + turn + data[at + 36 :])
    whole = Clip(path.read_bytes())
    assert whole.frames([0]).shape == (1, 128, 96, 3)
    for begin, end in ((0, 60), (5, 20)):
        frames = Clip(span(path, begin, end).read()).frames([0, 3])
        source = whole.frames([begin, begin + 3])
        assert frames.shape == source.shape
        assert np.abs(frames.astype(int) - source).mean() < 4


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [
        (1.0, 1.0, "no frame is shown in this time"),
        (2.0, 1.0, "no frame is shown in this time"),
        (60.0, 61.0, "no frame is shown in this time"),
        (1.001, 1.03, "no frame is shown in this time"),
    ],
)
def test_a_time_in_which_nothing_is_shown_is_named(video, start, end, says):
    path = video("h264 with B-frames")
    with pytest.raises(DecodeError, match=rf"video.mp4 from {start:.2f} to {end:.2f} s: {says}"):
        ClipSpan(path, start, end).read()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"no video\n" * 99, "Invalid data"),
        (b"\x00", "Invalid data"),
        (clip()[: len(clip()) // 2], "Invalid data"),
        (clip(UNTIMED), "does not say when its frames are shown"),
    ],
)
def test_a_video_that_cannot_be_cut_is_named_with_its_time(video, data, says):
    path = video("h264 with B-frames", data)
    with pytest.raises(DecodeError, match=rf"video.mp4 from 0.50 to 1.00 s: .*{says}") as error:
        ClipSpan(path, 0.5, 1.0).read()
    assert "\n" not in str(error.value)


def test_a_span_is_media_and_one_of_no_file_has_no_bytes(video, tmp_path):
    path = video("h264 with B-frames")
    assert isinstance(ClipSpan(path, 0.0, 1.0), Media)
    assert ClipSpan(path, 0.0, 1.0).size() == len(clip())
    missing = ClipSpan(tmp_path / "gone.mp4", 0.0, 1.0)
    assert missing.size() == 0
    with pytest.raises(FileNotFoundError):
        missing.read()
