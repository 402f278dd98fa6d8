"""What an evaluation says, as plain figures and as a table of all samples."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import new_file
from omnivore_jax.inference import parquet
from omnivore_jax.inference.exam import Evaluation
from omnivore_jax.tasks.classification import Classification
from omnivore_jax.tasks.segmentation import Segmentation


def figures(evaluation: Evaluation) -> dict[str, Any]:
    """Gives the figures as plain JSON; per-class ones by name."""
    exam, result = evaluation.exam, evaluation.result
    if isinstance(result, Segmentation):
        more = _of_maps(exam.classes, result)
    else:
        more = _of_classes(exam.classes, result)
    return {
        "dataset": exam.name,
        "head": exam.head,
        "view": exam.protocol.describe(),
        "mode": exam.mode,
        "devices": evaluation.devices,
        **result.row(),
        **more,
    }


def _of_classes(classes: tuple[str, ...], result: Classification) -> dict[str, Any]:
    per_class = zip(classes, result.support, result.recall, result.f1, strict=True)
    return {
        "mean_class_accuracy": result.mean_recall,
        "macro_f1": result.macro_f1,
        "calibration_error": result.calibration().error,
        "classes": {
            name: {"n": int(n), "accuracy": float(recall), "f1": float(f1)}
            for name, n, recall, f1 in per_class
            if n
        },
    }


def _of_maps(classes: tuple[str, ...], result: Segmentation) -> dict[str, Any]:
    per_class = zip(classes, result.labelled.sum(0), result.accuracy, result.iou, strict=True)
    return {
        "classes": {
            name: {
                "pixels": int(pixels),
                "accuracy": None if np.isnan(accuracy) else float(accuracy),
                "iou": float(iou),
            }
            for name, pixels, accuracy, iou in per_class
            if not np.isnan(iou)
        }
    }


def rows(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Lists the predictions, sample by sample; of label maps the pixels that are right."""
    classes, result = evaluation.exam.classes, evaluation.result
    if isinstance(result, Segmentation):
        for k, id in enumerate(result.ids):
            pixels, right = int(result.labelled[k].sum()), int(result.correct[k].sum())
            yield {"id": id, "pixels": pixels, "right": right, "loss": float(result.losses[k])}
        return
    for k, id in enumerate(result.ids):
        yield {
            "id": id,
            "class": classes[result.label[k]],
            "predicted": classes[result.predicted[k]],
            "confidence": float(result.confidence[k]),
            "rank": int(result.rank[k]),
            "loss": float(result.losses[k]),
        }


def check_table(path: Path) -> None:
    """Checks that a table can be written there.

    Raises:
        UserError: its suffix says neither CSV nor Parquet, or pyarrow is missing for that.

    """
    if path.suffix not in (".csv", parquet.SUFFIX):
        raise UserError(f"--predictions={path}; name a file that ends in .csv or {parquet.SUFFIX}")
    parquet.check_installed(path, "predictions", ".csv")


def write_table(path: Path, evaluation: Evaluation) -> None:
    """Writes the samples as CSV or Parquet.

    Raises:
        UserError: the disk does not take it.

    """
    if path.suffix == parquet.SUFFIX:
        table = [row | {"id": _printable(row["id"])} for row in rows(evaluation)]
        parquet.write(path, {name: [row[name] for row in table] for name in table[0]})
        return
    with new_file(path) as draft, draft.open("w", encoding="utf-8", newline="") as file:
        table = None
        for row in rows(evaluation):
            if table is None:
                table = csv.DictWriter(file, list(row))
                table.writeheader()
            table.writerow(row | {"id": _printable(row["id"])})


def _printable(id: str) -> str:
    """Writes the bytes of a file name that are no text as escapes."""
    return id.encode(errors="backslashreplace").decode()
