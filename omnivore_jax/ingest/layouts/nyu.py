"""NYU Depth v2, scene classification.

SRC/nyu_depth_v2_labeled.mat                 HDF5, 1,449 pictures of 640 x 480 with depth in metres
SRC/splits.mat                               trainNdxs and testNdxs, counted from 1

Layout as cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html documents it; MATLAB stores arrays by
columns, so that every slice is transposed. The test split becomes `val`. Nine of the 27 types of
scene are classes, all others are the tenth (Gupta et al. 2013; FACTS 5). `depths` is inpainted,
`rawDepths` has holes. The camera is that of the toolbox's camera_params.m.

As `metric` depth is metres, as `released` 8 times that, like the frames of the same sensor in SUN
RGB-D as the released pipeline reads them (FACTS 8).
"""

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Shaped

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.depth import BASELINES, Intrinsics
from omnivore_jax.ingest.layouts.base import Convention, DepthMap, Item, LayoutOptions, Listing
from omnivore_jax.ingest.layouts.checks import check_wishes, not_this
from omnivore_jax.ingest.layouts.matlab import read_lists

FILE, SPLIT_FILE = "nyu_depth_v2_labeled.mat", "splits.mat"
CLASSES = (
    "bathroom",
    "bedroom",
    "bookstore",
    "classroom",
    "dining_room",
    "home_office",
    "kitchen",
    "living_room",
    "office",
    "others",
)
SPLITS = {"train": "trainNdxs", "val": "testNdxs"}
FX = 518.8579
"""Pixels, of the RGB camera onto which depth is projected."""
UNITS = {"metric": 0.001, "released": 0.008}
"""Metres in a unit of the stored maps, which hold millimetres."""
MILLIMETRES = 1000.0
DEPTHS = {False: "depths", True: "rawDepths"}
"""Array of the depth maps, by `LayoutOptions.raw_depth`."""


class NyuScenes:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        check_wishes(options, "NYU Depth v2", "rgbd", has_val=True)
        path = source / FILE
        for file in (path, source / SPLIT_FILE):
            if not file.is_file():
                raise not_this(source, f"no {file.name}, which NYU Depth v2 is published in")
        types = _types(path)
        splits = _splits(source / SPLIT_FILE, len(types))
        convention: Convention = options.convention or "released"
        known = Intrinsics(FX, BASELINES["kv1"], UNITS[convention])
        depths = DEPTHS[options.raw_depth]

        def item(id: str) -> Item:
            index = int(id) - 1
            label = CLASSES.index(types[index] if types[index] in CLASSES else "others")
            depth = DepthMap(Slice(path, depths, index), known)
            return Item(id, label, Slice(path, "images", index), depth, ("png", depths))

        origin = {"depth": convention, "depth_maps": depths}
        return Listing("rgbd", CLASSES, splits, item, Counter(), origin=origin)


class Slice(NamedTuple):
    """One picture or depth map of the file, encoded as PNG without loss (Media).

    Depth in millimetres; what is not a number or too far for 16 bits is missing (0).
    """

    path: Path
    array: str
    index: int

    @property
    def name(self) -> str:
        return f"{self.path} {self.array}[{self.index}]"

    def read(self) -> bytes:
        import h5py

        # An h5py file belongs to the thread that opened it; opening takes a millisecond.
        with h5py.File(self.path, "r", locking=False) as file:
            values = np.asarray(_dataset(file, self.array)[self.index]).T
        if self.array != "images":
            values = millimetres(values)
        return cv2.imencode(".png", values[..., ::-1] if values.ndim == 3 else values)[1].tobytes()

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def millimetres(metres: Shaped[np.ndarray, "h w"]) -> Shaped[np.ndarray, "h w"]:
    """Rounds depth in metres to 16 bits; 0 where there is none."""
    values = np.rint(np.nan_to_num(metres, nan=0.0, posinf=0.0, neginf=0.0) * MILLIMETRES)
    fits = (values > 0) & (values <= np.iinfo(np.uint16).max)
    return np.where(fits, values, 0).astype(np.uint16)


def _dataset(file: Any, name: str) -> Any:
    if name not in file:
        there = ", ".join(key for key in file if not key.startswith("#"))
        raise UserError(f"{file.filename} has no {name!r}, only {there}; download it again")
    return file[name]


def _types(path: Path) -> list[str]:
    """The type of every scene: cells that refer to strings, which are arrays of characters."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            cells = np.asarray(_dataset(file, "sceneTypes")).ravel()
            return ["".join(map(chr, np.asarray(file[cell]).ravel())) for cell in cells]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} cannot be read ({' '.join(str(error).split())}); download it again"
        ) from error


def _splits(path: Path, count: int) -> dict[str, list[str]]:
    numbers = dict(zip(SPLITS, read_lists(path, list(SPLITS.values())), strict=True))
    for split, indices in numbers.items():
        wrong = [index for index in indices if not 1 <= index <= count]
        if wrong:
            raise UserError(
                f"{path}: {SPLITS[split]} names picture {wrong[0]} of {count}; download it again"
            )
    return {split: [f"{int(index):04d}" for index in indices] for split, indices in numbers.items()}
