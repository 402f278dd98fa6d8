"""SUN RGB-D.

SRC/SUNRGBD/{kv1,kv2,realsense,xtion}/.../SCENE/            or SRC/{kv1,...}/
    image/*.jpg, depth_bfx/*.png (or depth/), intrinsics.txt, scene.txt
SRC/SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat            or in SRC, or in SRC/SUNRGBD

Layout and split as rgbd.cs.princeton.edu publishes them; `alltest` becomes the split `val`. Of the
45 types of scene the 19 with more than 80 pictures are classes (Song et al. 2015, 5.1; FACTS 5).
`depth_bfx` is the depth map with its holes filled.

The PNGs hold millimetres rotated left by 3 bits. As `released` they are read as they stand, which
is 8 times the depth and what released weights expect; as `metric` they are rotated back (FACTS 8).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.depth import BASELINES, Intrinsics, read_intrinsics
from omnivore_jax.ingest.layouts.base import (
    Convention,
    DepthMap,
    FileBytes,
    Item,
    LayoutOptions,
    Listing,
    NoMedia,
)
from omnivore_jax.ingest.layouts.checks import check_wishes, contents, not_this
from omnivore_jax.ingest.layouts.lists import Entry, Files, check_missing, find_list, select
from omnivore_jax.ingest.layouts.matlab import read_lists

CLASSES = (
    "bathroom",
    "bedroom",
    "classroom",
    "computer_room",
    "conference_room",
    "corridor",
    "dining_area",
    "dining_room",
    "discussion_area",
    "furniture_store",
    "home_office",
    "kitchen",
    "lab",
    "lecture_theatre",
    "library",
    "living_room",
    "office",
    "rest_space",
    "study_space",
)
SPLIT_FOLDERS = (
    "SUNRGBDtoolbox/traintestSUNRGBD",
    "traintestSUNRGBD",
    "",
    "SUNRGBD/SUNRGBDtoolbox/traintestSUNRGBD",
)
SPLITS = {"train": "alltrain", "val": "alltest"}
ROOT = "/SUNRGBD/"
"""What the paths in the split have before the folder of the sensor, and above that their own."""
OTHERS = "scenes of other types"
UNIT = 0.001
"""Metres in a unit of the PNGs, once their bits are rotated back."""
DEPTH = {False: "depth_bfx", True: "depth"}
"""Folder of the depth maps, by `LayoutOptions.raw_depth`."""


class SunRgbd:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        check_wishes(options, "SUN RGB-D", "rgbd", has_val=True)
        root = _root(source)
        path = find_list(source, ("allsplit.mat",), SPLIT_FOLDERS, "the split of the toolbox")
        splits = _splits(path)
        types = {id: _type(root / id) for ids in splits.values() for id in ids}
        entries = {split: _entries(ids, types) for split, ids in splits.items()}
        selection = select(entries, lambda id: types[id] is not None)
        archives = sorted(file.name for file in source.glob("*.zip"))
        files = Files({}, archives, Counter())
        check_missing(selection, source, files, options.max_missing, "scenes")
        convention: Convention = options.convention or "released"

        def item(id: str) -> Item:
            return _item(root, id, selection.labels[id], options, convention)

        return Listing(
            kind="rgbd",
            classes=CLASSES,
            splits=selection.splits,
            item=item,
            ignored=+Counter(
                {OTHERS: sum(name not in (None, *CLASSES) for name in types.values())}
            ),
            missing=selection.missing,
            origin={"depth": convention, "depth_maps": DEPTH[options.raw_depth]},
        )


class _Scene(NamedTuple):
    """The files of a scene."""

    picture: Path
    depth: Path
    intrinsics: Intrinsics


def _root(source: Path) -> Path:
    for root in (source / "SUNRGBD", source):
        if any((root / sensor).is_dir() for sensor in BASELINES):
            return root
    sensors = ", ".join(BASELINES)
    raise not_this(source, f"no folder SUNRGBD of the sensors ({sensors}); unpack SUNRGBD.zip")


def _splits(path: Path) -> dict[str, list[str]]:
    """The scenes of every split, below the folder of all."""
    lists = zip(SPLITS, read_lists(path, list(SPLITS.values())), strict=True)
    return {split: [_id(str(scene), path) for scene in scenes] for split, scenes in lists}


def _id(scene: str, path: Path) -> str:
    _, root, below = scene.partition(ROOT)
    if not root:
        raise UserError(f"{path}: {scene!r} is no path of SUN RGB-D; download the toolbox again")
    return "/".join(filter(None, below.split("/")))


def _type(scene: Path) -> str | None:
    """The type of a scene; None where the scene is not there or does not say it."""
    try:
        return (scene / "scene.txt").read_text().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _entries(ids: Sequence[str], types: Mapping[str, str | None]) -> Iterator[Entry]:
    labels = {name: label for label, name in enumerate(CLASSES)}
    for id in ids:
        name = types[id]
        if name is None or name in labels:
            yield Entry(id, labels.get(name or "", -1))


def _item(root: Path, id: str, label: int, options: LayoutOptions, convention: Convention) -> Item:
    edits = ("raw_depth",) if options.raw_depth else ()
    try:
        scene = _scene(root, id, options)
    except (UserError, OSError) as error:
        return Item(id, label, NoMedia(root / id, str(error)), edits=edits)
    known = scene.intrinsics._replace(rotated=convention == "metric")
    depth = DepthMap(FileBytes(scene.depth), known, bits_rotated=True)
    return Item(id, label, FileBytes(scene.picture), depth, edits)


def _scene(root: Path, id: str, options: LayoutOptions) -> _Scene:
    """Finds the files of a scene.

    Raises:
        UserError: one is not there, or the focal length is none. OSError: no folder.

    """
    folder, sensor = root / id, id.partition("/")[0]
    if sensor not in BASELINES:
        raise UserError(f"{sensor} is none of the sensors {', '.join(BASELINES)}")
    unknown = Intrinsics(0.0, BASELINES[sensor], UNIT)
    known = read_intrinsics(folder, folder, unknown)
    if not 0 < known.fx < float("inf"):
        raise UserError(f"{folder / 'intrinsics.txt'} is missing or has no focal length")
    picture, depth = _only(folder / "image"), _only(folder / DEPTH[options.raw_depth])
    return _Scene(picture, depth, known)


def _only(folder: Path) -> Path:
    files = [path for path in folder.glob("*") if not path.name.startswith(".")]
    if len(files) != 1:
        raise UserError(f"{folder} should have one file; there is: {contents(folder)}")
    return files[0]
