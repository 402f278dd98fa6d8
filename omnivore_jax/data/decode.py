"""Encoded media to arrays: pictures and depth maps with OpenCV, clips with PyAV.

RGB order, never BGR.
"""

import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property

import av
import av.error
import cv2
import numpy as np
from jaxtyping import Float, UInt8, UInt16


class DecodeError(ValueError):
    """Media that cannot be decoded; the message says why, the caller knows the name."""


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


class Clip:
    """A video file in memory; frame k is the k-th that a player shows.

    The frames are counted and timed by the packets of the file, because headers lie: each shown
    frame has one packet, and in the order of their times that is the order of display, with
    B-frames and varying rates too. Frames are decoded from the last key frame before the first one
    that is wanted. Where a file does not say when its frames are shown (H.264 with B-frames in
    AVI), all of them are decoded and counted.
    """

    def __init__(self, data: bytes):
        try:
            self._container = av.open(
                io.BytesIO(data), "r"
            )  # owns the memory of its stream and packets
            if not self._container.streams.video:
                raise DecodeError("the file holds no video")
            self._stream = self._container.streams.video[0]
            self._packets = [
                packet for packet in self._container.demux(self._stream) if packet.size
            ]
        except (av.error.FFmpegError, OSError) as error:
            raise DecodeError(_reason(error)) from error
        if any(packet.is_corrupt for packet in self._packets):
            raise DecodeError("the file is cut short")
        self._stream.codec_context.thread_count = 1
        if not len(self):
            raise DecodeError("the video has no frames")

    def __len__(self) -> int:
        return len(self._pts)

    @property
    def times(self) -> Float[np.ndarray, " n"]:
        """Seconds from the first frame to each, in order."""
        if not self._is_timed:
            return np.arange(len(self)) / float(self._stream.average_rate or 25)
        return (np.asarray(self._pts, float) - self._pts[0]) * float(self._stream.time_base or 1)

    def frames(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Callable[[np.ndarray], np.ndarray] = lambda frame: frame,
    ) -> UInt8[np.ndarray, "t h w 3"]:
        """Decodes the frames with these indices, in this order, repeated where an index is.

        `each` is applied to every frame as it comes (a resize: large frames need not be held).
        Frames are turned upright as the file says.

        Raises:
            DecodeError: a wanted frame cannot be decoded.

        """
        found = dict(self.each_frame(indices, each))
        return np.stack([found[index] for index in indices])

    def each_frame(
        self,
        indices: Sequence[int] | np.ndarray,
        each: Callable[[np.ndarray], np.ndarray] = lambda frame: frame,
    ) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 3"]]]:
        """Decodes as `frames` does, but gives index and frame once each, in the order of display.

        One frame is in memory at a time.
        """
        wanted = {self._pts[index]: index for index in indices}
        missing = set(wanted.values())
        try:
            for pts, frame in self._decode(self._start(min(wanted))):
                if pts in wanted and wanted[pts] in missing:
                    if frame.is_corrupt:
                        raise DecodeError(f"frame {wanted[pts]} is damaged")
                    yield wanted[pts], each(_upright(frame))
                    missing.remove(wanted[pts])
                    if not missing:
                        return
        except av.error.FFmpegError as error:
            raise DecodeError(_reason(error)) from error
        raise DecodeError(f"frame {min(missing)} of {len(self)} cannot be decoded")

    @cached_property
    def _packet_pts(self) -> list[int | None]:
        return [
            packet.pts for packet in self._packets if not packet.is_discard and _is_shown(packet)
        ]

    @cached_property
    def _is_timed(self) -> bool:
        """Whether the times of the packets are those at which their frames are shown."""
        pts = [time for time in self._packet_pts if time is not None]
        ascending = sorted(set(pts))
        if len(ascending) < len(self._packet_pts):
            return False  # some are missing or the same
        reordered = self._stream.codec_context.has_b_frames and len(pts) > 2
        return not (reordered and pts == ascending)  # then they only count the packets

    @cached_property
    def _pts(self) -> list[int]:
        """The time of every frame, in order; their numbers where there are no times."""
        if self._is_timed:
            return sorted(time for time in self._packet_pts if time is not None)
        try:
            return list(range(sum(1 for _ in self._decode(0))))
        except av.error.FFmpegError as error:
            raise DecodeError(_reason(error)) from error

    def _start(self, pts: int) -> int:
        """The last packet from which the frame at `pts` and all later ones can be decoded."""
        if not self._is_timed:
            return 0
        keys = (
            i
            for i, p in enumerate(self._packets)
            if p.is_keyframe and p.pts is not None and p.pts <= pts
        )
        return max(keys, default=0)

    def _decode(self, start: int) -> Iterator[tuple[int | None, av.VideoFrame]]:
        decoder = self._stream.codec_context
        decoder.flush_buffers()
        packets = itertools.chain(self._packets[start:], [None])
        for number, frame in enumerate(itertools.chain.from_iterable(map(decoder.decode, packets))):
            yield frame.pts if self._is_timed else number, frame


def _is_shown(packet: av.Packet) -> bool:
    """Whether a packet brings a frame to the screen.

    VP8 has frames that only others refer to (RFC 6386, 9.1).
    """
    return packet.stream.codec_context.name != "vp8" or bool(bytes(packet)[0] & 0x10)


def _upright(frame: av.VideoFrame) -> UInt8[np.ndarray, "h w 3"]:
    return np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)


def _imdecode(data: bytes, flags: int) -> np.ndarray:
    if not data:
        raise DecodeError("the file is empty")
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:  # sizes beyond what OpenCV takes, for example
        raise DecodeError(_reason(error)) from error
    if picture is None:
        raise DecodeError("the file is no JPEG or PNG, or it is damaged")
    return picture


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())
