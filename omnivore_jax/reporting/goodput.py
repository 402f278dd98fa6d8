"""How the wall time of a run was spent, over all its lives, from the rows of its timing.jsonl."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

ACTIVITIES = {
    "step": "steps",
    "data": "waiting for data",
    "compile": "compiling",
    "checkpoint": "checkpoints",
    "evaluation": "evaluations",
    "start": "starting",
    "lost": "steps done again",
    "away": "not running",
}
"""By the names that rows have (core/wall_time.py); `lost` and `away` lie between two lives."""


class Goodput(NamedTuple):
    """Seconds of a run by activity."""

    seconds: dict[str, float]
    lives: int
    """Processes, one after another."""
    mfu: float | None
    """FLOPs of the model over what the devices could do, while it made steps; None: not known."""

    @property
    def total(self) -> float:
        return sum(self.seconds.values())

    @property
    def share(self) -> float:
        """Of the wall time that went into steps that count."""
        return self.seconds["step"] / max(self.total, 1e-9)

    def json(self) -> dict[str, Any]:
        """Gives it as plain JSON."""
        return {"goodput": self.share, "mfu": self.mfu, "lives": self.lives, **self.seconds}


def goodput(rows: Iterable[Mapping[str, Any]]) -> Goodput | None:
    """Adds up the lives of a run; None where no row tells of them."""
    lives: dict[float, list[Mapping[str, Any]]] = {}
    for row in rows:
        if "wall" in row:
            lives.setdefault(row["wall"]["began"], []).append(row)
    if not lives:
        return None
    total = dict.fromkeys(ACTIVITIES, 0.0)
    before: Mapping[str, Any] | None = None
    for life in lives.values():
        for activity, seconds in life[-1]["wall"]["seconds"].items():
            total[activity] += seconds
        if before is not None:
            total["away"] += max(life[0]["wall"]["began"] - before["wall"]["at"], 0.0)
            again = max(before["step"] - life[0]["wall"]["from_step"], 0)
            lost = again / max(before.get("steps_per_second") or 0.0, 1e-9)
            lost = min(lost, total["step"]) if before.get("steps_per_second") else 0.0
            total["step"] -= lost
            total["lost"] += lost
        before = life[-1]
    rates = [row["mfu"] for life in lives.values() for row in life if row.get("mfu")]
    return Goodput(total, len(lives), sum(rates) / len(rates) if rates else None)
