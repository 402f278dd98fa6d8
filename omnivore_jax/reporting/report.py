"""What the evaluation of a run found, as plain data.

Stored in its folder, so that the page can be drawn again.

report/data.json    figures and texts
report/arrays.npz   confusion matrices and pictures, named by their place in data.json
"""

import dataclasses
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from omnivore_jax.core import files
from omnivore_jax.core.config import build
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Kind
from omnivore_jax.eval.metrics import ParameterAccount
from omnivore_jax.tasks.base import Result
from omnivore_jax.tasks.classification import Classification
from omnivore_jax.tasks.segmentation import Segmentation

FOLDER, DATA, ARRAYS = "report", "data.json", "arrays.npz"
FORMAT = 1
MAX_CLASSES = 1000
"""More have no confusion matrix: nobody could look at it."""


@dataclass(frozen=True)
class RunInfo:
    """What was run; the config, the versions and the command are in config.json."""

    name: str
    config: str
    """The config's file, as it was given."""
    seed: int
    steps: int
    batching: str
    device: str
    """In words: "cpu x 1"."""
    seconds: float | None = None
    """Of training and evaluation; None where an earlier process did a part."""


@dataclass(frozen=True)
class DatasetResult:
    """One validation split, every sample counted once."""

    name: str
    kind: Kind
    classes: tuple[str, ...]
    n: int
    top1: float
    loss: float
    chance: float
    """What guessing gets: one over the classes.

    Where they are not equally many, the share of the largest.
    """
    top5: float | None = None
    depth_only: float | None = None
    """Top-1 with colours hidden."""
    rgb_only: float | None = None
    """Top-1 without depth."""
    confusion: Int[np.ndarray, "classes classes"] | None = None
    """Samples by true (row) and predicted class."""


@dataclass(frozen=True)
class MapSheet:
    """Pictures of a validation split with their label maps and what the model makes of them."""

    names: tuple[str, ...]
    """The largest classes of each, in words."""
    pictures: UInt8[np.ndarray, "n h w 3"]
    truth: UInt8[np.ndarray, "n h w 3"]
    """In colours over the picture."""
    predicted: UInt8[np.ndarray, "n h w 3"]
    legend: tuple[tuple[str, str], ...]
    """Classes that are shown, with their colours."""


@dataclass(frozen=True)
class MapResult:
    """One validation split of label maps, every pixel counted once."""

    name: str
    kind: Kind
    classes: tuple[str, ...]
    n: int
    miou: float
    pixel_accuracy: float
    mean_class_accuracy: float
    loss: float
    chance: float
    """mIoU of naming the largest class everywhere."""
    iou: tuple[float | None, ...]
    """By class; None for one that is neither there nor predicted."""
    share: tuple[float, ...]
    """Of all labelled pixels, by class."""
    depth_only: float | None = None
    """mIoU with colours hidden."""
    rgb_only: float | None = None
    """mIoU without depth."""
    sheet: MapSheet | None = None


@dataclass(frozen=True)
class KnnResult:
    """Pictures classified by their nearest neighbours in another modality."""

    query: str
    gallery: str
    shows: str
    """What a gallery sample is, in words: "depth maps"."""
    n: int
    top1: float
    chance: float
    untrained: float | None
    """The same with the weights that training began with."""
    k: int
    tau: float


@dataclass(frozen=True)
class SampleSheet:
    """Training samples as the model is given them."""

    dataset: str
    kind: Kind
    names: tuple[str, ...]
    """The class of each."""
    notes: tuple[str, ...]
    """What was done to each that its picture does not tell; often empty."""
    rgb: UInt8[np.ndarray, "n t h w 3"]
    depth: UInt8[np.ndarray, "n t h w 3"] | None = None
    """In false colours."""
    labels: UInt8[np.ndarray, "n t h w 3"] | None = None
    """Label maps in colours."""


@dataclass(frozen=True)
class Found:
    """What one gallery answers to the queries of a sheet, nearest first."""

    gallery: str
    shows: str
    names: tuple[tuple[str, ...], ...]
    right: Bool[np.ndarray, "q k"]
    pictures: UInt8[np.ndarray, "q k t h w 3"]


@dataclass(frozen=True)
class RetrievalSheet:
    """Query pictures and their nearest neighbours in galleries of other modalities."""

    query: str
    names: tuple[str, ...]
    pictures: UInt8[np.ndarray, "q t h w 3"]
    found: tuple[Found, ...]
    chosen: str
    """How the queries were chosen: "the first validation picture of every class"."""


