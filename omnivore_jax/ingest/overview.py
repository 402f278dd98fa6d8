"""What `prepare` tells at its end: figures, a table of the classes, and what to look after."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omnivore_jax.ingest.plan import BAD_FILES, MISSING_FILES
from omnivore_jax.ingest.preparation import Preparation

if TYPE_CHECKING:
    from rich.table import Table

MAX_CLASSES = 20
"""Classes that the table shows."""
MAX_NAMES = 3
"""Missing files that are named."""


def figures(out: Path, preparation: Preparation) -> dict[str, Any]:
    """Sums up a prepared dataset, for --json."""
    listing, plans, inventory = preparation
    reports = inventory.reports
    return {
        "out": str(out),
        "kind": listing.kind,
        "classes": len(listing.classes),
        "splits": inventory.sizes(),
        "shards": len(reports),
        "shards_missing": len(plans) - len(reports),
        "bytes": sum(report.shard.bytes for report in reports.values() if report.shard),
        "bad_files": len(inventory.bad),
        "missing_files": len(listing.missing),
        "copies": len(inventory.copies),
        "ignored": dict(listing.ignored),
    }


def class_table(preparation: Preparation) -> "Table":
    """Lays out the samples of the largest classes by split."""
    from rich.markup import escape
    from rich.table import Table

    classes, counts = preparation.listing.classes, preparation.inventory.class_counts()
    totals = [sum(count[label] for count in counts.values()) for label in range(len(classes))]
    largest = sorted(range(len(totals)), key=lambda label: (-totals[label], label))
    table = Table("class", *counts)
    for label in largest[:MAX_CLASSES]:
        table.add_row(escape(classes[label]), *(str(count[label]) for count in counts.values()))
    if len(largest) > MAX_CLASSES:
        rest = f"... {len(largest) - MAX_CLASSES} more, the smallest has {min(totals)}"
        table.add_row(rest, *("" for _ in counts))
    table.add_section()
    sizes = preparation.inventory.sizes()
    table.add_row(f"all {len(totals)}", *(str(sizes[split]) for split in counts))
    return table


def sentences(figures: Mapping[str, Any], preparation: Preparation) -> list[str]:
    """Says what there is and what to look after; `figures` with the `seconds` that it took."""
    out = figures["out"]
    size = f"{figures['shards']} shards, {figures['bytes'] / 1e6:,.1f} MB"
    lines = [f"{out}: {figures['kind']}, {size}, {figures['seconds']} s"]
    choices = preparation.listing.origin
    if choices:
        lines.append(", ".join(f"{key}: {value}" for key, value in choices.items()))
    if figures["bad_files"]:
        lines.append(
            f"{figures['bad_files']} files cannot be read and were left out: {out}/{BAD_FILES}"
        )
    lines += _unchecked(preparation)
    missing = preparation.listing.missing
    if missing:
        names = ", ".join(missing[:MAX_NAMES]) + ", ..." * (len(missing) > MAX_NAMES)
        lines.append(f"{len(missing)} listed files are missing ({names}): {out}/{MISSING_FILES}")
    copies = preparation.inventory.copies
    if copies:
        validation, train = copies[0]
        lines.append(
            f"{len(copies)} training files are held out too, the first is {train} = {validation}; "
            "remove one of each"
        )
    if figures["ignored"]:
        ignored = (f"{count} x {suffix}" for suffix, count in figures["ignored"].items())
        lines.append("ignored: " + ", ".join(ignored))
    if figures["shards_missing"]:
        lines.append(
            f"{figures['shards_missing']} shards are still missing; the last machine to end "
            "writes the manifest"
        )
    return lines


def _unchecked(preparation: Preparation) -> list[str]:
    """Says which classes are trained and never validated."""
    counts, names = preparation.inventory.class_counts(), preparation.listing.classes
    if not counts.get("val"):
        return []
    labels = [label for label in sorted(counts["train"]) if not counts["val"][label]]
    if not labels:
        return []
    some = ", ".join(names[label] for label in labels[:MAX_NAMES])
    more = ", ..." * (len(labels) > MAX_NAMES)
    return [f"{len(labels)} classes have no validation samples ({some}{more})"]
