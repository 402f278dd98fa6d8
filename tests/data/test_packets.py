from pathlib import Path

import numpy as np
import pytest

from omnivore_jax.data.decode import Clip, DecodeError
from omnivore_jax.data.packets import Packets
from tests.fields import clip_of_fields
from tests.media import clip, encode, number

CASES = Path(__file__).parent / "cases"


def case(name: str) -> bytes:
    return (CASES / name).read_bytes()


def numbers(data: bytes) -> list[int]:
    held = Clip(data)
    return [number(frame) for frame in held.frames(range(len(held)))]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("title_not_utf8.avi", range(40)),
        ("size_changes_midway.webm", range(48)),
        ("starts_between_keyframes.ts", range(12, 60)),
        ("starts_between_keyframes.mkv", range(12, 60)),
        ("starts_between_keyframes.mp4", range(12, 60)),
        ("ts_joined_renumbered_swapped.ts", range(100)),
        ("ts_joined_renumbered_shifted.ts", range(100)),
        ("edit_list_mid_group.mp4", range(17, 60)),
        ("packed_b_frames.avi", range(60)),
        ("cover_picture_first.mp4", range(60)),
    ],
)
def test_the_frames_of_a_file_are_those_that_a_player_shows(name, shown):
    held = Clip(case(name))
    assert len(held) == len(shown) == len(held.times)
    assert np.all(np.diff(held.times) > 0.03) and np.all(np.diff(held.times) < 0.05)
    indices = [len(shown) - 1, 0, len(shown) // 2]
    assert [number(frame) for frame in held.frames(indices)] == [shown[k] for k in indices]
    assert numbers(case(name)) == list(shown)


def test_a_recording_with_a_gap_is_refused_for_what_it_is():
    with pytest.raises(DecodeError, match="data are missing at packet 48 of 100"):
        Clip(case("ts_joined_raw_same.ts"))


@pytest.mark.parametrize("format", ["mpegts", "matroska"])
def test_two_fields_in_two_packets_are_one_frame(format):
    greys = list(range(40, 240, 20))
    data = clip_of_fields(format, greys)
    held = Clip(data)
    assert len(Packets(data)) == 20 and Packets(data).times is None
    assert len(held) == 10 and np.allclose(held.times, np.arange(10) / 25)
    seen = held.frames([7, 2])[..., 0].mean((1, 2))
    assert np.abs(seen - (np.array([greys[7], greys[2]]) - 16) * 255 / 219).max() < 2


@pytest.mark.parametrize(("first", "last"), [(50, 59), (20, 25), (0, 3)])
def test_no_more_is_decoded_of_an_ordinary_file_than_from_the_last_key_frame(
    monkeypatch, first, last
):
    frames = []
    decode = Packets.decode

    def counted(self, start, wanted=None):
        for frame in decode(self, start, wanted):
            frames.append(frame.pts)
            yield frame

    monkeypatch.setattr(Packets, "decode", counted)
    Clip(clip()).frames(range(first, last + 1))
    assert len(frames) <= 1 + 12 + last - first + 1  # the first of all, then from a key on


def test_a_packet_that_only_says_that_nothing_was_coded_is_no_frame():
    data = encode(20, format="avi", codec="mpeg4")
    assert Packets(data).times == list(range(20))
    # the second frame's chunk becomes the start of a video object plane, and no more
    chunk = data.index(b"00dc", data.index(b"00dc", data.index(b"movi")) + 4)
    size = int.from_bytes(data[chunk + 4 : chunk + 8], "little")
    start = data[chunk + 8 : chunk + 16]
    rest = data[chunk + 8 + size + size % 2 :]
    short = data[:chunk] + b"00dc" + len(start).to_bytes(4, "little") + start + rest
    assert Packets(short).times is None


def test_frames_that_nothing_refers_to_are_left_out_where_nobody_asks_for_them():
    packets = Packets(clip("h264 with B-frames"))
    whole = {frame.pts: frame.to_ndarray(format="rgb24") for frame in packets.decode(0)}
    times = sorted(whole)
    for wanted in ([times[40]], times[10:60:7], times):
        seen = {f.pts: f.to_ndarray(format="rgb24") for f in packets.decode(0, set(wanted))}
        assert set(wanted) <= seen.keys() and (len(seen) < 50 or len(wanted) == 60)
        assert all(np.array_equal(seen[time], whole[time]) for time in seen)
    assert len(list(packets.decode(0))) == 60
