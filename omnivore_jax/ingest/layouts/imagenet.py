"""ImageNet, ILSVRC 2012: 1,000 synsets, packed as downloaded or unpacked (see list for the places).

SRC/ILSVRC2012_img_train.tar                    or train/nXXXXXXXX/*.JPEG, or train/nXXXXXXXX.tar
SRC/ILSVRC2012_img_val.tar                      or val/nXXXXXXXX/*.JPEG, or val/*.JPEG; without
                                                class folders one of these says the labels:
SRC/ILSVRC2012_devkit_t12.tar.gz                or that folder, or its two files in SRC, or
SRC/LOC_val_solution.csv                        Kaggle's, whose pictures are in ILSVRC/Data/CLS-LOC
"""

import csv
import io
import os
import re
import tarfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.archives import Archive, members
from omnivore_jax.ingest.layouts.base import FileBytes, LayoutOptions, Listing, Media
from omnivore_jax.ingest.layouts.checks import check_wishes, not_this
from omnivore_jax.ingest.layouts.synsets import (
    WNID,
    Synsets,
    find_packed_synsets,
    find_synsets,
    list_synsets,
)

TRAIN_TAR, VAL_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"
DEVKIT = "ILSVRC2012_devkit_t12"
TRUTH, META = "ILSVRC2012_validation_ground_truth.txt", "meta.mat"
SOLUTION, MAPPING = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
KAGGLE = "ILSVRC/Data/CLS-LOC"
PICTURE = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG", re.IGNORECASE)


class ImageNet:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        """Lists the splits that are there: one of the two is enough."""
        folder = source / KAGGLE if (source / KAGGLE).is_dir() else source
        splits: dict[str, Synsets] = {}
        train, val = _train(folder), _val(folder, source)
        if train is not None:
            splits["train"] = train
        if val is not None:
            splits["val"] = val
        if not splits:
            raise not_this(
                source,
                f"neither {TRAIN_TAR} nor train/nXXXXXXXX/, and neither {VAL_TAR} nor val/",
            )
        check_wishes(options, "imagenet", "image", has_val="val" in splits)
        return list_synsets(splits, source, val=options.val)


@dataclass(frozen=True)
class LabeledPictures:
    """Pictures in one place, and a list of their synsets (synsets.Synsets)."""

    by_synset: Mapping[str, Sequence[str]]
    media_of: Callable[[str], Media]

    @property
    def wnids(self) -> Sequence[str]:
        return sorted(self.by_synset)

    def names(self, wnid: str) -> Sequence[str]:
        return self.by_synset[wnid]

    def media(self, wnid: str, name: str) -> Media:
        return self.media_of(name)


def _train(folder: Path) -> Synsets | None:
    archive = folder / TRAIN_TAR
    return find_packed_synsets(archive) if archive.exists() else find_synsets(folder / "train")


def _val(folder: Path, source: Path) -> Synsets | None:
    """The validation split; class folders first, because they need no list of labels."""
    archive, pictures = folder / VAL_TAR, folder / "val"
    synsets = find_synsets(pictures)
    if synsets is not None:
        return synsets
    if archive.exists():
        inside = {name.rpartition("/")[2]: member for name, member in members(Archive(archive))}
        return _label(sorted(inside), inside.__getitem__, archive, source)
    if not pictures.is_dir():
        return None
    names = sorted(entry.name for entry in os.scandir(pictures) if entry.is_file())
    return _label(names, lambda name: FileBytes(pictures / name), pictures, source)


