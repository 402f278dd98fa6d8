"""What became of every parameter and of every tensor of a file, in a conversion."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from omnivore_jax.core.errors import UserError

Kind = Literal["matched", "transformed", "fresh", "unused"]
KINDS: tuple[Kind, ...] = ("matched", "transformed", "fresh", "unused")
NAMED = 20
"""Fresh and unused names that a summary shows one by one."""


class Row(NamedTuple):
    """What became of one parameter, or of one tensor of the file that was not used."""

    kind: Kind
    path: str
    """Ours; empty for what is unused."""
    source: str
    """Keys of the file; empty for what is fresh."""
    rule: str
    """How the values were changed; empty where they were not."""

    @property
    def name(self) -> str:
        """What patterns are compared with: our path, or the file's key of what is unused."""
        return self.path or self.source


def check_accounted(
    rows: Iterable[Row], where: object, missing: Sequence[str] = (), unused: Sequence[str] = ()
) -> None:
    """Checks that patterns (`trunk.depth_patch_embed.*`) permit all that is fresh or unused.

    Raises:
        UserError: something is fresh that `missing`, or unused that `unused` does not name.

    """
    rows = list(rows)
    for kind, patterns, words in (
        ("fresh", missing, ("lacks", "missing")),
        ("unused", unused, ("has, unused,", "unused")),
    ):
        names = [r.name for r in rows if r.kind == kind and not _fits(r.name, patterns)]
        if names:
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            listed = ", ".join(name[:100] for name in names[:3])
            raise UserError(
                f"{where} {words[0]} {listed}{more}; permit it by "
                f"--allow-{words[1]}=PATTERN,PATTERN"
            )


def _fits(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def lines(rows: Iterable[Row]) -> list[str]:
    """The table for people: a line for every kind and rule."""
    return [
        f"  {kind:<12}{count:>6,}  "
        f"{name}{' ...' if count > 1 else ''}{f'  ({rule})' if rule else ''}"
        for kind, count, rule, name in summary(rows)
    ]


def summary(rows: Iterable[Row]) -> list[tuple[str, int, str, str]]:
    """Lists (kind, number, rule, example) of all that share a kind and a rule.

    Fresh and unused ones stand singly where they are few.
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.rule), []).append(row)
    table = []
    for (kind, rule), members in sorted(
        groups.items(), key=lambda group: KINDS.index(group[1][0].kind)
    ):
        if kind in ("fresh", "unused") and len(members) <= NAMED:
            table += [(kind, 1, rule, row.name) for row in members]
        else:
            table.append((kind, len(members), rule, members[0].name))
    return table
