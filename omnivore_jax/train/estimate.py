"""Placeholder that the owner of this file replaces."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HardwareConfig:
    """Machine."""

    chips: int = 1
    teraflops: float = 1.0
    utilisation: float = 0.3
    memory_gib: float = 16.0
