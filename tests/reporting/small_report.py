"""A small report of real results: scikit-learn's digits, told apart by linear discriminants."""

import json
from functools import cache
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import confusion_matrix

from omnivore_jax.eval.metrics import ParameterAccount
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.reporting import report, sheets
from omnivore_jax.tasks.classification import Classification

CLASSES = ("zero", "<b>one</b>", "two & more", *map(str, range(3, 10)))
"""Names that a page must not take for its own markup."""


@cache
def classification() -> Classification:
    """Of the second half of the digits."""
    x, y = load_digits(return_X_y=True)
    half = len(x) // 2
    linear = LinearDiscriminantAnalysis().fit(x[:half], y[:half])
    scores = linear.predict_log_proba(x[half:]).astype(np.float32)
    own = scores[np.arange(len(scores)), y[half:]]
    rank = (scores > own[:, None]).sum(1).astype(np.int32)
    predicted, confidence = scores.argmax(1).astype(np.int32), np.exp(scores.max(1))
    return Classification(10, y[half:].astype(np.int32), predicted, rank, -own, confidence, [])


def confusion() -> np.ndarray:
    """What scikit-learn counts."""
    result = classification()
    return confusion_matrix(result.label, result.predicted)


def standardised(n: int, spec: Preprocessing, depth: bool) -> np.ndarray:
    """Digits [n, 1, 8, 8, 3 or 4] as the model takes them."""
    picture = load_digits().images[:n, None, :, :, None] / 16
    rgb = (np.repeat(picture, 3, -1) - np.array(spec.mean)) / np.array(spec.std)
    four = (picture - spec.disparity_mean) / spec.disparity_std
    return (np.concatenate([rgb, four], -1) if depth else rgb).astype(np.float32)


def make(
    name: str = "small", datasets: tuple[str, ...] = ("pictures", "reliefs"), batching="separate"
):
    result, spec = classification(), Preprocessing()
    kinds = {"pictures": "image", "reliefs": "rgbd"}
    results = [
        report.dataset_result(
            n, kinds[n], CLASSES, result, (result, result) if n == "reliefs" else None
        )
        for n in datasets
    ]
    labels = load_digits().target
    samples = [
        sheets.sample_sheet(
            n, kinds[n], standardised(4, spec, n == "reliefs"), labels[:4], CLASSES, spec
        )
        for n in datasets
    ]
    frames = (load_digits().images[:6, None, :, :, None].repeat(3, -1) * 15).astype(np.uint8)
    right = np.array([[True, False]] * 2)
    found = report.Found(
        "reliefs",
        "depth maps",
        ((CLASSES[1], "4"),) * 2,
        right,
        frames[:4].reshape(2, 2, 1, 8, 8, 3),
    )
    return report.Report(
        report.RunInfo(name, "configs/small.py", 3, 1200, batching, "cpu x 1", 371.4),
        tuple(results),
        knn=(
            report.KnnResult(
                "pictures", "reliefs", "depth maps", 899, 0.9375, 0.1, 0.125, 20, 0.07
            ),
        ),
        samples=tuple(samples),
        retrieval=report.RetrievalSheet(
            "pictures", CLASSES[:2], frames[4:], (found,), "the first of each class"
        ),
        parameters=ParameterAccount(
            1000, {"image": 100, "rgbd": 100}, {"image": 1050, "rgbd": 1100}
        ),
    )


def write_run(workdir: Path, stored: report.Report, config: dict | None = None) -> Path:
    """Lays a finished run into a folder."""
    report.save(stored, workdir)
    names = [result.name for result in stored.datasets]
    rows = []
    for step in range(1, 400):
        figures = {names[step % len(names)]: {"loss": 2 / step, "accuracy": 1 - 1 / step}}
        rows.append({"step": step, "train": figures, "learning_rate": 1e-3, "grad_norm": 1})
    rows.append({"step": 399, "eval": {name: {"top1": 0.9} for name in names}})
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stored_config = {
        "config": config or {"name": "small", "train": {"seed": 3}},
        "versions": {"jax": "0.10.2"},
    }
    (workdir / "config.json").write_text(
        json.dumps(stored_config | {"command": "python -m omnivore_jax.main <x>"})
    )
    return workdir
