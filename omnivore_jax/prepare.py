"""Turns folders of your own files into a dataset to train from.

    python -m omnivore_jax.prepare folder --src=DIR --out=DIR [--val=0.1]
    [--kind=auto|image|video|rgbd] [--shard=i/n] python -m omnivore_jax.prepare verify --out=DIR

`folder` reads SRC/CLASS/... (or SRC/train/CLASS/... and SRC/val/CLASS/...): pictures (JPEG, PNG),
clips (what PyAV opens), or pictures with 16-bit depth maps (NAME.jpg beside NAME.depth.png; more
ways in docs/data.md). Files are stored as they are. Files that cannot be read are left out and
listed in OUT/bad_files.jsonl. Stopped, it goes on where it was when started again; on several
machines give each its --shard (0/4, 1/4, ...). `verify` checks every byte again.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from absl import flags

from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local
from omnivore_jax.data import manifest
from omnivore_jax.data.depth import BASELINES, Intrinsics
from omnivore_jax.ingest.layouts.folder import Listing, list_folder
from omnivore_jax.ingest.plan import (
    BAD_FILES,
    Made,
    claim,
    class_counts,
    finish,
    items_of,
    tasks_of,
)
from omnivore_jax.ingest.shards import PARTS, write_shard

EVERY = 10.0
"""Seconds between two lines of progress where there is no terminal."""
MOST_CLASSES = 20
"""Classes that the summary shows."""


@dataclass(frozen=True)
class Options:
    """What `prepare folder` is asked for; the flags of the same names."""

    src: str
    out: str
    kind: str = "auto"
    val: float = 0.0
    shard: str = "0/1"
    rows: int = 0
    threads: int = os.cpu_count() or 1
    fx: float = 0.0
    baseline: float = BASELINES["kv2"]
    depth_scale: float = 0.001
    depth_rotated: bool = False
    overwrite: bool = False
    json: bool = False


def define_flags() -> None:
    flags.DEFINE_string("src", "", "Folder of the class folders.")
    flags.DEFINE_string("out", "", "Folder of the prepared dataset: DATA_ROOT/NAME.")
    flags.DEFINE_enum("kind", Options.kind, ["auto", *manifest.KINDS], "What the files are.")
    flags.DEFINE_float(
        "val", Options.val, "Share of every class that becomes the validation split.", 0.0, 0.9
    )
    flags.DEFINE_string(
        "shard", Options.shard, "i/n: make every n-th shard from the i-th on (0 to n - 1)."
    )
    flags.DEFINE_integer(
        "rows", Options.rows, "Samples of a shard; 0: by kind and number of samples.", 0
    )
    flags.DEFINE_integer("threads", Options.threads, "Files that are read at once.", 1)
    flags.DEFINE_float(
        "fx", Options.fx, "Focal length in pixels of the depth maps, where no file says it.", 0.0
    )
    flags.DEFINE_float(
        "baseline", Options.baseline, "Metres between the eyes of the depth sensor.", 0.0
    )
    flags.DEFINE_float(
        "depth_scale", Options.depth_scale, "Metres in one unit of the depth maps.", 0.0
    )
    flags.DEFINE_bool(
        "depth_rotated", Options.depth_rotated, "Rotate the bits back: SUN RGB-D in true metres."
    )
    flags.DEFINE_bool("overwrite", Options.overwrite, "Replace another dataset in --out.")
    flags.DEFINE_bool("json", Options.json, "Print the summary as JSON.")


def main(argv: Sequence[str]) -> None:
    commands = {"folder": prepare_folder, "verify": verify}
    if len(argv) != 2 or argv[1] not in commands:
        given = " ".join(argv[1:]) or "nothing"
        raise UserError(
            f"cannot prepare {given}; use: folder --src=DIR --out=DIR, or: verify --out=DIR"
        )
    options = Options(**{field.name: getattr(flags.FLAGS, field.name) for field in fields(Options)})
    try:
        commands[argv[1]](options)
    except OSError as error:
        raise UserError(
            f"{error.filename or options.out}: {error.strerror or error}; make room or mend the "
            "permissions, then run "
            "the same command again"
        ) from error


def verify(options: Options) -> None:
    """Reads every shard of a prepared dataset and compares its sha256 with the manifest's."""
    folder = Path(_given(options, "out"))
    held = manifest.read(folder)
    for split in held.splits:
        manifest.check_files(folder, held, split, content=True)
    counts = {split: held.count(split) for split in held.splits}
    print(
        json.dumps({"ok": True, "splits": counts})
        if options.json
        else f"{folder} is whole: {counts}"
    )


