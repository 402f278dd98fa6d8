"""Encodes samples anew, smaller, before they are stored (`prepare --short_side`).

A 720p clip with a key frame every ten seconds costs a loader ten times what the model looks at. At
a short side of 256 and with a key frame every 12 frames any two seconds are decoded fast. Frames
are turned upright and keep their times; sound is dropped. Bytes depend on nothing but the file, the
options and the version of the encoder.
"""

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import NamedTuple

import av
import av.error
import cv2
import numpy as np
from av.container import OutputContainer
from jaxtyping import Float, UInt8

from omnivore_jax.data.decode import Clip, DecodeError, decode_image
from omnivore_jax.data.manifest import Kind
from omnivore_jax.ingest.layouts.base import Item, Media

SHORT_GROUP = 12
"""Frames from one key frame to the next."""
CLIP_QUALITY = 20
"""Constant rate factor of x264; 18 is hardly told from the source, 23 its default."""
PRESET = "fast"
X264 = "bframes=0:mbtree=0"
"""Without B-frames every decoder tells the times; the tree of macroblocks is not the same twice."""
JPEG_QUALITY = 95
CLOCK = 90_000
"""Ticks a second of a clip's times: those of MPEG, which every usual frame rate divides."""
BT601, LIMITED = 6, 1
"""How OpenCV's and FFmpeg's conversions from RGB mean YUV, in FFmpeg's numbers."""


class Smaller(NamedTuple):
    """A picture or clip at a short side of at most `short_side` pixels (Media)."""

    media: Media
    kind: Kind
    short_side: int

    @property
    def name(self) -> str:
        return self.media.name

    def read(self) -> bytes:
        """Reads and encodes it; DecodeError where it cannot be decoded as a whole."""
        data = self.media.read()
        if self.kind == "video":
            clip = Clip(data)
            return encode_clip(clip, range(len(clip)), clip.times, self.short_side)
        return _smaller_picture(data, self.short_side)

    def size(self) -> int:
        return self.media.size()


def smaller(item: Item, kind: Kind, short_side: int) -> Item:
    """Makes a sample that is stored at a short side of at most `short_side` pixels."""
    media = Smaller(item.media, kind, short_side)
    how: tuple[str | int, ...] = ("jpeg", JPEG_QUALITY)
    if kind == "video":
        how = ("x264", PRESET, X264, CLIP_QUALITY, SHORT_GROUP)
    return item._replace(media=media, edits=(*item.edits, "short_side", short_side, *how))


def encode_clip(
    clip: Clip,
    indices: Sequence[int],
    times: Float[np.ndarray, " n"],
    short_side: int = 0,
    quality: int = CLIP_QUALITY,
) -> bytes:
    """Encodes frames of a clip as H.264 in MP4.

    `times`: of these frames, in seconds; the first is shown at 0. `short_side`: pixels, if the
    frames are larger; 0: as they are. Odd sides lose a pixel, which H.264 does not store.
    `quality`: the constant rate factor.

    Raises:
        DecodeError: a frame cannot be decoded, or the encoder refuses it.

    """
    file = io.BytesIO()
    ticks = np.rint((np.asarray(times, float) - times[0]) * CLOCK).astype(int).tolist()
    frames = _frames(clip, indices, short_side)
    try:
        with av.open(file, "w", format="mp4") as container:
            stream = None
            for frame, tick in zip(frames, ticks, strict=True):
                stream = stream or _stream(container, frame, _rate(ticks), quality)
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
                picture.pts, picture.time_base = tick, Fraction(1, CLOCK)
                container.mux(stream.encode(picture))
            if stream is not None:
                container.mux(stream.encode(None))
    except (av.error.FFmpegError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DecodeError(f"the clip cannot be encoded ({reason})") from error
    return file.getvalue()


def _frames(
    clip: Clip, indices: Sequence[int], short_side: int
) -> Iterator[UInt8[np.ndarray, "h w 3"]]:
    size: tuple[int, int] | None = None

    def fit(frame: np.ndarray) -> np.ndarray:
        nonlocal size
        # That of the first frame for all: a stream has one size.
        size = size or _even_size(frame.shape[0], frame.shape[1], short_side)
        return _resize(frame, size)

    return (frame for _, frame in clip.each_frame(indices, each=fit))


def _even_size(height: int, width: int, short_side: int) -> tuple[int, int]:
    """The size (h, w) in which a clip is stored: never larger than it is, and even."""
    scale = min(short_side / min(height, width), 1.0) if short_side else 1.0
    if scale == 1.0:
        return max(height // 2 * 2, 2), max(width // 2 * 2, 2)
    return max(2 * round(height * scale / 2), 2), max(2 * round(width * scale / 2), 2)


def _resize(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    height, width = frame.shape[:2]
    if (height, width) == size:
        return frame
    if (height // 2 * 2, width // 2 * 2) == size:
        return frame[: size[0], : size[1]]
    return cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA)


def _rate(ticks: Sequence[int]) -> Fraction:
    """Frames a second on average, which the encoder shares its bits out by."""
    if len(ticks) < 2 or ticks[-1] <= 0:
        return Fraction(25)
    return Fraction((len(ticks) - 1) * CLOCK, ticks[-1]).limit_denominator(1001)


def _stream(
    container: OutputContainer, frame: np.ndarray, rate: Fraction, quality: int
) -> av.VideoStream:
    options = {"crf": str(quality), "preset": PRESET, "x264-params": X264}
    stream = container.add_stream("libx264", rate=rate, options=options)
    stream.height, stream.width = frame.shape[:2]
    stream.pix_fmt = "yuv420p"
    encoder = stream.codec_context
    encoder.time_base = Fraction(1, CLOCK)
    encoder.gop_size = SHORT_GROUP
    encoder.thread_count = 1  # clips are encoded side by side, and bytes depend on the number
    encoder.colorspace, encoder.color_range = BT601, LIMITED
    return stream


def _smaller_picture(data: bytes, short_side: int) -> bytes:
    picture = decode_image(data)
    height, width = picture.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return data
    size = (round(width * scale), round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(
        ".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    )
    return content.tobytes()
