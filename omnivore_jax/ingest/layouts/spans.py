"""Cuts a time span out of a long video: one sample of EPIC-Kitchens, for example.

Only the packets of the span, from the key frame before it, are read: a video of gigabytes is never
held. Where the span begins with a key frame and its packets hold no other frames, they are copied
as they are; else its frames are encoded again, with a key frame every 12.
"""

import io
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np
from av.container import InputContainer

from omnivore_jax.data.decode import Clip, DecodeError
from omnivore_jax.ingest.encode import encode_clip

COPIES = frozenset({"h264", "hevc", "mpeg4", "vp9", "av1"})
"""Codecs whose packets an MP4 file takes as they are."""
QUALITY = 18
"""Constant rate factor of spans: a smaller copy may be made of them (encode.py)."""
BACK = (0.0, 2.0, 10.0, 60.0, float("inf"))
"""Seconds before the span from which on it is read: some formats seek too far ahead."""
DELAY = 32
"""Packets among which the first that is shown is found; codecs hold back 16 at most."""


class ClipSpan(NamedTuple):
    """The frames of a video that are shown from `start` to before `end` (Media).

    Both in seconds from the first frame.
    """

    path: Path
    start: float
    end: float

    @property
    def name(self) -> str:
        return f"{self.path} from {self.start:.2f} to {self.end:.2f} s"

    def read(self) -> bytes:
        """Cuts it out.

        Raises:
            DecodeError: it cannot be decoded, or shows nothing in that time. OSError: no file.

        """
        try:
            return _cut(self)
        except DecodeError as error:
            raise DecodeError(f"{self.name}: {error}") from error
        except FileNotFoundError:
            raise
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise DecodeError(f"{self.name}: {' '.join(str(error).split())}") from error

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


class _Video(NamedTuple):
    """The first video stream of an open file."""

    container: InputContainer
    stream: av.VideoStream

    def packets(self) -> Iterator[av.Packet]:
        return (packet for packet in self.container.demux(self.stream) if packet.size)


class _Part(NamedTuple):
    """The packets from a key frame to the end of a span, in the order of decoding."""

    video: _Video
    packets: Sequence[av.Packet]
    first: float
    """Ticks at which the span begins."""
    last: float
    """Ticks at which it has ended."""

    @property
    def is_early(self) -> bool:
        """Whether it begins with what the first frame of the span is decoded from."""
        return bool(self.packets) and _time(self.packets[0]) < self.first + 1

    def inside(self, time: int) -> bool:
        return self.first <= time < self.last


def _cut(span: ClipSpan) -> bytes:
    with av.open(str(span.path), "r") as container:
        zero = _first_time(_video(container))
    return _cut_back(span, zero, BACK)


def _cut_back(span: ClipSpan, zero: int, back: Sequence[float]) -> bytes:
    # Opened anew: after a seek no format promises to find its beginning again.
    with av.open(str(span.path), "r") as container:
        part = _part(_video(container), zero, span, back[0])
        if part.is_early or not back[1:]:
            return _encode(part)
    return _cut_back(span, zero, back[1:])


def _video(container: InputContainer) -> _Video:
    if not container.streams.video:
        raise DecodeError("the file holds no video")
    return _Video(container, container.streams.video[0])


def _first_time(video: _Video) -> int:
    """Ticks at which the first frame is shown: headers lie."""
    packets = (packet for packet in video.packets() if not packet.is_discard)
    times = [_time(packet) for packet in islice(packets, DELAY)]
    if not times:
        raise DecodeError("the video has no frames")
    return min(times)


def _part(video: _Video, zero: int, span: ClipSpan, seconds: float) -> _Part:
    """Reads the packets of a span from the last key frame that is shown before it or as it begins.

    Looks for that key frame `seconds` before the span, at the beginning of the file if they are
    infinite. Frames that are stored behind the key frame and shown before it are left out.
    """
    unit = float(video.stream.time_base or 1)
    # minus half a tick, so that a time that was written down in decimals is that of its frame
    first, last = (zero + second / unit - 0.5 for second in (span.start, span.end))
    if seconds < float("inf"):
        video.container.seek(max(int(first + 1 - seconds / unit), zero), stream=video.stream)
    packets: list[av.Packet] = []
    for packet in _until(video, last):
        if packet.is_keyframe and (not packets or _time(packet) < first + 1):
            packets = [packet]
        elif packets and _time(packet) > _time(packets[0]):
            packets.append(packet)
    while packets and _time(packets[-1]) >= last:
        packets.pop()
    return _Part(video, packets, first, last)


def _until(video: _Video, last: float) -> Iterator[av.Packet]:
    """The packets to the last that may be shown before `last`: none is shown before its dts."""
    for packet in video.packets():
        earliest = packet.dts if packet.dts is not None else _time(packet)
        if earliest >= last:
            return
        yield packet


def _encode(part: _Part) -> bytes:
    times = sorted(map(_time, part.packets))
    inside = [index for index, time in enumerate(times) if part.inside(time)]
    if not inside:
        raise DecodeError("no frame is shown in this time")
    if any(packet.is_corrupt for packet in part.packets):
        raise DecodeError("the file is cut short")
    if _is_untimed(part):
        raise DecodeError("the file does not say when its frames are shown")
    stream = part.video.stream
    unit = float(stream.time_base or 1)
    seconds = np.asarray([times[index] for index in inside]) * unit
    fits_mp4 = stream.codec_context.name in COPIES
    piece = _copy(part, "mp4" if fits_mp4 else "matroska")
    if fits_mp4 and len(inside) == len(times):
        return piece
    clip = Clip(piece)
    if len(clip) != len(times):
        raise DecodeError(f"{len(times)} frames are stored, {len(clip)} can be told apart")
    return encode_clip(clip, inside, seconds, quality=QUALITY)


def _is_untimed(part: _Part) -> bool:
    """Whether the times only count the packets: AVI has no others for H.264 and HEVC."""
    codec = part.video.stream.codec_context
    if part.video.container.format.name != "avi" or codec.name not in ("h264", "hevc"):
        return False
    times = [_time(packet) for packet in part.packets]
    return bool(codec.has_b_frames) and times == sorted(times)


def _time(packet: av.Packet) -> int:
    if packet.pts is None:
        raise DecodeError("the file does not say when its frames are shown")
    return packet.pts


def _copy(part: _Part, format: str) -> bytes:
    """Copies the packets into a file of their own whose first frame is shown at 0."""
    file = io.BytesIO()
    with av.open(file, "w", format=format, options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream_from_template(part.video.stream)
        zero = min(map(_time, part.packets))
        for packet in part.packets:
            packet.stream = stream
            packet.pts = _time(packet) - zero
            packet.dts = None if packet.dts is None else packet.dts - zero
            container.mux(packet)  # which brings its times to the ticks of the new file
    return file.getvalue()
