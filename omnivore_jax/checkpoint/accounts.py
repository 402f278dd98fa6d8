"""What became of every parameter and of every tensor of a file, in a conversion."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal, NamedTuple

from omnivore_jax.core.command import UserError

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
    """Raises UserError where something is fresh or unused that no pattern (`trunk.depth_patch_embed.*`) names."""
    rows = list(rows)
    for kind, patterns, words in (
        ("fresh", missing, ("lacks", "missing")),
        ("unused", unused, ("has, unused,", "unused")),
    ):
        names = [r.name for r in rows if r.kind == kind and not any(fnmatchcase(r.name, p) for p in patterns)]
        if names:
            more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
            listed = ", ".join(name[:100] for name in names[:3])
            raise UserError(f"{where} {words[0]} {listed}{more}; permit it by --allow-{words[1]}=PATTERN,PATTERN")


def summary(rows: Iterable[Row]) -> list[tuple[str, int, str, str]]:
    """Lists (kind, number, rule, example) of all that share a kind and a rule; the first fresh and unused one by one."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.kind, row.rule), []).append(row)
    lines = []
    for (kind, rule), members in sorted(groups.items(), key=lambda group: KINDS.index(group[0][0])):  # pyright: ignore
        shown = members[:NAMED] if kind in ("fresh", "unused") else members[:1]
        singly = kind in ("fresh", "unused") and len(members) <= NAMED
        lines += [(kind, 1 if singly else len(members), rule, row.name) for row in (shown if singly else shown[:1])]
    return lines
