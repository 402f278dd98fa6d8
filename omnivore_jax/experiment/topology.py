"""Machines that programs are compiled for without being there: names, chips, devices."""

import os
from collections.abc import Mapping
from importlib.metadata import requires
from importlib.util import find_spec
from pathlib import Path
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


NODES = ("1", "2", "4", "8", *(f"{hosts}x8" for hosts in (2, 4, 8, 16, 32, 64, 128)))
"""GPUs of a host, or hosts and GPUs of each."""


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
    target: str = ""
    """Of a GPU: the file beside this one that describes it."""

    @property
    def compiler(self) -> str:
        """The package that holds its compiler."""
        return "jax-cuda13-plugin" if self.target else "libtpu"


CHIPS = {
    "v4": Chip(32, 30.75, CUBES, {"chip_config_name": "megacore"}),
    "v5e": Chip(16, 15.75, PLANES),
    "v5p": Chip(95, 95.74, CUBES),
    "v6e": Chip(32, 31.25, PLANES),
    "tpu7x": Chip(96, 94.75, CUBES),
    "h100": Chip(79.1, 59.3, NODES, target="h100.txtpb"),
}
"""By the name of their topologies.

Memory of TPUs: docs.cloud.google.com/tpu/docs, a page each; a chip of tpu7x is two devices of 96
GiB. What is usable is what the compiler of libtpu 0.0.42 names when a program takes more. Of a GPU
JAX takes three quarters, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
"""

GPU_COMPILER = {
    "xla_gpu_autotune_level": 0,  # there is nothing to try programs on
    "xla_gpu_enable_triton_gemm": False,  # without a trial some products find no size of tiles
}


class Machine(NamedTuple):
    """A machine to compile for."""

    name: str
    chip: Chip
    devices: list[Any]
    compiler: Mapping[str, Any] = {}
    """Options of the compiler."""

    @property
    def device(self) -> Device:
        return Device(self.devices[0].platform, self.devices[0].device_kind)


def find_chip(name: str) -> Chip:
    """Looks up the chip of a topology, v5e:4x4 for example.

    Raises:
        UserError: the topology is not known.

    """
    generation, _, shape = name.partition(":")
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
    return _open_gpus(name, chip) if chip.target else _open_tpus(name, chip)


def _open_tpus(name: str, chip: Chip) -> Machine:
    if find_spec("libtpu") is None and "TPU_LIBRARY_PATH" not in os.environ:
        raise UserError(
            f"--topology={name}: the compiler for TPUs is not installed; pip install "
            f"'{_compiler()}' (it needs no TPU)"
        )
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    options = dict(chip.options)
    if name.endswith(":1x1"):
        options["chips_per_host_bounds"] = (1, 1, 1)
    return Machine(name, chip, _devices(name, name, platform="tpu", **options))


def _open_gpus(name: str, chip: Chip) -> Machine:
    if find_spec("jax_cuda13_plugin") is None:
        raise UserError(
            f"--topology={name}: the compiler for GPUs is not installed; pip install -r "
            "requirements-gpu.txt (it needs no GPU)"
        )
    target = Path(__file__).with_name(chip.target).read_text(encoding="utf-8")
    shape = name.partition(":")[2]
    shape = f"1x{shape}" if "x" in shape else f"1x1x{shape}"
    devices = _devices(name, platform="cuda", target_config=target, topology=shape)
    toolkit = find_spec("nvidia.cu13")
    places = list(toolkit.submodule_search_locations or ()) if toolkit else []
    compiler = GPU_COMPILER | ({"xla_gpu_cuda_data_dir": places[0]} if places else {})
    return Machine(name, chip, devices, compiler)


def _devices(name: str, *shape: str, **options: Any) -> list[Any]:
    jax.config.update("jax_platforms", "cpu")
    from jax.experimental import topologies

    try:
        return list(topologies.get_topology_desc(*shape, **options).devices)
    except jax.errors.JaxRuntimeError as error:
        raise UserError(f"--topology={name}: the compiler refuses it: {error}") from error


def _compiler() -> str:
    """The package of the compiler, in the version that goes with this JAX."""
    for line in requires("jax") or ():
        if line.startswith("libtpu"):
            return line.partition(";")[0].strip()
    return "libtpu"
