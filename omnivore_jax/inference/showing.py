"""Pictures of samples whose features lie in a file: small, square, from the data itself."""

from collections.abc import Sequence
from pathlib import Path

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Kind
from omnivore_jax.data import manifest
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import data_root, open_dataset
from omnivore_jax.data.demo import EmbeddedDataset
from omnivore_jax.data.depth import BASELINES, Intrinsics
from omnivore_jax.data.protocol import DepthConvention, Protocol
from omnivore_jax.data.sample import BadRecord, Sample
from omnivore_jax.data.transforms import EvalTransform
from omnivore_jax.inference.exam import DEMO_KINDS
from omnivore_jax.inference.feature_set import FeatureSet
from omnivore_jax.inference.media import Finder

SIDE, FRAMES = 112, 4
"""Pixels, and frames of a clip."""


def samples_of(features: FeatureSet, chosen: Sequence[int], root: str) -> list[Sample]:
    """Reads samples by their places in a file of features.

    `root`: where prepared datasets lie. Those of files are looked for under the paths that they
    had.

    Raises:
        UserError: the dataset or a file is not there any more, or is damaged.

    """
    name = features.origin.get("dataset")
    if name is None:
        return [_of_file(Path(features.ids[k])) for k in chosen]
    split = str(features.origin.get("split", "val"))
    if name in DEMO_KINDS:
        embedded = EmbeddedDataset(name, "train" if split == "train" else "test", 0)
        return [embedded.load(k, 0) for k in chosen]
    kind = manifest.read(data_root(root) / name).kind
    transform = _transform(kind)
    config = DatasetConfig(kind, 1, frames=transform.protocol.frames, size=SIDE)
    dataset = open_dataset(name, config, root, split, transform)
    if len(dataset) != len(features.ids):
        raise UserError(
            f"{name} has {len(dataset)} samples in {split}, the features {len(features.ids)}; "
            "extract them again"
        )
    try:
        return [dataset.load(k, 0) for k in chosen]
    except BadRecord as record:
        raise UserError(f"{name}: {record}") from record


def _of_file(path: Path) -> Sample:
    [medium] = Finder(None, Intrinsics(0.0, BASELINES["kv2"], 0.001)).find([path]).items
    try:
        return _transform(medium.kind)(medium.record())
    except (BadRecord, OSError) as error:
        raise UserError(f"{path} cannot be shown ({error}); leave --report out") from error


def _transform(kind: Kind) -> EvalTransform:
    frames = FRAMES if kind == "video" else 1
    depth = DepthConvention() if kind == "rgbd" else None
    clip = "segments" if kind == "video" else "stride"
    protocol = Protocol(frames, clip, short_side=SIDE, size=SIDE, antialias=True, depth=depth)
    return EvalTransform(kind, protocol)