def prepare_folder(options: Options) -> None:
    """Makes the shards of this machine, and the manifest if all shards are there."""
    source, out, began = (
        Path(_given(options, "src")),
        Path(_given(options, "out")),
        time.monotonic(),
    )
    index, machines = _shard_of(options.shard)
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--out={out} lies inside --src={source}; choose a folder outside it")
    listing = list_folder(source, options.kind, options.val)
    tasks = tasks_of(listing, options.rows)
    mine = tasks[index::machines]
    defaults = Intrinsics(options.fx, options.baseline, options.depth_scale, options.depth_rotated)
    _make_folder(out)
    claim(out, source, listing, tasks, overwrite=options.overwrite)
    with (
        ThreadPoolExecutor(options.threads) as pool,
        _progress(sum(t.stop - t.start for t in mine)) as advance,
    ):
        for task in mine:
            write_shard(
                out,
                task.name,
                items_of(listing, source, task, defaults),
                listing.kind,
                pool,
                advance,
            )
    made = finish(out, listing, tasks)
    summary = _summary(out, listing, len(tasks), made) | {
        "seconds": round(time.monotonic() - began, 1)
    }
    if options.json:
        print(json.dumps(summary))
    else:
        _show(summary, listing, made)


def _given(options: Options, key: str) -> str:
    if not getattr(options, key):
        whose = {"src": "that holds the class folders", "out": "of the prepared dataset"}
        raise UserError(f"--{key} is missing; give the folder {whose[key]}")
    check_local(getattr(options, key), f"--{key}")
    return getattr(options, key)


def _shard_of(text: str) -> tuple[int, int]:
    index, _, machines = text.partition("/")
    if not (index.isdigit() and machines.isdigit() and int(index) < int(machines)):
        raise UserError(f"--shard={text}; use i/n with i from 0 to n - 1, for example 0/4")
    return int(index), int(machines)


def _make_folder(out: Path) -> None:
    try:
        (out / PARTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out={out} cannot be made ({error.strerror}); choose another folder"
        ) from error


def _summary(out: Path, listing: Listing, shards: int, made: Made) -> dict[str, Any]:
    return {
        "out": str(out),
        "kind": listing.kind,
        "classes": len(listing.classes),
        "splits": {split: counts.total() for split, counts in class_counts(made.parts).items()},
        "shards": len(made.parts),
        "shards_missing": shards - len(made.parts),
        "bytes": sum(part.shard.bytes for part in made.parts.values() if part.shard),
        "bad_files": len(made.bad),
        "copies": len(made.copies),
        "ignored": dict(listing.ignored),
    }


def _show(summary: Mapping[str, Any], listing: Listing, made: Made) -> None:
    from rich.console import Console
    from rich.table import Table

    console, counts = Console(highlight=False), class_counts(made.parts)
    totals = [
        sum(counts[split][label] for split in counts) for label in range(len(listing.classes))
    ]
    largest = sorted(range(len(totals)), key=lambda label: (-totals[label], label))
    table = Table("class", *counts)
    for label in largest[:MOST_CLASSES]:
        table.add_row(listing.classes[label], *(str(counts[split][label]) for split in counts))
    if len(largest) > MOST_CLASSES:
        table.add_row(
            f"... {len(largest) - MOST_CLASSES} more, the smallest has {min(totals)}",
            *("" for _ in counts),
        )
    table.add_section()
    table.add_row(f"all {len(totals)}", *(str(counts[split].total()) for split in counts))
    console.print(table)
    size = f"{summary['shards']} shards, {summary['bytes'] / 1e6:,.1f} MB"
    print(f"{summary['out']}: {summary['kind']}, {size}, {summary['seconds']} s")
    if summary["bad_files"]:
        print(
            f"{summary['bad_files']} files cannot be read and were left out: "
            f"{summary['out']}/{BAD_FILES}"
        )
    if made.copies:
        held_out, train = made.copies[0]
        print(
            f"{len(made.copies)} training files are held out too, the first is {train} = "
            f"{held_out}; remove one of each"
        )
    if summary["ignored"]:
        print(
            "ignored: "
            + ", ".join(f"{count} x {suffix}" for suffix, count in summary["ignored"].items())
        )
    if summary["shards_missing"]:
        print(
            f"{summary['shards_missing']} shards are still missing; the last machine to end writes "
            "the manifest"
        )


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """Shows what is done and when the rest will be, on the error stream.

    A bar on a terminal, else a line at times.
    """
    if not sys.stderr.isatty():
        yield _lines(total)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("files"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("files", total=total)
        yield lambda: bar.advance(task)


def _lines(total: int) -> Callable[[], None]:
    began = last = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal done, last
        done += 1
        now = time.monotonic()
        if now - last >= EVERY or done == total:
            last = now
            left = (now - began) * (total - done) / done
            print(
                f"{done} of {total} files, {done / max(now - began, 1e-9):,.0f} a second, "
                f"{left:,.0f} s left",
                file=sys.stderr,
            )

    return advance


if __name__ == "__main__":
    define_flags()
    run(main)
