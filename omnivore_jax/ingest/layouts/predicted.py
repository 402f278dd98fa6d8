"""Depth maps that a network predicted, beside the pictures of any layout.

    DIR/<id of the picture, without its suffix>.npy      or .npz, .pfm, .tiff, .tif, .png
    DIR/<name of the picture, without its suffix>.npy    where all maps lie in one folder

So pictures become RGB-D, as the paper has it for ImageNet (Figs. 1 and 4). Its maps come from
DPT-large, whose output is disparity without a unit: it is taken as it stands, at least 0.01, so
that what is negative is far (FACTS 5 and 8). PNGs have 16 bits; whole numbers, of any file, are
multiplied by the unit of `Intrinsics.scale`.

A record holds depth in 16 bits (data/depth.py), so disparity is stored as POWER / disparity.
"""

import io
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Shaped, UInt16

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.decode import DecodeError, decode_depth
from omnivore_jax.data.depth import NEAREST, Intrinsics
from omnivore_jax.ingest.layouts.base import DepthMap, Item, LayoutOptions, Listing
from omnivore_jax.ingest.layouts.checks import shown
from omnivore_jax.ingest.layouts.lists import walk
from omnivore_jax.ingest.layouts.nyu import millimetres

Meaning = Literal["disparity", "inverse", "metres"]
"""What the values are: disparity as the model takes it, 1 / metres, or metres."""

SUFFIXES = (".npy", ".npz", ".pfm", ".tiff", ".tif", ".png")
"""Of maps; the first wins: DPT writes a PFM of its values and a PNG stretched to 16 bits."""
SMALLEST = 0.01
"""What disparity is clamped to from below (FACTS 5)."""
LARGEST = 75.0
"""That which the model is given at most (FACTS 8), and what fits: POWER / NEAREST."""
POWER = LARGEST * NEAREST
UNIT = 0.0002
"""Of the stored map. Disparity is kept to 1 % at 75, to 0.02 % at 1.5, and to .05 near 0."""
STORED = Intrinsics(1.0, POWER, UNIT)
MILLIMETRE = 0.001


class Predictions(NamedTuple):
    """Where predicted maps lie and what their values are."""

    folder: Path
    meaning: Meaning


class PredictedMap(NamedTuple):
    """A predicted map, encoded as the 16-bit PNG of a record (Media)."""

    path: Path
    meaning: Meaning
    known: Intrinsics
    """fx and baseline that make disparity of 1 / metres; scale, the unit of whole numbers."""

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self) -> bytes:
        """Reads and encodes it; DecodeError where it is no map of numbers."""
        values = _decode(self.path)
        if values.dtype.kind in "ui":
            values = values.astype(np.float32) * np.float32(self.known.scale)
        values = values.astype(np.float32)
        if self.meaning == "metres":
            return _png(millimetres(values))
        power = self.known.fx * self.known.baseline if self.meaning == "inverse" else 1.0
        return _png(store(values * np.float32(power)))

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def store(disparity: Float32[np.ndarray, "h w"]) -> UInt16[np.ndarray, "h w"]:
    """Makes the values of a record of disparity; 0, not seen, of what is not a number.

    `disparity_of(depth_of(values, STORED.scale), STORED.fx, STORED.baseline)` is the disparity
    again, between 0.057 (the smallest that 16 bits hold beside 75) and 75.
    """
    depth = POWER / np.clip(np.nan_to_num(disparity, nan=1.0, posinf=np.inf), SMALLEST, LARGEST)
    values = np.clip(np.rint(depth / UNIT), 1, np.iinfo(np.uint16).max)
    return np.where(np.isnan(disparity), 0, values).astype(np.uint16)


def with_depth(listing: Listing, maps: Predictions, options: LayoutOptions) -> Listing:
    """Adds predicted maps to a listing of pictures.

    A picture without a map is missing; `options` say how many may be, and the focal length.

    Raises:
        UserError: the listing has no pictures, there is no such folder, two pictures have one map,
        too many have none, or the focal length is not known or of no use.

    """
    _check(listing, maps, options.intrinsics)
    files = _list_maps(maps.folder)
    splits = {
        split: [id for id in ids if _find(id, files) is not None]
        for split, ids in listing.splits.items()
    }
    _check_unique(splits, files, maps.folder)
    missing = [id for ids in listing.splits.values() for id in ids if _find(id, files) is None]
    total = sum(map(len, listing.splits.values()))
    _check_missing(missing, total, maps.folder, options.max_missing)
    known = options.intrinsics
    stored = known._replace(scale=MILLIMETRE) if maps.meaning == "metres" else STORED
    # What a stored map depends on beside its file; the power of disparity is none of it.
    edits = ("predicted", maps.meaning, POWER, UNIT, known.scale)
    if maps.meaning == "inverse":
        edits = (*edits, known.fx, known.baseline)

    def item(id: str) -> Item:
        sample = listing.item(id)
        path = maps.folder / (_find(id, files) or id)
        depth = DepthMap(PredictedMap(path, maps.meaning, known), stored)
        return sample._replace(depth=depth, edits=(*sample.edits, *edits))

    return replace(
        listing,
        kind="rgbd",
        splits=splits,
        item=item,
        missing=[*listing.missing, *missing],
        origin={**listing.origin, "depth_maps": "predicted", "depth_kind": maps.meaning},
    )