@dataclass(frozen=True)
class Report:
    """All of it; what a run does not have stays empty, and the page says so."""

    run: RunInfo
    datasets: tuple[DatasetResult, ...] = ()
    knn: tuple[KnnResult, ...] = ()
    samples: tuple[SampleSheet, ...] = ()
    retrieval: RetrievalSheet | None = None
    parameters: ParameterAccount | None = None
    maps: tuple[MapResult, ...] = ()


def map_result(
    name: str,
    kind: Kind,
    classes: Sequence[str],
    result: Segmentation,
    parts: tuple[Result, Result] | None = None,
    sheet: MapSheet | None = None,
) -> MapResult:
    """Takes from a segmentation what is reported; `parts`: with depth alone, with colours alone."""
    pixels = result.labelled.sum(0, dtype=np.float64)
    share = pixels / max(pixels.sum(), 1)
    depth, rgb = (None, None) if parts is None else (part.score for part in parts)
    return MapResult(
        name,
        kind,
        tuple(classes),
        n=result.n,
        miou=result.miou,
        pixel_accuracy=result.pixel_accuracy,
        mean_class_accuracy=float(np.nanmean(result.accuracy)),
        loss=result.loss,
        chance=float(share.max() / max(np.count_nonzero(share), 1)),
        iou=tuple(None if np.isnan(x) else float(x) for x in result.iou),
        share=tuple(share.tolist()),
        depth_only=depth,
        rgb_only=rgb,
        sheet=sheet,
    )


def dataset_result(
    name: str,
    kind: Kind,
    classes: Sequence[str],
    result: Classification,
    parts: tuple[Result, Result] | None = None,
) -> DatasetResult:
    """Takes from a classification what is reported.

    `parts`: of RGB-D with depth alone, and with colours alone.
    """
    depth, rgb = (None, None) if parts is None else (part.score for part in parts)
    names = [
        *classes,
        *map(str, range(len(classes), result.classes)),
    ]  # a head may have more classes than the data
    return DatasetResult(
        name,
        kind,
        tuple(names),
        n=result.n,
        top1=result.top1,
        loss=result.loss,
        chance=chance(np.bincount(result.label, minlength=result.classes)),
        top5=result.top5,
        depth_only=depth,
        rgb_only=rgb,
        confusion=result.confusion if result.classes <= MAX_CLASSES else None,
    )


def chance(support: Int[np.ndarray, " classes"]) -> float:
    """The best that can be got without looking, from the number of samples of every class."""
    even = support.max() - support.min() <= 1  # as even as the number of samples allows
    return float(1 / len(support) if even else support.max() / support.sum())


def save(report: Report, workdir: Path) -> None:
    """Stores a report in the folder of its run; a crash leaves the one before.

    Raises:
        UserError: the disk does not take it.

    """
    arrays: dict[str, np.ndarray] = {}
    data = {"format": FORMAT} | _without_arrays(dataclasses.asdict(report), "", arrays)
    folder = workdir / FOLDER
    # the second file becomes visible only once the first one is whole
    with files.replacement(folder / ARRAYS) as draft, draft.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    files.write_json(folder / DATA, data)


def load(workdir: Path) -> Report | None:
    """Reads a stored report; None where there is none.

    Raises:
        UserError: it is damaged, or of another version.

    """
    folder = workdir / FOLDER
    if not (folder / DATA).exists():
        return None
    try:
        data = json.loads((folder / DATA).read_text(encoding="utf-8"))
        if data.pop("format", None) != FORMAT:
            raise ValueError("it was written by another version")
        with (folder / ARRAYS).open("rb") as file, np.load(file) as arrays:
            return build(Report, _with_arrays(data, arrays), "report")
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(
            f"{folder} cannot be read ({error}); evaluate the run again with --mode=eval"
        ) from error


def figures(report: Report) -> dict[str, Any]:
    """The numbers of a report, for programs: no pictures, no confusion matrices."""
    whole = dataclasses.asdict(dataclasses.replace(report, samples=(), retrieval=None))
    for result in whole["datasets"]:
        del result["confusion"]
    for result in whole["maps"]:
        del result["sheet"]
    return {key: value for key, value in whole.items() if key not in ("samples", "retrieval")}


def _without_arrays(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """Replaces every array of a tree by its name and collects it."""
    if isinstance(value, np.ndarray):
        arrays[path] = value
        return {"array": path}
    if isinstance(value, Mapping):
        return {
            key: _without_arrays(entry, _join(path, key), arrays) for key, entry in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without_arrays(entry, _join(path, i), arrays) for i, entry in enumerate(value)]
    return value


def _with_arrays(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {"array"}:
            return arrays[value["array"]]
        return {key: _with_arrays(entry, arrays) for key, entry in value.items()}
    return [_with_arrays(entry, arrays) for entry in value] if isinstance(value, list) else value


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)
