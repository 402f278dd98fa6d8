"""Pictures by WordNet id, as ImageNet comes.

A folder for every synset, a tar for every synset, or one tar of those. The id of a sample is
SPLIT/nXXXXXXXX/NAME in each case: packed or not, the prepared dataset is the same.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Protocol, runtime_checkable

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.archives import Archive, members
from omnivore_jax.ingest.layouts.base import FileBytes, Item, Listing, Media, TarMember
from omnivore_jax.ingest.layouts.folder import PICTURES
from omnivore_jax.ingest.layouts.holdout import hold_out

WNID = re.compile(r"n\d{8}")
EMPTY = "synset without pictures"


@runtime_checkable
class Synsets(Protocol):
    """The files of a split by their synset."""

    @property
    def wnids(self) -> Sequence[str]:
        """Sorted."""
        ...

    def names(self, wnid: str) -> Sequence[str]:
        """Lists the files of a synset, sorted."""
        ...

    def media(self, wnid: str, name: str) -> Media: ...


class SynsetPlaces:
    """Synsets that have a folder or a tar each (Synsets)."""

    def __init__(self, folders: Mapping[str, Path], archives: Mapping[str, Archive]):
        """Where a synset is there as folder and as tar, the tar is read: it is the download."""
        self._folders, self._archives = folders, archives
        # Samples come synset by synset: the members of one archive at a time are known.
        self._index: Callable[[str], dict[str, TarMember]] = lru_cache(maxsize=2)(self._read)

    @property
    def wnids(self) -> Sequence[str]:
        return sorted(self._folders.keys() | self._archives.keys())

    def names(self, wnid: str) -> Sequence[str]:
        if wnid in self._archives:
            return sorted(self._index(wnid))
        return sorted(entry.name for entry in os.scandir(self._folders[wnid]) if entry.is_file())

    def media(self, wnid: str, name: str) -> Media:
        if wnid in self._archives:
            return self._index(wnid)[name]
        return FileBytes(self._folders[wnid] / name)

    def _read(self, wnid: str) -> dict[str, TarMember]:
        files = members(self._archives[wnid])
        return {name.rpartition("/")[2]: member for name, member in files}


def find_synsets(folder: Path) -> SynsetPlaces | None:
    """Finds the synsets of a folder, nXXXXXXXX/ or nXXXXXXXX.tar; None where it has none."""
    if not folder.is_dir():
        return None
    folders, archives = {}, {}
    for entry in os.scandir(folder):
        stem, suffix = os.path.splitext(entry.name)
        if WNID.fullmatch(stem) and suffix == ".tar":
            archives[stem] = Archive(Path(entry.path))
        elif WNID.fullmatch(entry.name) and entry.is_dir():
            folders[stem] = Path(entry.path)
    return SynsetPlaces(folders, archives) if folders or archives else None


def find_packed_synsets(path: Path) -> SynsetPlaces:
    """Finds the synsets of a tar of tars.

    Raises:
        UserError: the archive is damaged, or holds no tar of a synset.

    """
    archives = {}
    for name, member in members(Archive(path)):
        stem, suffix = os.path.splitext(name.rpartition("/")[2])
        if WNID.fullmatch(stem) and suffix == ".tar":
            archives[stem] = Archive(path, member.offset)
    if not archives:
        raise UserError(f"{path} holds no nXXXXXXXX.tar; give the archive as it was downloaded")
    return SynsetPlaces({}, archives)


def list_synsets(
    splits: Mapping[str, Synsets], source: Path, *, val: float = 0.0, skip_empty: bool = False
) -> Listing:
    """Lists pictures whose class is their synset; labels are in the order of sorted WordNet ids.

    `val`: the share of the training split that is held out. `skip_empty`: a synset without
    pictures is no class, where it would be an error.

    Raises:
        UserError: a synset has no pictures, or a split has a synset that the training split lacks.

    """
    ignored: Counter[str] = Counter()
    ids: dict[str, list[str]] = {}
    for split, synsets in splits.items():
        ids[split] = _ids(split, synsets, ignored)
    main = "train" if "train" in splits else next(iter(splits))
    filled = {id.split("/")[1] for id in ids[main]}
    empty = set(splits[main].wnids) - filled if main == "train" else set()
    if empty and not skip_empty:
        raise UserError(
            f"--src={source} has {len(empty)} synsets without pictures in {main}, one is "
            f"{min(empty)}: every synset is a class; unpack them again or remove them"
        )
    ignored.update({EMPTY: len(empty)} if empty else {})
    classes = tuple(wnid for wnid in splits[main].wnids if wnid not in empty)
    labels = {wnid: label for label, wnid in enumerate(classes)}
    for split, pictures in ids.items():
        foreign = {id.split("/")[1] for id in pictures} - labels.keys()
        if foreign:
            raise UserError(
                f"--src={source} has pictures of {min(foreign)} in {split}, but {main} lacks this "
                f"synset ({len(foreign)} of them); unpack {main} to its end"
            )

    def item(id: str) -> Item:
        split, wnid, name = id.split("/")
        return Item(id, labels[wnid], splits[split].media(wnid, name))

    if val:
        ids |= hold_out(ids["train"], lambda id: id.split("/")[1], val)
    return Listing("image", classes, ids, item, ignored)


def _ids(split: str, synsets: Synsets, ignored: Counter[str]) -> list[str]:
    ids = []
    for wnid in synsets.wnids:
        for name in synsets.names(wnid):
            suffix = os.path.splitext(name)[1].lower()
            if suffix in PICTURES and not name.startswith("."):
                ids.append(f"{split}/{wnid}/{name}")
            elif not name.startswith("."):
                ignored[suffix or name] += 1
    return ids