def _check(listing: Listing, maps: Predictions, known: Intrinsics) -> None:
    if listing.kind != "image":
        raise UserError(
            f"--depth={maps.folder} is for pictures, the samples of --src are of kind "
            f"{listing.kind}; leave it out"
        )
    if not maps.folder.is_dir():
        raise UserError(f"--depth={maps.folder} is no folder; give the one that holds the maps")
    if maps.meaning == "disparity" and known.fx:
        raise UserError(
            f"--fx={known.fx:g} means nothing for --depth_kind=disparity; leave it out, or give "
            "--depth_kind=inverse"
        )
    if maps.meaning != "disparity" and min(known.fx, known.baseline) <= 0:
        raise UserError(
            f"--depth_kind={maps.meaning} needs a focal length to make disparity of metres; give "
            "--fx=PIXELS and --baseline=METRES"
        )
    if known.rotated:
        raise UserError("--depth_rotated means nothing for --depth; leave it out")
    if known.scale <= 0:
        raise UserError("--depth_scale=0; give the unit of whole numbers in maps, for example 1")


def _list_maps(folder: Path) -> Mapping[str, str]:
    """The suffix of every map, by its path below the folder without it."""
    files: dict[str, str] = {}
    for name in walk(folder):
        stem, suffix = os.path.splitext(name)
        if suffix in SUFFIXES:
            # The suffix of the table, not a copy of it for each of a million maps.
            files[stem] = SUFFIXES[min(map(SUFFIXES.index, (suffix, files.get(stem, suffix))))]
    return files


def _find(id: str, files: Mapping[str, str]) -> str | None:
    """The map of a picture below the folder of all, None where there is none."""
    stem = os.path.splitext(id)[0]
    for name in (stem, stem.rpartition("/")[2]):
        if name in files:
            return name + files[name]
    return None


def _check_unique(
    splits: Mapping[str, Sequence[str]], files: Mapping[str, str], folder: Path
) -> None:
    """Refuses one map of two pictures: names repeat from class to class in most folders."""
    owners: dict[str, str] = {}
    for ids in splits.values():
        for id in ids:
            name = _find(id, files) or ""
            other = owners.setdefault(name, id)
            if other != id:
                raise UserError(
                    f"--depth={folder}: {shown(name)} would be the map of {shown(other)} and of "
                    f"{shown(id)}; lay maps in the same folders as the pictures"
                )


def _check_missing(missing: Sequence[str], total: int, folder: Path, budget: float) -> None:
    if not missing:
        return
    first = shown(missing[0])
    if len(missing) == total:
        raise UserError(
            f"--depth={folder} has none of the {total} maps, the first is that of {first}; give "
            f"the folder with {os.path.splitext(first)[0]}.npy ({', '.join(SUFFIXES[1:])})"
        )
    share = len(missing) / total
    if share > budget:
        raise UserError(
            f"--depth={folder} lacks {len(missing)} of the {total} maps, the first is that of "
            f"{first}; add them, or allow it: --max_missing={share + 0.005:.2f} (now {budget:g})"
        )


def _decode(path: Path) -> Shaped[np.ndarray, "h w"]:
    """Decodes the numbers of a map.

    Raises:
        DecodeError: the file is damaged or holds something else. OSError: it cannot be read.

    """
    data = path.read_bytes()
    if path.suffix == ".png":
        return decode_depth(data)
    try:
        values = _image(data) if path.suffix not in (".npy", ".npz") else _array(data)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, cv2.error) as error:
        raise DecodeError(f"the depth map is damaged ({error})") from error
    values = np.squeeze(values)
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise DecodeError(
            f"a depth map has two dimensions of numbers, {path.name} is {values.dtype} of shape "
            f"{values.shape}"
        )
    return values


def _image(data: bytes) -> np.ndarray:
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if values is None:
        raise ValueError("it cannot be decoded")
    return values


def _array(data: bytes) -> np.ndarray:
    content = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(content, np.ndarray):
        return content
    if len(content.files) != 1:
        raise ValueError(f"it holds {len(content.files)} arrays, not one")
    return content[content.files[0]]


def _png(values: UInt16[np.ndarray, "h w"]) -> bytes:
    return cv2.imencode(".png", values)[1].tobytes()
