"""Finds what is damaged in a prepared dataset: bytes of its shards, records that do not decode."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from omnivore_jax.core import files
from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.sample import BadRecord, Dataset


class Damage(NamedTuple):
    """A record that cannot be read."""

    id: str
    reason: str


def check_shards(folder: Path) -> dict[str, int]:
    """Compares the sha256 of every shard with the manifest's; returns the samples of each split.

    Raises:
        UserError: shards are missing or damaged, a line for each.

    """
    whole = manifest.read(folder)
    mistakes: list[str] = []
    for shard in (shard for shards in whole.splits.values() for shard in shards):
        try:
            manifest.check_shard(folder, shard, content=True)
        except UserError as mistake:
            mistakes += mistake.args
    if mistakes:
        raise UserError(*mistakes)
    return {split: whole.count(split) for split in whole.splits}


def check_split(
    samples: Dataset,
    threads: int,
    shard: tuple[int, int] = (0, 1),
    advance: Callable[[], None] = lambda: None,
) -> list[Damage]:
    """Decodes every record of a split once, as an evaluation does; returns what cannot be read.

    `shard` (i, n) takes every n-th record from the i-th on, those that host i of n evaluates.
    `advance` is called after every record, from several threads.
    """

    def check(index: int) -> Damage | None:
        try:
            samples.load(index, 0)
        except BadRecord as record:
            return Damage(record.id, record.reason)
        finally:
            advance()
        return None

    indices = range(shard[0], len(samples), shard[1])
    with ThreadPoolExecutor(threads, "check") as pool:
        return [damage for damage in pool.map(check, indices) if damage is not None]


def check_once(note: Path, key: Sequence[str], check: Callable[[], list[Damage]]) -> list[Damage]:
    """Calls `check` unless `note` says that nothing was damaged when it had the same `key`.

    `key`: all that the result depends on, for example the sha256 of the manifest and how samples
    are read. Damage is not remembered: it is looked for again until it is mended.
    """
    try:
        known = json.loads(note.read_text())
    except (OSError, ValueError):  # no note, or one that a kill cut short
        known = None
    if known == {"undamaged": list(key)}:
        return []
    damage = check()
    if not damage:
        files.write_json(note, {"undamaged": list(key)})
    return damage
