"""The tasks by name: the key `data.<dataset>.task`."""

from typing import Literal

from omnivore_jax.tasks.classification import ClassificationTask

TaskName = Literal["classification"]

TASKS: dict[str, type] = {"classification": ClassificationTask}
"""The dataclass that a dataset's row is built into (`base.Task`)."""
