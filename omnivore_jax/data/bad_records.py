"""The list of records that could not be read.

`bad_records.jsonl` in the run's folder, one row a record.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from omnivore_jax.core import files
from omnivore_jax.core.errors import UserError
from omnivore_jax.data.batches import BadRow


class BadRecords:
    """Notes every damaged record once, also over a resume, and ends a run that meets too many."""

    def __init__(self, path: Path, sizes: Mapping[str, int], budget: float):
        """Reads the list at `path` of an earlier run of the same workdir.

        `sizes`: samples of every dataset; `budget`: the share of them that may be damaged
        (`data.bad_budget`).
        """
        if not 0 <= budget <= 1:
            raise ValueError(f"data.bad_budget={budget}; use a share between 0 and 1")
        self.path = path
        self.sizes = dict(sizes)
        self.budget = budget
        self.known = _known(path)

    def add(self, rows: Sequence[BadRow]) -> None:
        """Appends the rows whose record is new.

        Raises:
            UserError: more distinct records of a dataset are damaged than the budget allows.

        """
        new = {
            (row.dataset, row.id): row for row in rows if (row.dataset, row.id) not in self.known
        }
        if new:
            self.known |= new.keys()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as file:
                file.write("".join(json.dumps(row._asdict()) + "\n" for row in new.values()))
        if rows:
            self._check()

    def counts(self) -> Counter[str]:
        """Distinct damaged records that were met so far, of every dataset that has some."""
        return Counter(dataset for dataset, _ in self.known)

    def _check(self) -> None:
        for dataset, count in self.counts().items():
            if count > self.budget * self.sizes.get(dataset, count):
                raise UserError(
                    f"{count} of {self.sizes[dataset]} records of data.{dataset} cannot be read, "
                    f"more than data.bad_budget={self.budget} allows; see {self.path}; prepare the "
                    "dataset again"
                )


def _known(path: Path) -> set[tuple[str, str]]:
    """The records of an earlier run; a last line that a kill cut short is dropped from the file."""
    if not path.exists():
        return set()
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        files.write_text(path, whole)
    return {(row["dataset"], row["id"]) for row in map(json.loads, whole.splitlines())}
