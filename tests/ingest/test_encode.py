import io
from fractions import Fraction
from functools import cache

import av
import cv2
import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.decode import Clip, DecodeError, decode_image
from omnivore_jax.data.records import RecordReader
from omnivore_jax.ingest.encode import Smaller, smaller
from omnivore_jax.ingest.layouts.base import FileBytes, Item
from omnivore_jax.ingest.shards import digest_of
from omnivore_jax.prepare import Options
from omnivore_jax.prepare import prepare as command
from tests.ingest.downloads import lay, numbers, prepare_clips
from tests.media import CHINA, clip, depth_map, jpeg, part, png

SHOWN = np.cumsum([0, *([33, 50, 17] * 10)])[:28]
"""Milliseconds: a phone's varying rate."""


class Bytes:
    """Media in memory."""

    name = "memory"

    def __init__(self, data):
        self.data = data

    def read(self):
        return self.data

    def size(self):
        return len(self.data)


def scene(k):
    """Frame k of a pan over a photograph, 720p."""
    return cv2.resize(CHINA[2 * k : 2 * k + 300, 3 * k : 3 * k + 533], (1280, 720))


@cache
def large():
    """A 720p clip with sound and one key frame."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        options = {"preset": "ultrafast", "crf": "16"}
        video = container.add_stream("libx264", rate=30, options=options)
        video.width, video.height, video.pix_fmt = 1280, 720, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame(format="s16", layout="mono", samples=800)
        sound.sample_rate = 8000
        container.mux(audio.encode(sound))
        for k, shown in enumerate(SHOWN.tolist()):
            frame = av.VideoFrame.from_ndarray(scene(k), format="rgb24")
            frame.pts, frame.time_base = shown, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
    return file.getvalue()


def shrink(data, kind="video", short_side=256):
    return Smaller(Bytes(data), kind, short_side).read()


def test_a_large_clip_becomes_small_and_keeps_its_frames_and_times():
    data = shrink(large())
    small = Clip(data)
    assert len(small) == len(SHOWN) and np.allclose(small.times, SHOWN / 1000, atol=2e-5)
    frames = small.frames(range(len(small)))
    assert frames.shape == (28, 256, 456, 3)  # 455.1: the even number that is nearest
    for k in (0, 5, 13, 27):
        source = cv2.resize(scene(k), (456, 256), interpolation=cv2.INTER_AREA)
        error = np.square(frames[k].astype(float) - source).mean()
        assert 10 * np.log10(255**2 / error) > 30
    with av.open(io.BytesIO(data)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert [k for k, packet in enumerate(packets) if packet.is_keyframe] == [0, 12, 24]
    assert data == shrink(large()) and len(data) < len(large()) / 4


def test_a_small_clip_keeps_its_size_and_odd_sides_lose_a_pixel():
    assert Clip(shrink(clip())).frames([0]).shape == (1, 96, 128, 3)
    assert numbers(shrink(clip("mpeg4 with B-frames"), short_side=64)) == list(range(60))
    assert Clip(shrink(clip(), short_side=50)).frames([0]).shape == (1, 50, 66, 3)


def test_a_phone_held_upright_is_upright_in_the_file():
    data = clip(n=5)
    at = data.index(b"tkhd") + 44
    turn = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    turned = data[:at] + turn + data[at + 36 :]
    source = Clip(turned).frames([2])[0]
    small = Clip(shrink(turned, short_side=96)).frames([2])[0]
    assert small.shape == source.shape == (128, 96, 3)
    assert np.abs(small.astype(int) - source).mean() < 4
    with av.open(io.BytesIO(shrink(turned))) as container:
        assert next(container.decode(video=0)).rotation == 0


def test_a_clip_that_is_damaged_anywhere_is_an_error():
    data = bytearray(clip())
    for at in range(len(data) // 4, len(data) * 3 // 4, len(data) // 9):
        data[at] ^= 0x5A
    with pytest.raises(DecodeError, match=r"frame \d+ is damaged"):
        shrink(bytes(data))


def test_large_pictures_become_small_and_others_stay_as_they_are():
    data = jpeg(CHINA)
    assert shrink(data, "image", 640) == data and shrink(data, "image", 427) == data
    for source in (data, png(CHINA)):
        small = shrink(source, "image", 128)
        expected = cv2.resize(CHINA, (192, 128), interpolation=cv2.INTER_AREA)
        assert decode_image(small).shape == (128, 192, 3) and small[:2] == b"\xff\xd8"
        assert np.abs(decode_image(small).astype(int) - expected).mean() < 4
    with pytest.raises(DecodeError):
        shrink(data[:900], "image")


def test_another_size_makes_the_shards_anew_and_the_same_keeps_them(tmp_path):
    clips = {f"train/a/{k}.mp4": clip(n=10 + k) for k in range(4)}
    source = lay(tmp_path / "src", clips | {"val/a/9.mp4": clip(n=20)})
    out = tmp_path / "out"
    sizes = []
    for short_side in (0, 64, 64):
        before = shard_times(out)
        samples = prepare_clips("folder", source, out, short_side)
        assert [frames for *_, frames in samples["train"]] == [
            list(range(10 + k)) for k in range(4)
        ]
        record = RecordReader(out, manifest.read(out).splits["val"])[0]
        sizes.append((Clip(record.media).frames([0]).shape[1], shard_times(out) == before))
    assert sizes == [(96, False), (64, False), (64, True)]
    assert manifest.read(out).origin["by"] == "omnivore_jax.prepare folder --short_side=64"


def shard_times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.glob("*.arrayrecord")}


def test_a_digest_tells_the_size_and_none_is_that_of_before(tmp_path):
    item = Item("a", 0, FileBytes(tmp_path / "a"))
    kinds = [smaller(item, kind, side) for kind, side in (("image", 64), ("video", 64))]
    digests = {digest_of("video", [i]) for i in (item, *kinds, smaller(item, "video", 128))}
    assert len(digests) == 4
    assert smaller(item, "video", 64).media.name == item.media.name


def test_sizes_that_cannot_be_are_refused_in_one_line(tmp_path):
    pairs = {"a/1.jpg": jpeg(part(1)), "a/1.depth.png": png(depth_map(80, 96))}
    source, out = lay(tmp_path / "src", pairs), tmp_path / "out"
    for short_side, says in ((255, "even number"), (8, "from 16 on"), (64, "depth maps")):
        with pytest.raises(UserError, match=rf"--short_side={short_side}.*{says}") as error:
            command("folder", Options(str(source), str(out), short_side=short_side))
        assert "\n" not in str(error.value)
