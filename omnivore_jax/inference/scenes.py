"""Meshes and point clouds as RGB-D pictures from all sides (paper, section 6).

A picture of them is a record like any other: its depth map holds 16-bit values, of which
`Intrinsics` make metres and disparity.
"""

import os
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.depth import FARTHEST, Intrinsics
from omnivore_jax.data.records import Record
from omnivore_jax.data.sample import BadRecord
from omnivore_jax.inference.renderer import Photographs, Shot, Up, photograph

Format = Literal["ply", "glb", "gltf", "obj", "stl"]
UpAxis = Up | Literal["auto"]
MAGIC: dict[bytes, Format] = {b"ply\n": "ply", b"ply\r": "ply", b"glTF": "glb"}
"""First bytes of the formats that have any; the others are told by their suffix."""
UPWARD: dict[Format, Up] = {"ply": "z", "stl": "z", "glb": "y", "gltf": "y", "obj": "y"}
"""The axis that points up where nobody says it: glTF's rule, and what is usual."""
LIBRARIES = {"trimesh": "trimesh", "vtkmodules": "vtk"}
"""Modules that draw, and the packages that they are in."""
SIDE = 480
"""Rows and columns of a picture, as many rows as a Kinect has."""
FX = 518.86
"""Pixels: the Kinect of NYU Depth v2, which SUN RGB-D holds."""
SCALE = FARTHEST / np.iinfo(np.uint16).max
"""Metres in one unit of a depth map that reaches as far as depth counts."""


class Cameras(NamedTuple):
    """Where scenes are looked at from, and what their numbers mean."""

    count: int = 8
    up: UpAxis = "auto"
    """auto: `UPWARD`."""
    unit: float = 1.0
    """Metres in one unit of a file."""


class Scene(NamedTuple):
    """A mesh or point cloud, and how it is photographed."""

    path: Path
    form: Format
    cameras: Cameras
    intrinsics: Intrinsics

    def describe(self) -> str:
        """Says it in words."""
        count, up = self.cameras.count, self.shot.up
        ring = f"{count} cameras" if count > 1 else "1 camera"
        return (
            f"{ring} around it, {up} is up, {SIDE} x {SIDE} pixels with focal length "
            f"{self.intrinsics.fx:g}, mean of the probabilities"
        )

    @property
    def shot(self) -> Shot:
        count, asked, unit = self.cameras
        up = UPWARD[self.form] if asked == "auto" else asked
        return Shot(count, up, SIDE, self.intrinsics.fx, unit)

    def records(self) -> list[Record]:
        """Draws a picture for every camera; where there is nothing, depth is that of the far end.

        Raises:
            BadRecord: the file is damaged or shows nothing, or nothing can be drawn here.

        """
        seen = self._photographs()
        if not (seen.depth < FARTHEST).any():
            nearest = float(seen.depth.min())
            raise BadRecord(
                str(self.path),
                f"the scene is {nearest:g} m away, depth counts up to {FARTHEST:g} m; give --unit, "
                "the metres in one unit of the file",
            )
        values = np.clip(np.round(seen.depth / SCALE), 1, np.iinfo(np.uint16).max)
        pairs = zip(seen.rgb, values.astype(np.uint16), strict=True)
        fx, baseline, _, _ = self.intrinsics
        return [
            Record(str(self.path), 0, _png(rgb[..., ::-1]), "", _png(depth), fx, baseline, SCALE)
            for rgb, depth in pairs
        ]

    def _photographs(self) -> Photographs:
        """Draws in a process of its own."""
        os.stat(self.path)  # that it is not there is said as of any file
        try:
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                return pool.submit(photograph, str(self.path), self.form, self.shot).result()
        except ValueError as error:
            raise BadRecord(str(self.path), str(error)) from error
        except BrokenProcessPool as error:
            raise BadRecord(
                str(self.path),
                "the process that draws it ended: OpenGL does not work here; install Mesa's "
                "(Debian, Ubuntu: apt install libegl1 libgl1-mesa-dri), or memory is short",
            ) from error


def find_scene(path: Path, cameras: Cameras, defaults: Intrinsics) -> Scene | None:
    """Tells whether a file is a scene; `defaults.fx` 0: that of a Kinect.

    Raises:
        UserError: it is one, and what it takes to draw it is not installed.

    """
    form = _form_of(path)
    if form is None:
        return None
    missing = [package for name, package in LIBRARIES.items() if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{path} is a mesh or point cloud, and drawing it takes {' and '.join(missing)}, not "
            "installed here; pip install -r requirements-scenes.txt"
        )
    return Scene(path, form, cameras, defaults._replace(fx=defaults.fx or FX, rotated=False))


def _form_of(path: Path) -> Format | None:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return None  # said where media are told apart
    suffix = path.suffix.lower().removeprefix(".")
    if start in MAGIC or not start:
        return MAGIC.get(start)
    return next((form for form in get_args(Format) if form == suffix), None)


def _png(pixels: UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w"]) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(pixels))[1].tobytes()
