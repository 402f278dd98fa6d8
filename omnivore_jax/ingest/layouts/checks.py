"""What a layout asks before it lists: whether the options fit, and whether this is the download."""

import os
from collections.abc import Sequence
from pathlib import Path

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.manifest import Kind
from omnivore_jax.ingest.layouts.base import LayoutOptions

NAMES = 5
"""Names that a message lists."""


def check_wishes(options: LayoutOptions, dataset: str, kind: Kind, *, has_val: bool) -> None:
    """Checks --kind and --val against what the dataset is.

    Raises:
        UserError: another kind is asked for, or a share of the training split although the dataset
        has a validation split of its own.

    """
    if options.kind not in ("auto", kind):
        raise UserError(f"--kind={options.kind}, but {dataset} is of kind {kind!r}; leave it out")
    if options.val and has_val:
        raise UserError(
            f"--val={options.val}, but {dataset} has a validation split of its own; leave it out"
        )


def check_media(source: Path, ids: Sequence[str], annotations: Path) -> None:
    """Checks that the files of a list are where it says, by three of them.

    A file that is missing is left out and named by `prepare`; a folder that is missing is a
    mistake.

    Raises:
        UserError: the first, the middle and the last file are missing.

    """
    some = [ids[0], ids[len(ids) // 2], ids[-1]] if ids else []
    if some and not any((source / id).exists() for id in some):
        raise UserError(
            f"{annotations} lists {len(ids)} files, but {source / ids[0]} is not there, nor others "
            f"that were looked for; unpack the pictures (there is: {contents(source)})"
        )


def not_this(source: Path, expected: str) -> UserError:
    """Says that a folder is not the download: what was expected, and what is there."""
    return UserError(f"--src={source} has {expected}; there is: {contents(source)}")


def shown(name: str) -> str:
    """Escapes the bytes of a file's name that are not UTF-8; any other name stays as it is."""
    return name.encode("utf-8", "backslashreplace").decode()


def contents(folder: Path) -> str:
    """Names what a folder holds, for a message."""
    if not folder.is_dir():
        return "no folder of this name"
    names = sorted(os.listdir(folder))
    more = f" and {len(names) - NAMES} more" if len(names) > NAMES else ""
    return (", ".join(names[:NAMES]) or "nothing") + more
