"""Tells from the parameters of an H.264 stream whether its packets may hold fields, not frames."""

import re
from collections.abc import Iterator

HIGH_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
"""Those whose parameters begin with the format of chroma (H.264, 7.3.2.1.1)."""
START = re.compile(rb"\x00\x00\x01[\x07\x27\x47\x67]")
"""Where a sequence parameter set begins among units with start codes (H.264, annex B)."""
LONGEST = 4096
"""Bytes in which a parameter set ends."""


def may_hold_fields(data: bytes) -> bool:
    """Tells whether any sequence parameter set allows pictures of one field.

    `data`: the head of a stream (avcC) or units with start codes. True where none can be read: then
    nothing is known.
    """
    try:
        flags = [_frames_only(_Bits(unit)) for unit in _parameter_sets(data)]
    except IndexError:
        return True
    return not flags or not all(flags)


def _parameter_sets(data: bytes) -> Iterator[bytes]:
    """The sequence parameter sets, each without the byte that says what it is."""
    if data[:1] != b"\1":
        yield from (data[at.end() : at.end() + LONGEST] for at in START.finditer(data))
        return
    at = 6  # ISO/IEC 14496-15, 5.3.3.1: the count, then each with its length
    for _ in range(data[5] & 31):
        size = int.from_bytes(data[at : at + 2], "big")
        yield data[at + 3 : at + 2 + size]
        at += 2 + size


class _Bits:
    """Reads numbers from the bits of a unit."""

    def __init__(self, unit: bytes):
        self.data = unit.replace(b"\0\0\3", b"\0\0")  # 7.4.1: without emulation prevention
        self.at = 0

    def take(self, count: int = 1) -> int:
        value = 0
        for _ in range(count):
            value = value << 1 | self.data[self.at >> 3] >> (7 - (self.at & 7)) & 1
            self.at += 1
        return value

    def golomb(self) -> int:
        """Reads ue(v), of 9.1."""
        zeros = 0
        while not self.take():
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """Reads se(v), of 9.1.1."""
        value = self.golomb()
        return (value + 1) // 2 if value & 1 else -(value // 2)


def _frames_only(bits: _Bits) -> bool:
    """Reads on to `frame_mbs_only_flag` (7.3.2.1.1)."""
    profile = bits.take(8)
    bits.take(16)
    bits.golomb()
    if profile in HIGH_PROFILES:
        _skip_formats(bits)
    bits.golomb()
    order = bits.golomb()  # pic_order_cnt_type
    if order == 0:
        bits.golomb()
    elif order == 1:
        bits.take()
        for _ in range(2):
            bits.golomb()
        for _ in range(bits.golomb()):
            bits.golomb()
    bits.golomb()
    bits.take()
    bits.golomb()
    bits.golomb()
    return bool(bits.take())


def _skip_formats(bits: _Bits) -> None:
    """Skips chroma, depth of bits and scaling lists."""
    chroma = bits.golomb()
    if chroma == 3:
        bits.take()
    bits.golomb()
    bits.golomb()
    bits.take()
    if bits.take():
        for k in range(12 if chroma == 3 else 8):
            if bits.take():
                _skip_scaling_list(bits, 16 if k < 6 else 64)


def _skip_scaling_list(bits: _Bits, size: int) -> None:
    last = 8
    for _ in range(size):
        last = (last + bits.signed()) % 256  # 7.3.2.1.1.1: the rest repeats after a 0
        if last == 0:
            return
