"""The packets of a clip's file, and what they say about the frames that a player shows."""

import io
import itertools
from collections.abc import Container, Iterator
from functools import cached_property

import av
from PIL import Image, ImageSequence

from omnivore_jax.data.damage import DecodeError, reading
from omnivore_jax.data.h264 import may_hold_fields

FRAME_CODECS = {"av1", "libdav1d", "libaom-av1", "hevc", "h264", "vp8", "vp9"} | {
    "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4", "msmpeg4v2",
    "mjpeg", "png", "apng", "gif", "webp", "rawvideo", "ffv1", "prores", "dnxhd",
}  # fmt: skip
"""Decoders whose packets hold a frame each, but for what `Packets.times` asks of some of them."""
SMALLEST_MPEG4 = 16
"""Bytes; a packet of MPEG-4 below may say no more than that no frame was coded."""
PICTURES = {"gif", "apng", "ico", "mjpeg"}
"""Formats of pictures, besides those of single ones (`*_pipe`)."""
PICTURE_BRANDS = {b"avif", b"heic", b"heim", b"heis", b"heix", b"mif1"}
"""Kinds of ISO media files that hold pictures (HEIF)."""

MULTI_PICTURE, HEAD = b"MPF\0", 1 << 17
"""What the head of a JPEG file holds that has previews or other views behind it (CIPA DC-007)."""


class Packets:
    """The packets of the video stream that a player would choose.

    Raises:
        DecodeError: the file cannot be opened, or holds no video.

    """

    def __init__(self, data: bytes):
        with reading():
            # It owns the memory of its stream and packets. Tags play no part, whatever their code.
            file = io.BytesIO(_readable(data))
            # A list of other files (ffconcat) may open none of them: a file is what it holds.
            alone = {"protocol_whitelist": "none"}
            self._container = av.open(file, "r", options=alone, metadata_errors="ignore")
            stream = self._container.streams.best("video")
            if not isinstance(stream, av.VideoStream):
                raise DecodeError("the file holds no video")
            if stream.codec_context is None:
                raise DecodeError("the video is of a codec that cannot be decoded")
            stream.codec_context.thread_count = 1
            self._stream = stream
            self._packets = [p for p in self._container.demux(stream) if p.size]
        self._brand = data[8:12] if data[4:8] == b"ftyp" else b""
        self._is_one_of_several = MULTI_PICTURE in data[:HEAD]

    @property
    def is_still(self) -> bool:
        """Whether it is a picture: a file format of pictures, and no more than one of them."""
        name = self._container.format.name
        if name == "mjpeg" and self._is_one_of_several:
            return True
        pictures = name.endswith("_pipe") or name in PICTURES or self._brand in PICTURE_BRANDS
        return pictures and len(self._packets) <= 1

    @property
    def rate(self) -> float:
        """Frames a second, 25 where the file does not say."""
        return float(self._stream.average_rate or 25)

    @property
    def time_base(self) -> float:
        """Seconds of one unit of time."""
        return float(self._stream.time_base or 1)

    def __len__(self) -> int:
        return len(self._packets)

    def check_whole(self) -> None:
        """Checks that no packet lacks data.

        Raises:
            DecodeError: one does, the last where a file is cut short.

        """
        at = next((i for i, packet in enumerate(self._packets) if packet.is_corrupt), None)
        if at is None:
            return
        if at == len(self) - 1:
            raise DecodeError("the file is cut short")
        raise DecodeError(
            f"data are missing at packet {at} of {len(self)}: the file is damaged, or two "
            "recordings were joined there"
        )

    @cached_property
    def times(self) -> list[int] | None:
        """The time of every frame shown, in order; None where only decoding can tell.

        Headers and counts of frames are not asked: they lie.
        """
        if not self._hold_a_frame_each or not self._go_forward:
            return None
        shown = [p.pts for p in self._packets if not p.is_discard and _is_shown(p)]
        times = [time for time in shown if time is not None]
        ascending = sorted(set(times))
        if len(ascending) < len(shown):
            return None  # some are missing or the same
        reordered = self._stream.codec_context.has_b_frames and len(times) > 2
        return None if reordered and times == ascending else ascending  # they count the packets

    def start(self, time: int) -> int:
        """Finds the last packet from which the frame at `time` and later ones can be decoded."""
        keys = (
            i
            for i, p in enumerate(self._packets)
            if p.is_keyframe and p.pts is not None and p.pts <= time
        )
        return max(keys, default=0)

    def decode(
        self, start: int, wanted: Container[int | None] | None = None
    ) -> Iterator[av.VideoFrame]:
        """Decodes the frames in the order of display, from this packet on.

        `wanted`: times of those that are needed. Others may be left out where no frame refers to
        them (H.264 says so of every frame), which leaves the needed ones as they are.
        """
        decoder = self._stream.codec_context
        decoder.flush_buffers()
        asked = wanted if decoder.name == "h264" else None
        decoder.skip_frame = "DEFAULT"
        for packet in itertools.chain(self._packets[start:], [None]):
            if asked is not None and packet is not None:
                decoder.skip_frame = "DEFAULT" if packet.pts in asked else "NONREF"
            yield from decoder.decode(packet)

    @property
    def _hold_a_frame_each(self) -> bool:
        context = self._stream.codec_context
        if context.name == "h264":
            return not may_hold_fields(context.extradata or bytes(self._packets[0]))
        if context.name == "mpeg4":
            return all(packet.size >= SMALLEST_MPEG4 for packet in self._packets)
        return context.name in FRAME_CODECS

    @property
    def _go_forward(self) -> bool:
        """Whether times never begin again, as where recordings were joined."""
        orders = ([p.dts for p in self._packets], [p.pts for p in self._packets if p.is_keyframe])
        known = ([time for time in order if time is not None] for order in orders)
        return all(a <= b for times in known for a, b in itertools.pairwise(times))


def _is_shown(packet: av.Packet) -> bool:
    """Whether a packet brings a frame to the screen.

    VP8 has frames that only others refer to (RFC 6386, 9.1).
    """
    return packet.stream.codec_context.name != "vp8" or bool(bytes(packet)[0] & 0x10)


def _readable(data: bytes) -> bytes:
    """The file, or a moving WebP as a moving PNG: FFmpeg does not read the former."""
    if data[:4] != b"RIFF" or data[8:16] != b"WEBPVP8X" or not data[20] & 2:
        return data
    file = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        # a frame's milliseconds are known once it is loaded
        shown = [frame.copy() for frame in ImageSequence.Iterator(picture)]
        times = [frame.info.get("duration", 0) for frame in shown]
        shown[0].save(
            file, "PNG", save_all=True, append_images=shown[1:], duration=times, compress_level=1
        )
    return file.getvalue()