def _label(
    names: Sequence[str], media_of: Callable[[str], Media], place: Path, source: Path
) -> LabeledPictures:
    wnids, numbers = _truth(source)
    by_synset: dict[str, list[str]] = defaultdict(list, {wnid: [] for wnid in wnids})
    pictures = [name for name in names if PICTURE.fullmatch(name)]
    if not pictures:
        raise UserError(
            f"{place} has neither class folders nor ILSVRC2012_val_00000001.JPEG and so on; unpack "
            f"{VAL_TAR} into it"
        )
    for name in pictures:
        match = PICTURE.fullmatch(name)
        wnid = numbers.get(int(match[1])) if match else None
        if wnid is None:
            raise UserError(
                f"{place} has {name}, of which the list of labels in {source} says nothing; "
                "download the list again"
            )
        by_synset[wnid].append(name)
    return LabeledPictures(dict(by_synset), media_of)


def _truth(source: Path) -> tuple[Sequence[str], Mapping[int, str]]:
    """All synsets, and the synset of every validation picture by its number."""
    for folder in (source, source / "data", source / DEVKIT / "data"):
        if (folder / TRUTH).exists() and (folder / META).exists():
            truth, meta = (folder / TRUTH).read_bytes(), (folder / META).read_bytes()
            return _devkit(truth, meta, folder)
    packed = source / f"{DEVKIT}.tar.gz"
    if packed.exists():
        return _devkit(_unpack(packed, TRUTH), _unpack(packed, META), packed)
    if (source / SOLUTION).exists():
        return _solution(source)
    raise UserError(
        f"--src={source} has no labels of the validation pictures; put {DEVKIT}.tar.gz (or {TRUTH} "
        f"and {META}) there, or Kaggle's {SOLUTION}, or sort the pictures into val/nXXXXXXXX/"
    )


def _unpack(packed: Path, name: str) -> bytes:
    try:
        with tarfile.open(packed) as tar:
            file = tar.extractfile(f"{DEVKIT}/data/{name}")
            return file.read() if file else b""
    except (tarfile.TarError, KeyError, EOFError, OSError) as error:
        raise UserError(
            f"{packed} cannot be read ({error}): {DEVKIT}/data/{name} should be in it; download it "
            "again"
        ) from error


def _devkit(truth: bytes, meta: bytes, place: Path) -> tuple[Sequence[str], Mapping[int, str]]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        # squeeze_me: a structure for every synset, inner nodes of the hierarchy among them
        synsets = loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"].ravel()
        wnids = {int(row["ILSVRC2012_ID"]): str(row["WNID"]) for row in synsets}
        leaves = [wnids[int(row["ILSVRC2012_ID"])] for row in synsets if not row["num_children"]]
        lines = truth.decode().split()
        return leaves, {number: wnids[int(id)] for number, id in enumerate(lines, 1)}
    except (MatReadError, zlib.error, OSError, LookupError, ValueError, TypeError) as error:
        raise UserError(
            f"{TRUTH} and {META} in {place} do not fit each other or cannot be read ({error!r}); "
            f"download {DEVKIT}.tar.gz again"
        ) from error


def _solution(source: Path) -> tuple[Sequence[str], Mapping[int, str]]:
    """Kaggle's list: a picture, then "WNID box" for every object; all of them are of one synset."""
    numbers: dict[int, str] = {}
    # What is no text becomes a row that is not understood.
    with (source / SOLUTION).open(newline="", encoding="utf-8", errors="replace") as file:
        for line, row in enumerate(csv.reader(file), 1):
            match = PICTURE.fullmatch(f"{row[0]}.JPEG") if len(row) == 2 else None
            wnid = row[1].split(" ")[0] if match else ""
            if match and WNID.fullmatch(wnid):
                numbers[int(match[1])] = wnid
            elif line > 1:
                raise UserError(
                    f"{source / SOLUTION}: line {line} is {','.join(row)[:60]!r}, not "
                    "ILSVRC2012_val_NUMBER,nXXXXXXXX BOX; download it again"
                )
    mapping = source / MAPPING
    lines = mapping.read_text("utf-8", "replace").splitlines() if mapping.exists() else []
    return sorted({*numbers.values(), *(line.split(" ")[0] for line in lines if line)}), numbers
