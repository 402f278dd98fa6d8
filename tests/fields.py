"""H.264 of fields, written bit by bit: no encoder at hand codes the two fields of a frame apart."""

import io
import re
from fractions import Fraction

import av


def golomb(value: int) -> str:
    code = f"{value + 1:b}"
    return "0" * (len(code) - 1) + code


def unit(kind: int, bits: str, samples: bytes = b"") -> bytes:
    """A unit with its start code; `samples` follow at the next whole byte."""
    if samples:
        bits += "0" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big") + samples + b"\x80"
    else:
        bits += "1"
        bits += "0" * (-len(bits) % 8)
        data = int(bits, 2).to_bytes(len(bits) // 8, "big")
    return b"\0\0\0\1" + bytes([kind]) + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\0\0\3", data)


def parameter_sets() -> bytes:
    ue = golomb
    sps = f"{77:08b}{0:08b}{30:08b}" + ue(0) + ue(0) + ue(2) + ue(1) + "0" + ue(0) + ue(0) + "00100"
    pps = ue(0) + ue(0) + "00" + ue(0) * 3 + "000" + ue(0) * 3 + "100"
    return unit(0x67, sps) + unit(0x68, pps)


def field(k: int, bottom: bool, grey: int) -> bytes:
    """A field of frame k, all of one grey, uncompressed (I_PCM)."""
    ue = golomb
    header = ue(0) + ue(7) + ue(0) + "0000" + "1" + f"{bottom:b}"
    header += "0" if bottom else ue(k % 2) + "00"
    macroblock = bytes([grey]) * 256 + bytes([128]) * 128
    return unit(0x61 if bottom else 0x65, header + ue(0) + ue(1) + ue(25), macroblock)


def clip_of_fields(format: str, greys: list[int]) -> bytes:
    """A clip whose frames each are two packets with their own times, 1/50 s apart."""
    parts = []
    for k, grey in enumerate(greys):
        parts += [parameter_sets() + field(k, False, grey), field(k, True, grey)]
    file = io.BytesIO()
    raw = av.open(io.BytesIO(b"".join(parts)), format="h264")
    with av.open(file, "w", format=format) as container:
        stream = container.add_stream_from_template(raw.streams.video[0])
        for k, data in enumerate(parts):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, Fraction(1, 50)
            packet.pts = packet.dts = k
            packet.is_keyframe = k % 2 == 0
            container.mux(packet)
    return file.getvalue()
