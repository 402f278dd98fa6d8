"""What it costs a host to read and decode samples, and how many devices' worth it can feed."""

from typing import NamedTuple

from omnivore_jax.data.manifest import Kind

PICTURE_SECONDS = {"image": 5.8e-3, "rgbd": 7.8e-3}
"""CPU seconds of a sample: decoding 500 x 375, cropping, RandAugment; 561 x 427 with its depth map
as PNG, cropping. Measured, one core (docs/data.md)."""
FRAME_SECONDS = 92e-3 / 32
"""CPU seconds of a frame of a clip: decoding 340 x 256 H.264 and cropping. Measured, one core."""


class Feeding(NamedTuple):
    """What a host does for one dataset."""

    cpu_seconds: float
    """Of one sample."""
    samples_per_second: float
    """That all cores of the host give together, where they do nothing else."""


def feeding(kind: Kind, frames: int, cores: int) -> Feeding:
    """Estimates how fast a host of `cores` cores reads samples."""
    seconds = FRAME_SECONDS * frames if kind == "video" else PICTURE_SECONDS[kind]
    return Feeding(seconds, cores / seconds)
