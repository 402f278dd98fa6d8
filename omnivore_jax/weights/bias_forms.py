"""Position bias from one form to the other (factored, joint) and from window to window.

Tables of numpy; time is the slowest axis of a joint table's rows, columns are heads.
"""

from typing import Literal

import numpy as np
from jaxtyping import Float

from omnivore_jax.core.types import Size

Keep = Literal["all", "image"]
"""What a factored bias keeps of a joint one: most over all offsets, or all within a frame."""

CUBIC = -0.75
"""PyTorch's coefficient of bicubic interpolation."""


def joint_table(
    spatial: Float[np.ndarray, "s k"], temporal: Float[np.ndarray, "t k"]
) -> Float[np.ndarray, "offsets k"]:
    """The joint table that gives the same bias."""
    return (temporal[:, None] + spatial[None]).reshape(-1, spatial.shape[1])


def factored_tables(
    joint: Float[np.ndarray, "offsets k"], window: Size, keep: Keep = "all"
) -> tuple[Float[np.ndarray, "s k"], Float[np.ndarray, "t k"]]:
    """Spatial and temporal tables whose sum is nearest to a joint one in least squares.

    `keep="image"`: nearest among those that agree with it where the temporal offset is 0: stills
    score the same.
    """
    table = joint.astype(np.float64).reshape(2 * window[0] - 1, -1, joint.shape[1])
    spatial = table.mean(0) if keep == "all" else table[window[0] - 1]
    temporal = (table - spatial[None]).mean(1)
    return spatial.astype(joint.dtype), temporal.astype(joint.dtype)


def lost(joint: Float[np.ndarray, "offsets k"], spatial: np.ndarray, temporal: np.ndarray) -> float:
    """Root mean square of what two tables leave out of a joint one, relative to it."""
    rest = joint.astype(np.float64) - joint_table(spatial, temporal)
    return float(np.linalg.norm(rest) / max(np.linalg.norm(joint.astype(np.float64)), 1e-30))


def resize_table(
    table: Float[np.ndarray, "rows k"], old: Size, new: Size
) -> Float[np.ndarray, "rows2 k"]:
    """A table for another window: bicubic over space, by offset over time.

    The same picture falls into a window of another width, so spatial offsets are stretched
    (released code; PyTorch's bicubic without antialias). A frame stays a frame: offsets in time
    that both windows have keep their rows, new ones repeat the row of the longest known offset.
    From a 2-D table (one frame) that is the inflation of the released code.
    """
    (t, h, w), (t2, h2, w2) = _offsets(old), _offsets(new)
    cube = table.reshape(t, h, w, -1)
    if (h, w) != (h2, w2):
        cube = resize_bicubic(cube, (h2, w2))
    offsets = np.clip(np.arange(t2) - t2 // 2, -(t // 2), t // 2) + t // 2
    return np.ascontiguousarray(cube[offsets].reshape(t2 * h2 * w2, -1))


def _offsets(window: Size) -> Size:
    """Numbers of offsets between two tokens of a window, by axis."""
    t, h, w = window
    return 2 * t - 1, 2 * h - 1, 2 * w - 1


def resize_bicubic(
    x: Float[np.ndarray, "n h w c"], size: tuple[int, int]
) -> Float[np.ndarray, "n h2 w2 c"]:
    """Resizes as PyTorch does.

    Source: torch.nn.functional.interpolate(mode="bicubic", align_corners=False, antialias=False).
    """
    rows, columns = (_weights(n, m) for n, m in zip(x.shape[1:3], size, strict=True))
    out = np.einsum("ph,qw,nhwc->npqc", rows, columns, x.astype(np.float64), optimize=True)
    return out.astype(x.dtype)


def _weights(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """How much every old sample counts for every new one.

    Beyond the border its last sample repeats.

    Positions are float32, as PyTorch's, which differ from exact ones in the sixth digit of the
    result.
    """
    at = np.float32(old / new) * (np.arange(new, dtype=np.float32) + np.float32(0.5)) - np.float32(
        0.5
    )
    first = np.floor(at).astype(int)
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        sample = np.clip(first + tap, 0, old - 1)
        np.add.at(weights, (np.arange(new), sample), _cubic(np.abs(at - first - tap)))
    return weights


def _cubic(d: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """The cubic convolution kernel (Keys) at distances up to 2."""
    near = (CUBIC + 2) * d**3 - (CUBIC + 3) * d**2 + 1
    far = CUBIC * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, far)
