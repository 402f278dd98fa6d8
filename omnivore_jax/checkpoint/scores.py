"""What the EMA of each step scored.

Which checkpoint is the best one, and which is the best for each dataset.
"""

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path

from omnivore_jax.core import files
from omnivore_jax.core.errors import UserError

MEAN = "mean"
FILE = "scores.json"


class Scores:
    """The scores of a run, in a file beside its checkpoints.

    {"best": {"mean": 400, ...}, "steps": {"400": {"mean": 0.5, "image": 0.6}}}
    """

    def __init__(self, directory: Path):
        self._file = directory / FILE
        try:
            self.steps = {
                int(s): dict(row) for s, row in json.loads(self._file.read_text())["steps"].items()
            }
        except (FileNotFoundError, NotADirectoryError):
            self.steps = {}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(
                f"{self._file} cannot be read; delete it (the best checkpoint so far is forgotten)"
            ) from None

    def add(self, step: int, score: float, per_dataset: Mapping[str, float]) -> None:
        """Notes a step's scores; a step that is scored again has the newer ones."""
        if not math.isfinite(score):
            raise ValueError(f"score={score} of step {step}; use a finite number")
        row = {MEAN: float(score), **{name: float(value) for name, value in per_dataset.items()}}
        # a new dict: the thread that prunes may be reading the old one
        self.steps = {**self.steps, step: row}

    def best(self, among: Collection[int]) -> int | None:
        """Finds the step of the highest mean among those given; the earlier one of two equals."""
        return _highest({step: row for step, row in self.steps.items() if step in among}, MEAN)

    def save(self) -> None:
        """Writes the file, with the best step of each dataset for whoever reads it."""
        names = sorted({name for row in self.steps.values() for name in row})
        best = {name: _highest(self.steps, name) for name in names}
        steps = {str(step): row for step, row in sorted(self.steps.items())}
        files.write_json(self._file, {"best": best, "steps": steps})


def _highest(rows: Mapping[int, Mapping[str, float]], name: str) -> int | None:
    scored = [step for step, row in rows.items() if name in row]
    return max(scored, key=lambda step: (rows[step][name], -step), default=None)
