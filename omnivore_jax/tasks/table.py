"""The tasks by name: the key `data.<dataset>.task`."""

from omnivore_jax.tasks.classification import ClassificationTask
from omnivore_jax.tasks.segmentation import SegmentationTask
from omnivore_jax.tasks.verb_noun import VerbNounTask

TASKS: dict[str, type] = {
    "classification": ClassificationTask,
    "verb_noun": VerbNounTask,
    "segmentation": SegmentationTask,
}
"""The dataclass that a dataset's row is built into (`base.Task`)."""
