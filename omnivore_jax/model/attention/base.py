"""What window attention is asked for, and what a way to compute it must offer."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, Int

Masks = tuple[
    Float[np.ndarray, "m n n"] | Float[Array, "m n n"],
    Int[np.ndarray, "windows"] | Int[Array, "windows"],
]
"""A few classes of masks, and the class of every window of a map: never a mask a window.

Of numpy, until a function with a gradient of its own makes constants of them.
"""


class Device(NamedTuple):
    """What is traced for."""

    platform: str
    """cpu, gpu or tpu."""
    kind: str = ""
    """As JAX names it, TPU v4 for example; empty where it is not known."""
    capability: float | None = None
    """Compute capability of a CUDA device, None where it is not known or there is none."""


class Call(NamedTuple):
    """One use of window attention, from shapes and types alone."""

    device: Device
    dtype: str
    tokens: int
    """Of a window."""
    head_dim: int
    heads: int
    masked: bool
    training: bool
    """Whether gradients are wanted."""
    dropout: bool


class Backend(NamedTuple):
    """A way to compute window attention."""

    name: str
    attend: Callable[
        [
            Float[Array, "g n c3"],
            Float[Array, "k n n"],
            Masks | None,
            Float[Array, "g k n n"] | None,
        ],
        Float[Array, "g n c"],
    ]
    """Takes (qkv, bias, masks, keep), as `table.window_attention` says."""
    supports: Callable[[Call], str | None]
    """Says why it cannot serve a call, None where it can."""
    passed_over: Callable[[Call], str | None] = lambda call: None
    """Says why `auto` passes it over though it can serve a call, None where it does not."""
    keeps_maps: bool = True
    """Whether n x n arrays of all windows stand in memory, and stay for the backward pass."""


def platform() -> str:
    """Names the platform that is traced for: that of the mesh, else that of the default device."""
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    name = jax.default_backend() if device is None else device.platform
    return {"cuda": "gpu", "rocm": "gpu"}.get(name, name)


def traced_device() -> Device:
    """Describes the device that is traced for: that of the mesh, else the default device."""
    mesh = jax.sharding.get_abstract_mesh()
    traced = None if mesh.empty else mesh.abstract_device
    local = jax.local_devices()[0]
    kind = local.device_kind if traced is None else traced.device_kind
    capability = getattr(local, "compute_capability", None) if kind == local.device_kind else None
    return Device(platform(), kind, None if capability is None else float(capability))
