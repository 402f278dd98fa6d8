"""NYU Depth v2: scene classification and segmentation.

SRC/nyu_depth_v2_labeled.mat                 HDF5, 1,449 pictures of 640 x 480 with depth in metres
SRC/splits.mat                               trainNdxs and testNdxs, counted from 1
SRC/classMapping40.mat                       for segmentation: mapClass, className

Layout as cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html documents it; MATLAB stores arrays by
columns, so that every slice is transposed. The test split becomes `val`. Nine of the 27 types of
scene are classes, all others are the tenth (Gupta et al. 2013; FACTS 5). `depths` is inpainted,
`rawDepths` has holes. The camera is that of the toolbox's camera_params.m.

For segmentation the 894 names of the file become 40 classes (Gupta et al. 2013; classMapping40.mat
as github.com/ankurhanda/nyuv2-meta-data keeps it): `mapClass` gives for every name a class from 1,
`labels` a name from 1 for every pixel, 0 for none. Pictures, depth and labels are cut to rows 45 to
471 and columns 41 to 601, of which depth is known (FACTS 5; ShapeConv, Cao et al. 2021).

As `metric` depth is metres, as `released` 8 times that, like the frames of the same sensor in SUN
RGB-D as the released pipeline reads them (FACTS 8).
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import IGNORE
from omnivore_jax.data.depth import BASELINES, Intrinsics
from omnivore_jax.ingest.layouts.base import Convention, DepthMap, Item, LayoutOptions, Listing
from omnivore_jax.ingest.layouts.checks import check_wishes, not_this
from omnivore_jax.ingest.layouts.matlab import read_lists

FILE, SPLIT_FILE = "nyu_depth_v2_labeled.mat", "splits.mat"
MAPPING_FILE = "classMapping40.mat"
WHOLE, CUT = (0, 480, 0, 640), (44, 471, 40, 601)
"""Rows and columns that are kept, counted from 0: from, to, from, to."""
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
    """Scene classification as this module describes it (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        download = _open(source, options, (FILE, SPLIT_FILE))
        types = _types(download.path)

        def item(id: str) -> Item:
            index = int(id) - 1
            label = CLASSES.index(types[index] if types[index] in CLASSES else "others")
            edits = ("png", download.depths)
            return Item(id, label, download.slice("images", index), download.depth(index), edits)

        splits = _splits(source / SPLIT_FILE, len(types))
        return Listing("rgbd", CLASSES, splits, item, Counter(), origin=download.origin)


class NyuSegmentation:
    """Segmentation into 40 classes as this module describes it (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        download = _open(source, options, (FILE, SPLIT_FILE, MAPPING_FILE), CUT)
        names, classes = read_lists(source / MAPPING_FILE, ["className", "mapClass"])
        table = _label_table(source / MAPPING_FILE, classes, len(names))
        splits = _splits(source / SPLIT_FILE, _count(download.path))

        def item(id: str) -> Item:
            index = int(id) - 1
            edits = ("png", download.depths, *CUT)
            labels = LabelSlice(download.slice("labels", index), table)
            picture = download.slice("images", index)
            return Item(id, 0, picture, download.depth(index), edits, labels)

        classes = tuple(str(name).replace(" ", "_") for name in names)
        origin = download.origin
        return Listing("rgbd", classes, splits, item, Counter(), origin=origin, labels="map")


class _Download(NamedTuple):
    """The large file, and how it is read."""

    path: Path
    depths: str
    convention: Convention
    cut: tuple[int, int, int, int]

    @property
    def origin(self) -> dict[str, str]:
        return {"depth": self.convention, "depth_maps": self.depths}

    def slice(self, array: str, index: int) -> "Slice":
        return Slice(self.path, array, index, self.cut)

    def depth(self, index: int) -> DepthMap:
        known = Intrinsics(FX, BASELINES["kv1"], UNITS[self.convention])
        return DepthMap(self.slice(self.depths, index), known)


def _open(
    source: Path,
    options: LayoutOptions,
    files: Sequence[str],
    cut: tuple[int, int, int, int] = WHOLE,
) -> _Download:
    check_wishes(options, "NYU Depth v2", "rgbd", has_val=True)
    for name in files:
        if not (source / name).is_file():
            raise not_this(source, f"no {name}, which NYU Depth v2 is published in")
    depths = DEPTHS[options.raw_depth]
    return _Download(source / FILE, depths, options.convention or "released", cut)


class Slice(NamedTuple):
    """One picture or map of the file, encoded as PNG without loss (Media).

    Depth in millimetres; what is not a number or too far for 16 bits is missing (0).
    """

    path: Path
    array: str
    index: int
    cut: tuple[int, int, int, int]
    """Rows and columns that are kept: from, to, from, to."""

    @property
    def name(self) -> str:
        return f"{self.path} {self.array}[{self.index}]"

    def read(self) -> bytes:
        values = self.values()
        if self.array != "images":
            values = millimetres(values)
        return cv2.imencode(".png", values[..., ::-1] if values.ndim == 3 else values)[1].tobytes()

    def values(self) -> Shaped[np.ndarray, "h w ..."]:
        """Reads the numbers as they are, rows first."""
        import h5py

        # An h5py file belongs to the thread that opened it; opening takes a millisecond.
        with h5py.File(self.path, "r", locking=False) as file:
            values = np.asarray(_dataset(file, self.array)[self.index]).T
        top, bottom, left, right = self.cut
        return values[top:bottom, left:right]

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


class LabelSlice(NamedTuple):
    """The map of labels of one picture, as PNG (Media)."""

    names: Slice
    table: UInt8[np.ndarray, " names"]
    """The class of every name of the file; 255 for none."""

    @property
    def name(self) -> str:
        return self.names.name

    def read(self) -> bytes:
        values = self.names.values()
        if values.max() >= len(self.table):
            raise OSError(f"{self.name} has name {values.max()} of {len(self.table) - 1}")
        return cv2.imencode(".png", self.table[values])[1].tobytes()

    def size(self) -> int:
        return self.names.size()


def _label_table(path: Path, classes: Sequence[Any], count: int) -> UInt8[np.ndarray, " names"]:
    """Classes from 0 by the numbers of the file, of which 0 is nobody's."""
    numbers = np.array([0, *classes], np.int64)
    if not 1 < count < IGNORE or numbers.min() < 0 or numbers.max() > count:
        raise UserError(
            f"{path}: mapClass runs to {numbers.max()}, className has {count} names; download it "
            "again"
        )
    return np.where(numbers > 0, numbers - 1, IGNORE).astype(np.uint8)


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


def _count(path: Path) -> int:
    """Counts the pictures, all of which have labels."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            return len(_dataset(file, "labels"))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be read ({' '.join(str(error).split())}); download it again")


def _types(path: Path) -> list[str]:
    """The type of every scene: cells that refer to strings, which are arrays of characters."""
    import h5py

    try:
        with h5py.File(path, "r", locking=False) as file:
            cells = np.asarray(_dataset(file, "sceneTypes")).ravel()
            return ["".join(map(chr, np.asarray(file[cell]).ravel())) for cell in cells]
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error


def _splits(path: Path, count: int) -> dict[str, list[str]]:
    numbers = dict(zip(SPLITS, read_lists(path, list(SPLITS.values())), strict=True))
    for split, indices in numbers.items():
        wrong = [index for index in indices if not 1 <= index <= count]
        if wrong:
            raise UserError(
                f"{path}: {SPLITS[split]} names picture {wrong[0]} of {count}; download it again"
            )
    return {split: [f"{int(index):04d}" for index in indices] for split, indices in numbers.items()}
