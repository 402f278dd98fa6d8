"""Depth maps to disparity, the fourth channel of an RGB-D picture.

disparity = baseline * fx / depth: baseline in metres, fx in pixels of the depth map as it was taken
(a later resize does not change it), depth clipped to [0.01, 50] first: the released pipeline
(facebookresearch/omnivore, issue 12). The transforms clamp it before they resize; dividing and
normalizing follow on the device.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32, UInt16

from omnivore_jax.core.errors import UserError

BASELINES: Mapping[str, float] = {"kv1": 0.075, "kv2": 0.075, "realsense": 0.095, "xtion": 0.095}
"""Metres, by the sensor folders of SUN RGB-D; that of xtion is a guess of the authors."""

NEAREST, FARTHEST = 0.01, 50.0
TOOLBOX_FARTHEST = 8.0
"""Metres at which the SUN RGB-D toolbox caps a depth map."""

Missing = Literal["far", "near"]


def depth_of(
    values: UInt16[np.ndarray, "h w"], scale: float, *, rotated: bool = False
) -> Float32[np.ndarray, "h w"]:
    """Turns the values of a 16-bit PNG into depth: metres if `scale` is metres a unit.

    `rotated`: the bits were rotated left by 3, as in the PNGs of SUN RGB-D, and are rotated back
    and capped at 8 m, as its toolbox does. The released pipeline reads those files without: its
    depth is 8 times the metres and so are the statistics that its weights expect. Keep to one
    convention for training and use.
    """
    if not rotated:
        return values.astype(np.float32) * np.float32(scale)
    return np.minimum(
        rotate_back(values).astype(np.float32) * np.float32(scale), np.float32(TOOLBOX_FARTHEST)
    )


def rotate_back(values: UInt16[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """Makes millimetres of the values of a PNG of SUN RGB-D."""
    return (values >> 3) | (values << 13)


def rotate_left(values: UInt16[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """Makes the values of a PNG of SUN RGB-D of millimetres."""
    return (values << 3) | (values >> 13)


def disparity_of(
    depth: Float32[np.ndarray, "h w"], fx: float, baseline: float, missing: Missing = "far"
) -> Float32[np.ndarray, "h w"]:
    """Computes disparity; where the sensor saw nothing (0), it is that of the far end, 50 m.

    `missing="near"` is the released pipeline: 0 is clipped to 0.01 m and becomes the *nearest*
    value, 32 standard deviations off. Its maps were inpainted and have hardly any such pixels.
    """
    seen = np.where(depth > 0, depth, np.float32(FARTHEST)) if missing == "far" else depth
    return np.float32(baseline * fx) / np.clip(seen, np.float32(NEAREST), np.float32(FARTHEST))


class Intrinsics(NamedTuple):
    """What turns the values of a depth map into disparity, beside the values."""

    fx: float
    baseline: float
    scale: float
    rotated: bool = False


def read_intrinsics(source: Path, folder: Path, defaults: Intrinsics) -> Intrinsics:
    """Finds what files say of the depth maps in `folder`.

    The nearest file between it and `source` wins, key by key.

    `depth.json` may hold any of fx, baseline, scale (metres a unit) and rotated; `intrinsics.txt`
    begins with fx, as in SUN RGB-D.

    Raises:
        UserError: such a file is there and cannot be understood.

    """
    values: dict[str, float | bool] = {}
    for level in (folder, *folder.parents):
        values = _read_json(level / "depth.json") | _read_text(level / "intrinsics.txt") | values
        if level == source:
            break
    return defaults._replace(**values)


def _read_json(path: Path) -> dict[str, float | bool]:
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        _check_keys(content)
        return {
            key: bool(value) if key == "rotated" else float(value) for key, value in content.items()
        }
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be used ({error}); write for example "
            '{"fx": 518.86, "baseline": 0.075, "scale": 0.001}'
        ) from error


def _check_keys(content: Mapping[str, object]) -> None:
    unknown = set(content) - set(Intrinsics._fields)
    if unknown:
        raise ValueError(f"unknown key {min(unknown)!r}")


def _read_text(path: Path) -> dict[str, float | bool]:
    if not path.exists():
        return {}
    try:
        return {"fx": float(path.read_text().split()[0])}
    except (OSError, ValueError, IndexError) as error:
        raise UserError(
            f"{path} does not begin with the focal length ({error}); mend or remove it"
        ) from error
