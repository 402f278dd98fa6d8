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


def dataset_result(
    name: str,
    kind: Kind,
    classes: Sequence[str],
    result: Classification,
    depth: Result | None = None,
    rgb: Result | None = None,
) -> DatasetResult:
    """Takes from a classification what is reported.

    `depth` and `rgb` are those of RGB-D with a part hidden.
    """
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
        depth_only=None if depth is None else depth.score,
        rgb_only=None if rgb is None else rgb.score,
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
