"""Weights files.

Safetensors whose metadata hold a card, so that a file alone is enough to build and feed its model.

Read through the safetensors library. Written here, tensor by tensor: the library wants all of them
in memory at once, and the certificate of a conversion enters the card when the tensors are in the
file already.
"""

import json
import math
import struct
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.lazy import LazyArray
from omnivore_jax.weights.reading import reading

CARD = "card"
ROOM = 1 << 16
"""Bytes of the header that stay free for what enters the card later, and for every head
`ROOM_PER_HEAD`; the format allows spaces at its end."""
ROOM_PER_HEAD = 1 << 10
ALIGNMENT = 64
"""Bytes; of the header's length, and of arrays in memory."""
DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
CODES = {name: code for code, name in DTYPES.items()}


def read_safetensors(path: Path) -> tuple[dict[str, LazyArray], dict[str, str]]:
    """Opens a file; the arrays are read when they are asked for. Returns them and the metadata.

    Raises:
        UserError: it is no safetensors file, or its header does not fit its length.

    """
    try:
        # The library checks that the header describes just the bytes that are there.
        with reading(path), safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"{path} is not a whole safetensors file ({reason}); get it again"
        ) from error
    with reading(path), path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    metadata = header.pop("__metadata__", None) or {}
    return {name: _lazy(path, name, entry, 8 + length) for name, entry in header.items()}, metadata


def _lazy(path: Path, name: str, entry: Mapping[str, Any], start: int) -> LazyArray:
    if entry["dtype"] not in DTYPES:
        raise UserError(
            f"{path}: {name} is of type {entry['dtype']}; use one of {', '.join(DTYPES)}"
        )
    shape, dtype = tuple(entry["shape"]), DTYPES[entry["dtype"]]
    return LazyArray(
        shape, dtype, partial(_read, path, start + entry["data_offsets"][0], shape, dtype)
    )


def _read(path: Path, start: int, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Reads an array to where JAX can use it on a CPU without a copy."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    room = np.empty(size + ALIGNMENT, np.uint8)
    first = -room.ctypes.data % ALIGNMENT
    content = room[first : first + size]
    with reading(path), path.open("rb") as file:
        file.seek(start)
        if file.readinto(content.data) != size:
            raise UserError(f"{path} became shorter while it was read; get it again")
    return content.view(dtype).reshape(shape)


def write_safetensors(path: Path, arrays: Mapping[str, LazyArray], card: Mapping[str, Any]) -> None:
    """Writes arrays and their card into a draft (`files.new_file`); holds one array at a time.

    Raises:
        ValueError: an array is not what it said.

    """
    header, position = {}, 0
    for name, array in arrays.items():
        size = math.prod(array.shape) * np.dtype(array.dtype).itemsize
        offsets = [position, position + size]
        header[name] = {
            "dtype": CODES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": offsets,
        }
        position += size
    with path.open("wb") as file:
        file.write(_header(header, card, ROOM + ROOM_PER_HEAD * len(card.get("heads", ()))))
        for name, array in arrays.items():
            content = np.asarray(array.read(), order="C")
            if (content.shape, str(content.dtype)) != (array.shape, array.dtype):
                raise ValueError(
                    f"{name} is {content.dtype}{content.shape} instead of "
                    f"{array.dtype}{array.shape}"
                )
            file.write(content.tobytes() if content.dtype == "bfloat16" else content.data)


def replace_card(path: Path, card: Mapping[str, Any]) -> None:
    """Writes another card into a file that `write_safetensors` made.

    The arrays stay where they are.
    """
    with path.open("rb+") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
        del header["__metadata__"]
        new = _header(header, card, 0, length)
        file.seek(0)
        file.write(new)


def _header(
    entries: Mapping[str, Any], card: Mapping[str, Any], room: int, length: int = 0
) -> bytes:
    """The first bytes of a file, with `room` to grow; `length`: what they must fill instead."""
    text = json.dumps({"__metadata__": {CARD: json.dumps(card)}, **entries}).encode()
    length = length or -(-(len(text) + room + 8) // ALIGNMENT) * ALIGNMENT - 8
    if len(text) > length:
        raise ValueError(
            f"the card has grown by {len(text) - length} bytes more than there is room for"
        )
    return struct.pack("<Q", length) + text.ljust(length)
