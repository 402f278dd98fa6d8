"""What a dataset gives: one sample as arrays, or the name of a record that cannot be read."""

from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, UInt8


class Sample(NamedTuple):
    """One labelled picture (t = 1), clip or RGB-D picture, cropped and augmented on the host.

    Where all views of a protocol are asked for, they lie in front (transforms.ViewsTransform).
    """

    rgb: UInt8[np.ndarray, "*v t h w 3"]
    disparity: Float32[np.ndarray, "*v t h w 1"] | None
    label: int | UInt8[np.ndarray, "*v h w"]
    """A class, or a map of classes with `IGNORE` where there is none."""
    id: str


class BadRecord(Exception):
    """A record that cannot be decoded; the loader counts and names it and takes another sample."""

    def __init__(self, id: str, reason: str):
        super().__init__(f"{id}: {reason}")
        self.id = id
        self.reason = reason

    def __reduce__(self):
        return BadRecord, (self.id, self.reason)


@runtime_checkable
class Dataset(Protocol):
    """One split of a dataset; indices run from 0 to len - 1.

    It travels to worker processes, so it must pickle.
    """

    def __len__(self) -> int: ...

    def load(self, index: int, seed: int) -> Sample:
        """Reads, decodes, crops and augments one sample.

        The result depends on nothing but (index, seed).

        A validation split ignores the seed.

        Raises:
            BadRecord: the record is damaged.

        """
        ...
