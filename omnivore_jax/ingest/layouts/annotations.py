"""Lists of files and labels, as datasets come that do not sort their media into class folders.

The lists decide which samples there are; a file that they name and that is missing is found, named
and left out when it is read.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.base import FileBytes, Item, Listing
from omnivore_jax.ingest.layouts.holdout import hold_out


@dataclass(frozen=True)
class Labels:
    """The files of a split and their labels.

    A sorted list and numbers beside it: a dictionary of millions of names would take three times
    the memory.
    """

    ids: Sequence[str]
    """Sorted, each once."""
    numbers: Sequence[int]
    """The label of each."""

    def __contains__(self, id: str) -> bool:
        place = bisect_left(self.ids, id)
        return place < len(self.ids) and self.ids[place] == id

    def __getitem__(self, id: str) -> int:
        return self.numbers[bisect_left(self.ids, id)]


def label(rows: Iterable[tuple[str, int]], annotations: Path) -> Labels:
    """Sorts pairs of file and label.

    Raises:
        UserError: there are none, or a file is listed twice.

    """
    pairs = sorted(rows)
    if not pairs:
        raise UserError(f"{annotations} lists no files; download it again")
    for (id, _), (following, _) in zip(pairs, pairs[1:], strict=False):
        if id == following:
            raise UserError(f"{annotations} lists {id} twice; download it again")
    return Labels([id for id, _ in pairs], array("l", (number for _, number in pairs)))


def list_pictures(
    source: Path,
    classes: Sequence[str],
    splits: Mapping[str, Labels],
    annotations: Path,
    val: float = 0.0,
) -> Listing:
    """Lists pictures that lie below `source`.

    `val`: the share of the training split that is held out.

    Raises:
        UserError: a label is no class, or a picture is in two splits.

    """
    for split, labels in splits.items():
        if max(labels.numbers) >= len(classes) or min(labels.numbers) < 0:
            raise UserError(
                f"{annotations} has labels from {min(labels.numbers)} to {max(labels.numbers)} in "
                f"{split}, but {len(classes)} classes; download it again"
            )
    for other in list(splits)[1:]:
        train = splits[next(iter(splits))]
        both = next((id for id in splits[other].ids if id in train), None)
        if both is not None:
            raise UserError(f"{annotations} has {both} in two splits; download it again")

    def item(id: str) -> Item:
        labels = next(labels for labels in splits.values() if id in labels)
        return Item(id, labels[id], FileBytes(source / id))

    ids = {split: labels.ids for split, labels in splits.items()}
    if val:
        ids |= hold_out(ids["train"], splits["train"].__getitem__, val)
    return Listing("image", tuple(classes), ids, item, Counter())


def name_classes(names: Mapping[int, str], annotations: Path) -> tuple[str, ...]:
    """Puts the names of classes in the order of their numbers.

    Raises:
        UserError: a number from 0 on is missing, or a name is there twice.

    """
    missing = [number for number in range(len(names)) if number not in names]
    if missing or not names:
        raise UserError(
            f"{annotations} names {len(names)} classes, but not number {min(missing, default=0)}; "
            "download it again"
        )
    classes = tuple(names[number] for number in range(len(names)))
    twice = [name for name, count in Counter(classes).items() if count > 1]
    if twice:
        raise UserError(f"{annotations} names two classes {twice[0]!r}; download it again")
    return classes


def read_rows(annotations: Path, form: str) -> Iterator[list[str]]:
    """Reads the words of every line; empty lines and comments (#) are none.

    `form`: what a line should hold, "FILE NUMBER" for example: as many words, and whole numbers
    where it says NUMBER.

    Raises:
        UserError: the file is missing, no text, or a line is not of this form.

    """
    fields = form.split()
    try:
        with annotations.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                words = line.split()
                if not words or words[0].startswith("#"):
                    continue
                if not _fits(words, fields):
                    raise UserError(
                        f"{annotations}: line {number} is {line.strip()[:80]!r}, not {form}; "
                        "download it again"
                    )
                yield words
    except FileNotFoundError:
        raise UserError(f"{annotations} is not there; it belongs to the download") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{annotations} is no text ({error}); download it again") from error


def _fits(words: Sequence[str], fields: Sequence[str]) -> bool:
    if len(words) != len(fields):
        return False
    numbers = (word for word, field in zip(words, fields, strict=True) if field == "NUMBER")
    return all(word.isascii() and word.isdigit() for word in numbers)
