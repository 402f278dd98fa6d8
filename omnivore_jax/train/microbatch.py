"""How a batch is taken apart: over devices, then into micro-batches whose gradients are added up.

Arrays of a batch are seen as [devices, samples of a device, ...]: a micro-batch takes the same rows
of every device, so that no sample crosses from one to another.
"""

from dataclasses import dataclass

from omnivore_jax.train.recipe import TrainDataset


@dataclass(frozen=True)
class Split:
    """A batch of shards * local samples, taken in `count` rounds of `micro` samples a device."""

    shards: int
    local: int
    micro: int
    group: int
    """Size of a mixing group."""

    @property
    def count(self) -> int:
        return self.local // self.micro


def split_batch(name: str, samples: int, shards: int, dataset: TrainDataset, group: int) -> Split:
    """Divides a batch over `shards` devices and into the fewest equal micro-batches that `task.microbatch` allows.

    Raises:
        ValueError: the batch does not divide into devices, or (where samples are mixed) into whole mixing groups.

    """
    if samples % shards:
        raise ValueError(
            f"data.{name}.batch_size={samples} is not divisible by {shards} devices (mesh.data x "
            "mesh.fsdp); "
            f"use a multiple of {shards}"
        )
    local = samples // shards
    group = min(group, samples)
    if dataset.mixes and local % group:
        remedy = f"make the samples of a device ({local}) a multiple of it, or set mix.group to a divisor of {local}"
        raise ValueError(
            f"mix.group={group} does not divide data.{name}.batch_size={samples} over {shards} "
            f"devices; {remedy}"
        )
    most = min(dataset.recipe.microbatch or local, local)
    micro = next(size for size in range(most, 0, -1) if local % size == 0)
    return Split(shards, local, micro, group)
