"""Real pictures and clips for the tests.

Scikit-learn's two photographs, whole, cut up and filmed.
"""

import io
from fractions import Fraction
from functools import cache

import av
import cv2
import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

CHINA, FLOWER = load_sample_image("china.jpg"), load_sample_image("flower.jpg")
SIDE = (96, 128)
VARYING = np.cumsum(np.random.default_rng(0).integers(10, 120, 60)).tolist()
"""Milliseconds at which the frames of a clip with a varying rate are shown."""

CLIPS = {
    "h264 with B-frames": {"format": "mp4", "codec": "libx264", "b_frames": 3},
    "h264 with open groups": {
        "format": "mp4",
        "codec": "libx264",
        "options": {"x264-params": "open-gop=1:bframes=3"},
    },
    "h264 of varying rate": {
        "format": "matroska",
        "codec": "libx264",
        "b_frames": 3,
        "shown": VARYING,
    },
    "h264 at 30000/1001": {
        "format": "mp4",
        "codec": "libx264",
        "b_frames": 2,
        "rate": Fraction(30000, 1001),
    },
    "h264 in a transport stream": {"format": "mpegts", "codec": "libx264", "b_frames": 3},
    "hevc": {
        "format": "mp4",
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:open-gop=1"},
    },
    "vp9 without a frame count": {
        "format": "webm",
        "codec": "libvpx-vp9",
        "options": {"cpu-used": "8"},
    },
    "mpeg4 with B-frames": {"format": "avi", "codec": "mpeg4", "b_frames": 2},
    "h264 with B-frames in AVI, which cannot time them": {
        "format": "avi",
        "codec": "libx264",
        "b_frames": 3,
    },
    "msmpeg4": {"format": "avi", "codec": "msmpeg4"},
    "mpeg2": {"format": "mpeg", "codec": "mpeg2video", "b_frames": 2},
}


def scene(k: int) -> np.ndarray:
    """Frame k: the camera moves over a photograph.

    K is written in 8 black or white squares along the top.
    """
    frame = CHINA[2 * k : 2 * k + SIDE[0], 3 * k : 3 * k + SIDE[1]].copy()
    for bit in range(8):
        frame[:12, 16 * bit : 16 * bit + 16] = 255 if k >> bit & 1 else 0
    return frame


def number(frame: np.ndarray) -> int:
    """The k of a decoded frame, of any size."""
    small = cv2.resize(frame, SIDE[::-1], interpolation=cv2.INTER_AREA)
    return sum(
        1 << bit for bit in range(8) if small[4:8, 16 * bit + 4 : 16 * bit + 12].mean() > 128
    )


@cache
def clip(name: str = "h264 with B-frames", n: int = 60) -> bytes:
    return encode(n, **CLIPS[name])


def encode(n, *, format, codec, options=None, b_frames=0, rate=25, shown=None, flags="") -> bytes:
    file = io.BytesIO()
    with av.open(
        file, "w", format=format, container_options={"movflags": flags} if flags else {}
    ) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = (
            SIDE[1],
            SIDE[0],
            "yuv420p",
            800_000,
        )
        stream.codec_context.gop_size = 12
        if b_frames:
            stream.codec_context.max_b_frames = b_frames
        unit = Fraction(1, 1000) if shown else 1 / Fraction(rate)
        stream.codec_context.time_base = unit
        for k in range(n):
            frame = av.VideoFrame.from_ndarray(scene(k), format="rgb24")
            frame.pts, frame.time_base = shown[k] if shown else k, unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def jpeg(picture: np.ndarray, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(file, "JPEG", quality=90, **options)
    return file.getvalue()


def png(picture: np.ndarray, mode: str | None = None, **options) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(picture)
    (image.convert(mode) if mode else image).save(file, "PNG", **options)
    return file.getvalue()


def depth_map(height: int, width: int) -> np.ndarray:
    """Millimetres: a slope from .5 m to 8 m, with a hole."""
    depth = np.linspace(500, 8000, height * width).reshape(height, width).astype(np.uint16)
    depth[: height // 8, : width // 8] = 0
    return depth


def part(k: int, side: int = 80) -> np.ndarray:
    """Another cut of a photograph for every k."""
    picture = CHINA if k % 2 else FLOWER
    return picture[7 * k : 7 * k + side, 11 * k : 11 * k + side + 16].copy()
