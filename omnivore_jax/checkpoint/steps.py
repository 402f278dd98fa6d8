"""The steps in a folder of checkpoints, and which of them can be trusted."""

import errno
import os
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from absl import logging

from omnivore_jax.checkpoint import seal as digests
from omnivore_jax.checkpoint.retention import list_steps, remove_leftovers, remove_step
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.patience import Patience

REASONS = [
    os.strerror(code)
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
]
"""Faults of the disk, by the words that Orbax quotes in errors of other types."""


class Search(NamedTuple):
    """The newest undamaged step, None where there is none, and the damaged ones before it."""

    step: int | None
    damaged: list[int]


class Steps:
    """Looks at the files alone: what a process did or wants is the manager's."""

    def __init__(self, directory: Path, visible: Patience = digests.VISIBLE):
        self.directory = directory
        self._visible = visible

    def path(self, step: int) -> Path:
        return self.directory / str(step)

    def sealed(self) -> list[int]:
        """Lists the finished steps, the newest first."""
        return [step for step in list_steps(self.directory) if digests.is_sealed(self.path(step))]

    def search(self) -> Search:
        """Reads every byte of the newest step, then of the one before, until one is undamaged."""
        damaged = []
        for step in list_steps(self.directory):
            if not digests.is_sealed(self.path(step)):
                logging.warning(
                    "checkpoint of step %d in %s is not finished; skipped", step, self.directory
                )
                continue
            damage = digests.find_damage(self.path(step), self._visible)
            if damage is None:
                return Search(step, damaged)
            logging.error(
                "checkpoint of step %d in %s is damaged: %s; skipped", step, self.directory, damage
            )
            damaged.append(step)
        return Search(None, damaged)

    def fault(self, step: int) -> str | None:
        """Says what is wrong with a step, to follow on "checkpoint of step 4"; None if nothing."""
        if not digests.is_sealed(self.path(step)):
            others = ", ".join(map(str, self.sealed())) or "none"
            return f"is not there or not finished (there are: {others})"
        damage = digests.find_damage(self.path(step), self._visible)
        return damage and f"is damaged: {damage}"

    def clear(self, step: int) -> None:
        """Deletes what a save that failed left behind."""
        remove_leftovers(self.directory)
        if not digests.is_sealed(self.path(step)):
            remove_step(self.directory, step)

    def failure(self, step: int, error: BaseException) -> BaseException:
        """Words a fault of the disk for the user; any other error is ours and stays as it is."""
        reason = next((words for words in REASONS if words in str(error)), None)
        if reason is None:
            return error
        return UserError(
            f"checkpoint of step {step} could not be written to {self.directory}: {reason}; mend "
            "that and run again (the last good checkpoint is of step "
            f"{next(iter(self.sealed()), 'none')})"
        )


def none_undamaged(directory: Path, damaged: Collection[int]) -> UserError:
    """Words that no step of a run can be trusted."""
    return UserError(
        f"{directory} has no undamaged checkpoint (damaged: {', '.join(map(str, damaged))}); put "
        "one back from a copy, or start again in another workdir"
    )
