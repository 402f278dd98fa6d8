"""What a run will need, by formula alone: memory of a device and hours. For the dry run.

Touches no device.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Literal, NamedTuple

from jaxtyping import PyTree

from omnivore_jax.core.tree import flatten
from omnivore_jax.model.compute import Remat
from omnivore_jax.train.mesh import partition_spec
from omnivore_jax.train.microbatch import Split

MEMORY_FORMULA = (
    "bytes of a device = parameters on it x (4 parameter + 8 moments, 4 with SGD, + 4 average) + "
    "parameters that it uses x (4 gradient, 8 when accumulated, + 2 in bfloat16, + 4 where "
    "gathered along fsdp) + micro-batch x what a sample takes in the backward pass "
    "through the largest block: what all blocks keep, what this one computes again and its "
    "gradient; n x n attention maps in float32 and in the type of the products where the backend "
    "keeps them; in tiles of 8 x 128 on a TPU + batches on the device x samples of a batch x bytes "
    "of a sample"
)
HOURS_FORMULA = (
    "hours = samples with padding x forward FLOPs x (3, and 1 more where blocks are computed "
    "again, about 1/2 where attention is) "
    "/ (chips x teraflops x 1e12 x utilisation x 3600)"
)
PASSES = {"none": 3.0, "attention": 3.5, "block": 4.0}
"""Forward and backward pass in forward passes.

A backward pass costs two, and recomputation is forward again.
"""


@dataclass(frozen=True)
class HardwareConfig:
    """The machine that an estimate is for: the section `hardware`."""

    platform: Literal["tpu", "gpu", "cpu"] = "tpu"
    chips: int = 1
    teraflops: float = 197.0
    """Peak of a chip in the type that the model computes in."""
    utilisation: float = 0.3
    """Share of the peak that training is assumed to reach."""
    memory_gib: float = 16.0
    """Of a chip."""

    def __post_init__(self):
        if self.chips < 1:
            raise ValueError(f"chips={self.chips}; use 1 or more")
        if not 0 < self.utilisation <= 1:
            raise ValueError(f"utilisation={self.utilisation}; use a share above 0, at most 1")
        for name in ("teraflops", "memory_gib"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)}; use a number above 0")


class Memory(NamedTuple):
    """Bytes on one device."""

    parameters: int
    gradients: int
    moments: int
    average: int
    activations: int
    batch: int

    @property
    def total(self) -> int:
        return sum(self)


class Elements(NamedTuple):
    """Parameters of one device."""

    stored: int
    used: int
    """In a step, which gathers them along fsdp."""


class Work(NamedTuple):
    """What a whole run does with one dataset."""

    samples: int
    """With padding."""
    flops: float
    """Of the forward pass of one sample."""
    remat: Remat


def elements_per_device(params: PyTree, mesh: Mapping[str, int]) -> Elements:
    """Counts the parameters of a device, from their shapes and the mesh (`mesh.mesh_shape`)."""
    shapes = {tuple(path.split(".")): leaf.shape for path, leaf in flatten(params).items()}

    def count(mesh: Mapping[str, int]) -> int:
        return sum(_share(path, shape, mesh) for path, shape in shapes.items())

    return Elements(count(mesh), count({**mesh, "fsdp": 1}))


def _share(path: tuple[str, ...], shape: tuple[int, ...], mesh: Mapping[str, int]) -> int:
    axes = [axis for axis in partition_spec(path, shape, mesh) if axis]
    return prod(shape) // prod(mesh[axis] for axis in axes)


def memory(
    elements: Elements,
    split: Split,
    *,
    activation_bytes: int,
    batch_bytes: int,
    narrow: bool = False,
    moments: int = 2,
) -> Memory:
    """Estimates the memory of a device during a step, by `MEMORY_FORMULA`.

    An upper bound where groups are not trained.

    `elements` are the parameters of the device (`elements_per_device`), `activation_bytes` is what
    one sample takes during a step (`cost.activation_bytes`), `batch_bytes` what one has in all
    batches on the device, in use or waiting, as the host sends them, `narrow` whether the model
    computes in bfloat16, of which parameters have a copy, `moments` how many numbers the optimizer
    keeps of each.
    """
    copies = (2 if narrow else 0) + (4 if elements.used > elements.stored else 0)
    return Memory(
        parameters=4 * elements.stored + copies * elements.used,
        gradients=(4 if split.count == 1 else 8) * elements.used,
        moments=4 * moments * elements.stored,
        average=4 * elements.stored,
        activations=split.micro * activation_bytes,
        batch=split.local * batch_bytes,
    )


def hours(work: Iterable[Work], hardware: HardwareConfig) -> float:
    """Estimates the length of a run, by `HOURS_FORMULA`.

    Waiting for data and evaluation come on top.
    """
    flops = sum(part.samples * part.flops * PASSES[part.remat] for part in work)
    return flops / (hardware.chips * hardware.teraflops * 1e12 * hardware.utilisation * 3600)
