"""Encoded media to arrays: pictures and depth maps with OpenCV, clips with PyAV.

RGB order, never BGR.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image

from omnivore_jax.data.damage import DecodeError, reading
from omnivore_jax.data.packets import Packets
from omnivore_jax.data.pixels import Converter


def use_one_thread() -> None:
    """Keeps OpenCV to the calling thread, for a process that decodes in many of its own."""
    cv2.setNumThreads(1)


def decode_image(data: bytes, *, upright: bool = True) -> UInt8[np.ndarray, "h w 3"]:
    """Decodes a JPEG or PNG of any colour type.

    Grey is expanded, alpha dropped, CMYK and 16 bits are converted.

    `upright`: turn the picture as its EXIF orientation says. A picture with a depth map must not be
    turned.
    """
    flags = cv2.IMREAD_COLOR_RGB | (0 if upright else cv2.IMREAD_IGNORE_ORIENTATION)
    return _imdecode(data, flags)


def decode_label_map(data: bytes) -> UInt8[np.ndarray, "h w"]:
    """Decodes an 8-bit PNG whose values, or places in a palette, are labels."""
    with reading():
        image = Image.open(io.BytesIO(data))
        if image.format != "PNG" or image.mode not in ("L", "P"):
            raise DecodeError(
                "a label map is an 8-bit gray or palette PNG, this is "
                f"{image.format} of mode {image.mode}"
            )
        return np.array(image)


def decode_depth(data: bytes) -> UInt16[np.ndarray, "h w"]:
    """Decodes a 16-bit grey PNG."""
    depth = _imdecode(data, cv2.IMREAD_UNCHANGED)
    if depth.dtype != np.uint16 or depth.ndim != 2:
        channels = 1 if depth.ndim == 2 else depth.shape[2]
        raise DecodeError(
            f"a depth map has one channel of 16 bits, this has {channels} of "
            f"{depth.dtype.itemsize * 8}"
        )
    return depth


def sniff(data: bytes) -> Literal["still", "clip"] | None:
    """Tells by its content what a file is; None: neither a picture nor a clip.

    A moving GIF, PNG or WebP is a clip, one of a single frame is a still picture.
    """
    try:
        return "still" if Packets(data).is_still else "clip"
    except DecodeError:
        return None


class Clip:
    """A video file in memory; frame k is the k-th that a player shows.

    Frames are counted and timed by the packets of the file where each of them brings one frame to
    the screen at its time, and decoded from the last key frame before the first one that is wanted.
    In other files (H.264 of fields, recordings that begin between two key frames or were joined,
    H.264 with B-frames in AVI) all frames are decoded and counted.

    Raises:
        DecodeError: the file is no clip, or it is damaged.

    """

    def __init__(self, data: bytes):
        self._packets = Packets(data)
        if not len(self._packets):
            raise DecodeError("the video has no frames")
        self._packets.check_whole()
        self._convert = Converter()
        with reading():
            first = next(self._packets.decode(0), None)
            if first is None:
                raise DecodeError("the video has no frames")
            self._size = first.width, first.height
            times = self._packets.times or []
            self._seeks = times[:1] == [first.pts]
            self._keys: Sequence[int] = times
            if not self._seeks:  # the decoder knows, not the packets, which frames there are
                times = [frame.pts for frame in self._packets.decode(0)]
                self._keys = range(len(times))
        self._times = np.asarray(times, float)  # nan where there is none

    def __len__(self) -> int:
        return len(self._times)

    @property
    def times(self) -> Float[np.ndarray, " n"]:
        """Seconds from the first frame to each, in order."""
        if not np.all(np.diff(self._times) > 0) or np.isnan(self._times[0]):
            return np.arange(len(self)) / self._packets.rate
        return (self._times - self._times[0]) * self._packets.time_base

    def frames(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Callable[[np.ndarray], np.ndarray] = lambda frame: frame,
    ) -> UInt8[np.ndarray, "t h w 3"]:
        """Decodes the frames with these indices, in this order, repeated where an index is.

        `each` is applied to every frame as it comes (a resize: large frames need not be held).
        Frames are brought to the size of the video's first, and turned and mirrored as the file
        says.

        Raises:
            DecodeError: a wanted frame cannot be decoded.

        """
        wanted = self._wanted(indices)
        try:
            found = dict(self._find(wanted, each, fast=True))
        except DecodeError:
            found = dict(self._find(wanted, each, fast=False))
        with reading():
            return np.stack([found[index] for index in indices])

    def each_frame(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Callable[[np.ndarray], np.ndarray] = lambda frame: frame,
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        """Decodes as `frames` does, but gives index and frame once each, in the order of display.

        One frame is in memory at a time.
        """
        wanted, given = self._wanted(indices), False
        try:
            for pair in self._find(wanted, each, fast=True):
                given = True
                yield pair
            return
        except DecodeError:
            if given:  # what has been given cannot be put in order again
                raise
        yield from self._find(wanted, each, fast=False)

    def _wanted(self, indices: Sequence[int] | np.ndarray) -> dict[int, int]:
        return {self._keys[index]: int(index) for index in indices}

    def _find(
        self, wanted: Mapping[int, int], each: Callable[[np.ndarray], np.ndarray], *, fast: bool
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Decodes until all of `wanted` (index by key) are found.

        `fast`: no more than they need, from the last key frame before them on. Some files call
        frames so that are none: then from the beginning, and all.
        """
        missing = set(wanted.values())
        fast = fast and self._seeks
        start = self._packets.start(min(wanted)) if fast else 0
        with reading():
            decoding = self._packets.decode(start, wanted if fast else None)
            for number, frame in enumerate(decoding):
                key = frame.pts if self._seeks else number
                if key is None or wanted.get(key) not in missing:
                    continue
                index = wanted[key]
                if frame.is_corrupt:
                    raise DecodeError(f"frame {index} is damaged")
                missing.remove(index)
                yield index, each(self._convert(frame, *self._size))
                if not missing:
                    return
        raise DecodeError(f"frame {min(missing)} of {len(self)} cannot be decoded")


def _imdecode(data: bytes, flags: int) -> np.ndarray:
    if not data:
        raise DecodeError("the file is empty")
    with reading():  # sizes beyond what OpenCV takes, for example
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if picture is None:
        raise DecodeError("the file is no JPEG or PNG, or it is damaged")
    return picture
