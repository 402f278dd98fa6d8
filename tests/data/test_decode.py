import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from omnivore_jax.data.decode import Clip, DecodeError, decode_depth, decode_image, sniff
from tests.media import CHINA, CLIPS, VARYING, clip, depth_map, jpeg, number, png

SMALL = CHINA[:64, :96]


def pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.mark.parametrize(
    "data",
    [jpeg(SMALL), jpeg(SMALL, "L"), jpeg(SMALL, progressive=True), jpeg(SMALL, subsampling=0)]
    + [
        png(SMALL),
        png(SMALL, "L"),
        png(SMALL, "P"),
        png(SMALL, "RGBA"),
        png(SMALL, "LA"),
        png(SMALL, "1"),
    ],
)
def test_pictures_of_any_colour_type_come_out_as_pillow_reads_them(data):
    picture = decode_image(data)
    assert picture.dtype == np.uint8 and np.array_equal(picture, pillow(data))


def test_cmyk_is_converted_to_within_what_two_conversions_differ_by():
    data = jpeg(SMALL, "CMYK")
    assert np.abs(decode_image(data) - pillow(data)).mean() < 2


def test_alpha_is_dropped_not_blended():
    transparent = np.dstack([SMALL, np.full(SMALL.shape[:2], 10, np.uint8)])
    assert np.array_equal(decode_image(png(transparent)), SMALL)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("encode", [png, jpeg])
def test_a_picture_is_turned_upright_as_its_exif_says_unless_told_otherwise(encode, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    data = encode(SMALL, exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode_image(data), np.asarray(turned))
    assert np.array_equal(decode_image(data, upright=False), pillow(data))


def flipped(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a picture\n" * 9,
        jpeg(SMALL)[:900],
        jpeg(SMALL)[:-40],
        png(SMALL)[:-20],
        png(SMALL)[:50],
    ]
    + [flipped(png(SMALL)), jpeg(SMALL, progressive=True)[:-40], clip()],
)
def test_damaged_pictures_are_errors(data):
    with pytest.raises(DecodeError, match="empty|damaged"):
        decode_image(data)


def test_depth_maps_keep_all_16_bits():
    depth = np.arange(64 * 1024, dtype=np.uint16).reshape(64, 1024)
    assert np.array_equal(decode_depth(png(depth)), depth)


@pytest.mark.parametrize(
    ("data", "says"), [(png(SMALL), "3 of 8"), (png(SMALL, "L"), "1 of 8"), (b"x", "damaged")]
)
def test_a_depth_map_of_another_type_is_an_error(data, says):
    with pytest.raises(DecodeError, match=says):
        decode_depth(data)
    assert decode_depth(png(depth_map(8, 8))).dtype == np.uint16


@pytest.mark.parametrize("name", CLIPS)
def test_frame_k_is_frame_k_however_few_are_asked_for(name):
    held = Clip(clip(name))
    assert len(held) == 60
    whole = held.frames(range(60))
    assert [number(frame) for frame in whole] == list(range(60))
    rng = np.random.default_rng(0)
    for indices in [[59], [0], [11, 12, 13], *(rng.integers(60, size=3) for _ in range(4))]:
        assert np.array_equal(held.frames(indices), whole[indices])


def test_frames_may_repeat_in_any_order_and_are_changed_as_they_come():
    frames = Clip(clip()).frames([30, 7, 7, 31], each=lambda frame: frame[::2, ::2])
    assert [number(frame) for frame in frames] == [30, 7, 7, 31] and frames.shape == (4, 48, 64, 3)


def test_times_are_those_at_which_the_frames_are_shown():
    held = Clip(clip("h264 of varying rate"))
    assert np.allclose(held.times, (np.array(VARYING) - VARYING[0]) / 1000, atol=1e-3)


def test_colours_are_in_the_order_red_green_blue():
    sky = Clip(clip()).frames([0])[0][20:60, 40:]
    assert np.abs(sky.mean((0, 1)) - CHINA[20:60, 40:128].mean((0, 1))).max() < 6


def test_a_clip_of_a_phone_held_upright_is_turned():
    data = clip()
    at = (
        data.index(b"tkhd") + 44
    )  # the matrix of the track: the second version of the box has 64-bit times
    assert data[at : at + 4] == b"\x00\x01\x00\x00"
    clockwise = np.array([0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    turned = Clip(data[:at] + clockwise + data[at + 36 :]).frames([5])[0]
    assert np.array_equal(turned, np.rot90(Clip(data).frames([5])[0], -1))


@pytest.mark.parametrize(
    "data",
    [b"", b"not a clip\n" * 99, clip()[: len(clip()) // 2], clip("mpeg4 with B-frames")[:60_000]],
)
def test_clips_that_are_cut_short_empty_or_something_else_are_errors(data):
    with pytest.raises(DecodeError):
        Clip(data).frames([0])


@pytest.mark.parametrize("name", ["h264 with B-frames", "mpeg4 with B-frames"])
def test_frames_that_the_decoder_had_to_patch_up_are_errors(name):
    data = bytearray(clip(name))
    for at in range(len(data) // 4, len(data) * 3 // 4, len(data) // 9):
        data[at] ^= 0x5A
    with pytest.raises(DecodeError, match=r"frame \d+ is damaged"):
        Clip(bytes(data)).frames(range(60))


def test_a_clip_that_ends_early_in_a_whole_frame_is_a_shorter_clip_with_the_same_frames():
    held = Clip(clip("vp9 without a frame count")[: len(clip("vp9 without a frame count")) // 2])
    assert 10 < len(held) < 50
    assert [number(frame) for frame in held.frames(range(len(held)))] == list(range(len(held)))


def moving(format: str, frames: int) -> bytes:
    first, *others = (Image.fromarray(CHINA[k : k + 48, :64]) for k in range(0, 4 * frames, 4))
    file = io.BytesIO()
    first.save(file, format, save_all=True, append_images=others, duration=40, quality=90)
    return file.getvalue()


def test_a_cameras_picture_with_others_behind_it_is_still():
    assert sniff(moving("MPO", 3)) == "still"


def test_a_list_of_other_files_opens_none_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").write_bytes(clip())
    with pytest.raises(DecodeError):
        Clip(b"ffconcat version 1.0\nfile a.mp4\n")


@pytest.mark.parametrize("format", ["WEBP", "GIF", "PNG", "JPEG", "BMP", "TIFF"])
def test_one_picture_is_still_whatever_its_file_may_hold(format):
    file = io.BytesIO()
    Image.fromarray(SMALL).save(file, format)
    assert sniff(file.getvalue()) == "still"


@pytest.mark.parametrize("format", ["WEBP", "GIF", "PNG"])
def test_a_moving_picture_is_a_clip(format):
    data = moving(format, 5)
    held = Clip(data)
    assert sniff(data) == "clip" and len(held) == 5 and np.allclose(held.times, np.arange(5) / 25)
    error = held.frames([3])[0].astype(int) - CHINA[12:60, :64]
    assert np.abs(error).mean() < 12  # a palette of 256 colours


@pytest.mark.parametrize("data", [b"", b"words\n" * 99, clip()[:500]])
def test_what_is_neither_picture_nor_clip_is_nothing(data):
    assert sniff(data) is None


def test_a_clip_of_one_frame_is_no_still_picture():
    assert sniff(clip(n=1)) == sniff(clip("vp9 without a frame count", 1)) == "clip"
