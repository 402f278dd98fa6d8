"""The tasks by name: the key `data.<dataset>.task`."""

from omnivore_jax.tasks.classification import ClassificationTask
from omnivore_jax.tasks.segmentation import SegmentationTask

TASKS: dict[str, type] = {
    "classification": ClassificationTask,
    "segmentation": SegmentationTask,
}
"""The dataclass that a dataset's row is built into (`base.Task`)."""
