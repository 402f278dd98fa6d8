"""PyTorch's own files, read without running anything that is in them.

Beside it only the certificate imports torch.
"""

import argparse
import pickle
import struct
import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.lazy import LazyArray
from omnivore_jax.weights.reading import kind_of
from omnivore_jax.weights.safetensors import DTYPES as CODES

DEEPEST = 16
"""Dicts within dicts; a file that goes on below is not weights (a pickle can hold itself)."""
DTYPES = frozenset(CODES.values())
DAMAGED = (
    RuntimeError,
    AssertionError,
    OverflowError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    OSError,
    struct.error,
    MemoryError,
)
"""What torch raises for a file that is cut off or no checkpoint at all."""


def import_torch(purpose: str) -> Any:
    """Gives the module.

    Raises:
        UserError: it is not installed.

    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UserError(
            f"{purpose} needs PyTorch; pip install -r requirements-torch.txt"
        ) from error
    return torch


def read_torch(path: Path) -> tuple[dict[str, LazyArray], list[str]]:
    """Opens a checkpoint: all its tensors by dotted key, and the keys of what is no tensor.

    Pages of the file are read when an array is asked for, where PyTorch's newer format allows.

    Raises:
        UserError: PyTorch is missing, the file is damaged, or would run code.

    """
    torch = import_torch(f"reading {path}")
    tensors, others = {}, []
    for key, value in _leaves(path, _load(torch, path), "", 0):
        if isinstance(value, torch.Tensor):
            if key in tensors:
                raise UserError(f"{path} has two tensors {key!r}; it is damaged")
            tensors[key] = _lazy(torch, value.detach(), f"{path}: {key}")
        else:
            others.append(key)
    return tensors, others


def write_torch(path: Path, tree: Mapping[str, Any]) -> None:
    """Saves nested dicts of arrays, as tensors; `path` is a draft (output.new_file)."""
    torch = import_torch(f"writing {path}")
    torch.save(_tensors(torch, tree, {}), path)


def _tensors(torch: Any, node: Any, made: dict[int, Any]) -> Any:
    """Tensors of nested arrays; `made`.

    Those that are there already, for an array that is there often is stored once.

    No function inside `write_torch`, where it would keep all arrays alive until Python looks for
    cycles.
    """
    if isinstance(node, Mapping):
        return {key: _tensors(torch, value, made) for key, value in node.items()}
    if id(node) not in made:
        made[id(node)] = torch.from_numpy(np.require(node, requirements=["C", "W"]))
    return made[id(node)]


def _load(torch: Any, path: Path) -> Any:
    # torch goes by the name where it sees one, and would not read a pickle called .safetensors.
    mapped = kind_of(path) == "zip" and path.suffix != ".safetensors"
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_inert()):
            warnings.simplefilter("ignore")  # advice about how the file was pickled
            if mapped:
                return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
            with path.open("rb") as file:
                return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = _unsafe(str(error))
        raise UserError(
            f"{path} asks to run code ({found}) and was not opened; if you trust it, save its "
            "state dict alone: "
            "torch.save(torch.load(FILE, weights_only=False)[KEY], NEW_FILE)"
            if found
            else f"{path} is not a checkpoint of PyTorch or damaged; get it again"
        ) from error
    except DAMAGED as error:
        raise UserError(
            f"{path} is not a checkpoint of PyTorch or damaged; get it again"
        ) from error


def _inert() -> list[Any]:
    """Lists types beside the tensors of training files that do nothing when they are made."""
    from numpy._core.multiarray import scalar

    numbers = [type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")]
    return [
        argparse.Namespace,
        np.dtype,
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        *numbers,
    ]


def _unsafe(message: str) -> str | None:
    """What a refused pickle asks for, by torch's words ("... GLOBAL posix.system was not ...")."""
    for mark in ("GLOBAL ", "Trying to load unsupported ", "unsupported operand "):
        if mark in message:
            return message.split(mark, 1)[1].split()[0]
    return None


def _leaves(path: Path, node: Any, key: str, depth: int):
    if depth > DEEPEST:
        raise UserError(
            f"{path} has dicts more than {DEEPEST} deep at {key[:80]!r}; this is no checkpoint"
        )
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _leaves(path, value, f"{key}.{name}" if key else str(name), depth + 1)
    else:
        yield key, node


def _lazy(torch: Any, tensor: Any, where: str) -> LazyArray:
    dtype = str(tensor.dtype).removeprefix("torch.")
    dense = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if dense and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise UserError(
            f"{where} has shape {list(tensor.shape)}, but less is stored of it; save it dense"
        )
    if dtype not in DTYPES or not dense:
        kind = f"{dtype}, {str(tensor.layout).removeprefix('torch.')}, on {tensor.device.type}"
        raise UserError(
            f"{where} is a tensor that is not plain numbers ({kind}); save it dense, as float32"
        )
    return LazyArray(tuple(tensor.shape), dtype, partial(_read, torch, tensor))


def _read(torch: Any, tensor: Any) -> np.ndarray:
    if tensor.dtype != torch.bfloat16:
        return tensor.numpy()
    return tensor.view(torch.int16).numpy().view("bfloat16")
