"""What a long pass over a split has found so far, so that the same command goes on after a kill.

$XDG_CACHE_HOME/omnivore_jax/passes/KEY/00000.npz    arrays of the samples of a part, and their ids
FOLDER/.INDEX.parts/KEY/00000.npz                    the same for an index of features

KEY digests all that a result depends on: weights, samples, how they are seen, versions, devices. A
pass that ends removes its folder. One process writes; where several evaluate, nothing is kept.
"""

import hashlib
import itertools
import shutil
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import logging
from jaxtyping import PyTree

from omnivore_jax.core.compile_cache import cache_home
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import replacement
from omnivore_jax.data.sample import Dataset, Sample

FOLDER = "passes"
PART_BATCHES = 16
"""Batches after which what was found is written down."""
KEPT_SECONDS = 30 * 24 * 3600.0
"""After which a pass that nobody went on with is forgotten."""
SHOWN_VALUES = 64
"""Of every parameter, by which weights are told apart."""


class Part(NamedTuple):
    """What was found of consecutive samples."""

    leaves: list[np.ndarray]
    ids: list[str]


@dataclass(frozen=True)
class Span:
    """Consecutive samples of a dataset (sample.Dataset)."""

    whole: Dataset
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def load(self, index: int, seed: int) -> Sample:
        return self.whole.load(self.start + index, seed)


class Ledger:
    """The parts of one pass, in a folder of its own."""

    def __init__(self, folder: Path):
        self._folder = folder

    def parts(self) -> Iterator[Part]:
        """Reads the parts that are whole, up to the first that is not."""
        for number in itertools.count():
            part = _read(self._path(number))
            if part is None:
                return
            yield part

    def write(self, number: int, part: Part) -> None:
        """Writes a part.

        Raises:
            UserError: the disk does not take it.

        """
        names = {f"leaf{k}": leaf for k, leaf in enumerate(part.leaves)}
        ids = np.frombuffer("\0".join(part.ids).encode(errors="surrogateescape"), np.uint8)
        with replacement(self._path(number)) as draft, draft.open("wb") as file:
            np.savez(file, ids=ids, **names)  # pyright: ignore[reportArgumentType]

    def clear(self) -> None:
        """Removes all parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:05d}.npz"


See = Callable[[Dataset], tuple[PyTree, list[str]]]
"""Goes over samples: a tree of arrays [n ...] in their order, and their ids."""


def resumable(
    see: See, samples: Dataset, size: int, key: str, skip: Callable[[int], None]
) -> tuple[Any, list[str]]:
    """Goes over a split in batches of `size` samples, on from where a pass of this key stopped.

    Several processes, which see a part each, keep nothing.
    """
    ledger = _cached(key) if jax.process_count() == 1 else None
    found = in_parts(see, samples, PART_BATCHES * size, ledger, skip)
    if ledger:
        ledger.clear()
    return found


def in_parts(
    see: See, samples: Dataset, size: int, ledger: Ledger | None, skip: Callable[[int], None]
) -> tuple[Any, list[str]]:
    """Goes over a split in parts of `size` samples, those that the ledger has left out.

    `skip` is told how many samples were seen before. The last part is always seen anew. Where the
    disk does not take a part the pass goes on without.
    """
    count = len(samples)
    starts = range(0, count, size)
    parts = list(itertools.islice(ledger.parts(), len(starts) - 1)) if ledger and starts else []
    if parts:
        seen = len(parts) * size
        logging.info("going on after %d of %d samples, which were seen before", seen, count)
        skip(seen)
    tree: Any = None
    for number in range(len(parts), len(starts)):
        stop = min(starts[number] + size, count)
        tree, ids = see(Span(samples, starts[number], stop))
        parts.append(Part(jax.tree.leaves(tree), ids))
        if ledger and stop < count:
            try:
                ledger.write(number, parts[-1])
            except (OSError, UserError) as error:
                logging.warning("what was found is not kept (%s)", error)
    joined = [np.concatenate(leaves) for leaves in zip(*(p.leaves for p in parts), strict=True)]
    ids = [id for part in parts for id in part.ids]
    return jax.tree.unflatten(jax.tree.structure(tree), joined), ids


def key_of(params: Any, facts: Iterable[object]) -> str:
    """Digests weights, by the first values of every parameter, and what else a pass depends on."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(params):
        digest.update(np.asarray(leaf.ravel()[:SHOWN_VALUES]).tobytes())
    versions = (jax.__version__, jax.default_backend(), jax.device_count())
    for fact in (*versions, *facts):
        digest.update(repr(fact).encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:32]


def _cached(key: str) -> Ledger:
    """The ledger of a pass that nobody has named a place for."""
    folder = cache_home() / FOLDER
    _forget_old(folder)
    return Ledger(folder / key)


def _read(path: Path) -> Part | None:
    try:
        with path.open("rb") as file, np.load(file) as content:
            ids = bytes(content["ids"]).decode(errors="surrogateescape").split("\0")
            return Part([content[f"leaf{k}"] for k in range(len(content.files) - 1)], ids)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _forget_old(folder: Path) -> None:
    try:
        old: Sequence[Path] = [
            path for path in folder.iterdir() if time.time() - path.stat().st_mtime > KEPT_SECONDS
        ]
    except OSError:
        return
    for path in old:
        shutil.rmtree(path, ignore_errors=True)
