"""Which training samples become the validation split of a download that has none."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence


def hold_out(
    ids: Sequence[str], class_of: Callable[[str], object], share: float
) -> dict[str, list[str]]:
    """Divides samples into "train" and "val", both in the order of `ids`.

    `share` of every class is held out, but of two samples or more at least one and never all. The
    choice depends on the names alone.
    """
    by_class: dict[object, list[str]] = defaultdict(list)
    for id in ids:
        by_class[class_of(id)].append(id)
    chosen: set[str] = set()
    for members in by_class.values():
        if len(members) > 1:  # at least one to learn from and one to test with
            count = min(max(round(share * len(members)), 1), len(members) - 1)
            chosen.update(sorted(members, key=_hash)[:count])
    return {
        "train": [id for id in ids if id not in chosen],
        "val": [id for id in ids if id in chosen],
    }


def _hash(id: str) -> bytes:
    # Of the name alone, so that a sample keeps its split when others are added.
    return hashlib.blake2b(id.encode(errors="surrogateescape")).digest()
