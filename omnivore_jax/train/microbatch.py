"""How a batch is taken apart: over devices, then into micro-batches whose gradients are added up.

Arrays of a batch are seen as [devices, samples of a device, ...]: a micro-batch takes the same rows
of every device, so that no sample crosses from one to another. Where a batch does not divide, it is
padded with masked slots at its end. There they cost no more than spread out, as every device
computes as many slots as the fullest; and a sample's slot, from which its randomness comes, is its
place in the batch on any number of devices.
"""

from dataclasses import dataclass

from omnivore_jax.train.recipe import TrainDataset


@dataclass(frozen=True)
class Split:
    """A batch of shards * local slots, taken in `count` rounds of `micro` slots a device."""

    shards: int
    local: int
    micro: int

    @property
    def count(self) -> int:
        return self.local // self.micro

    @property
    def slots(self) -> int:
        """Samples and padding of the whole batch."""
        return self.shards * self.local


def split_batch(samples: int, shards: int, dataset: TrainDataset) -> Split:
    """Divides a batch over `shards` devices and into micro-batches that `microbatch` allows.

    Of the sizes above half of what is allowed it takes the one that pads least. Where samples are
    mixed, a device has whole pairs, and so has a micro-batch unless it may hold one sample only.
    The slots of a split, divided again, give the same split.
    """
    unit = 2 if dataset.mixes else 1
    need = -(-samples // (shards * unit))  # units of a device
    limit = dataset.recipe.microbatch
    if limit == 1:
        return Split(shards, need * unit, 1)
    largest = min(limit // unit or need, need)
    micro = min(range(largest, largest // 2, -1), key=lambda size: -need % size)
    return Split(shards, (need + -need % micro) * unit, micro * unit)
