"""Machines that programs are compiled for without being there: names, chips, devices."""

import os
from collections.abc import Mapping
from importlib.metadata import requires
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax

from omnivore_jax.core.errors import UserError
from omnivore_jax.model.attention.base import Device

ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_LOG_DIR": "disabled",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}
"""What keeps libtpu from asking a cloud where it is, from messages and from locking others out."""

PLANES = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
CUBES = (
    *("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8"),
    *("8x8x8", "8x8x16", "8x16x16", "16x16x16"),
)


class Chip(NamedTuple):
    """One generation of accelerators."""

    memory_gib: float
    """HBM of a device, as its maker states it."""
    usable_gib: float
    """What the compiler lets programs have of it."""
    shapes: tuple[str, ...]
    """Slices of it that are known."""
    options: Mapping[str, Any] = {}
    """What the compiler is asked for beside the shape."""


CHIPS = {
    "v4": Chip(32, 30.75, CUBES, {"chip_config_name": "megacore"}),
    "v5e": Chip(16, 15.75, PLANES),
    "v5p": Chip(95, 95.74, CUBES),
    "v6e": Chip(32, 31.25, PLANES),
    "tpu7x": Chip(96, 94.75, CUBES),
}
"""TPUs by the name of their topologies.

Memory: docs.cloud.google.com/tpu/docs, a page each; a chip of tpu7x is two devices of 96 GiB. What
is usable is what the compiler of libtpu 0.0.42 names when a program takes more.
"""


class Machine(NamedTuple):
    """A machine to compile for."""

    name: str
    chip: Chip
    devices: list[Any]

    @property
    def device(self) -> Device:
        return Device(self.devices[0].platform, self.devices[0].device_kind)


def find_chip(name: str) -> Chip:
    """Looks up the chip of a topology, v5e:4x4 for example.

    Raises:
        UserError: the topology is not known.

    """
    generation, _, shape = name.partition(":")
    if generation == "gpu":
        raise UserError(
            f"--topology={name}: compiling for GPUs that are not there is not supported yet; use a "
            f"TPU ({', '.join(CHIPS)})"
        )
    if generation not in CHIPS:
        known = ", ".join(
            f"{generation}:{chip.shapes[0]} to {chip.shapes[-1]}"
            for generation, chip in CHIPS.items()
        )
        raise UserError(f"--topology={name} is not known; known: {known}")
    if shape not in CHIPS[generation].shapes:
        known = ", ".join(CHIPS[generation].shapes)
        raise UserError(f"--topology={name} is not known; use {generation}: and one of {known}")
    return CHIPS[generation]


def open_machine(name: str) -> Machine:
    """Describes a machine by its devices, for which programs can be compiled but not run.

    Call it before anything asks for a device: this process computes on the CPU from here on.

    Raises:
        UserError: the topology is not known, or the compiler is not installed.

    """
    chip = find_chip(name)
    if find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise UserError(
            f"--topology={name}: the compiler for TPUs is not installed; pip install "
            f"'{_compiler()}' (it needs no TPU)"
        )
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    jax.config.update("jax_platforms", "cpu")
    from jax.experimental import topologies

    options = dict(chip.options)
    if name.endswith(":1x1"):
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        found = topologies.get_topology_desc(name, platform="tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--topology={name}: the compiler refuses it: {error}") from error
    return Machine(name, chip, list(found.devices))


def _compiler() -> str:
    """The package of the compiler, in the version that goes with this JAX."""
    for line in requires("jax") or ():
        if line.startswith("libtpu"):
            return line.partition(";")[0].strip()
    return "libtpu"
