"""The end of a run.

The best EMA is evaluated in full, the report is written, the figures are returned.
"""

import dataclasses
import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
from absl import logging
from jax.sharding import Mesh

from omnivore_jax.checkpoint.manager import CheckpointManager
from omnivore_jax.core import dist
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Mode
from omnivore_jax.eval.knn import Knn
from omnivore_jax.eval.metrics import parameter_account
from omnivore_jax.experiment import pictures, retrieval
from omnivore_jax.experiment.evaluation import RunEvaluator
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.splits import RunData
from omnivore_jax.experiment.training import Run
from omnivore_jax.reporting import report as reports
from omnivore_jax.reporting.render import summary_table, write_page
from omnivore_jax.reporting.report import DatasetResult, KnnResult, MapResult, Report, RunInfo
from omnivore_jax.tasks.segmentation import Segmentation
from omnivore_jax.train.state import abstract_state, init_state

HIDDEN = ("confusion", "classes", "sheet", "iou", "share")
"""What is too long for figures in a line."""
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What a system says where one may not write."""


@dataclass(frozen=True)
class Summary:
    """What a run found."""

    report: Report
    page: Path | None
    """None where the folder of the run may only be read."""
    step: int
    """Of the checkpoint whose EMA was evaluated."""

    def json(self) -> dict[str, Any]:
        """The figures, without pictures."""
        return {
            "page": None if self.page is None else str(self.page),
            "step": self.step,
            "datasets": [_figures(result) for result in self.report.datasets],
            "maps": [_figures(result) for result in self.report.maps],
            "knn": [_figures(result) for result in self.report.knn],
        }

    def text(self) -> str:
        """A table for a terminal, and where the page is."""
        return f"{summary_table(self.report)}\n\n{self.page or 'no page: see the warning above'}"


def summarise(
    run: Run,
    manager: CheckpointManager,
    evaluator: RunEvaluator,
    source: str,
    seconds: float | None,
) -> Summary:
    """Evaluates the best EMA of a run and writes its report.

    `source` is where the config comes from; `seconds` is None where an earlier process did a part.

    Raises:
        UserError: there is no undamaged checkpoint.

    """
    settings, data, mesh = run.settings, run.data, run.mesh
    step, params = _best(settings, mesh, manager)
    judge = _Judge(settings, data, mesh, evaluator, params)
    results = [judge.dataset(name) for name in data.val]
    neighbours = _neighbours(settings, data, mesh, evaluator, params)
    earlier = reports.load(run.workdir)
    if seconds is None and earlier is not None:
        seconds = earlier.run.seconds
    report = Report(
        run=_info(settings, data, source, seconds),
        datasets=tuple(result for result in results if isinstance(result, DatasetResult)),
        maps=tuple(result for result in results if isinstance(result, MapResult)),
        knn=tuple(result for _, result in neighbours if result is not None),
        samples=tuple(pictures.training_samples(n, settings, data, mesh) for n in data.train),
        retrieval=pictures.retrieval_sheet([found for found, _ in neighbours], data),
        parameters=parameter_account(settings.model, settings.heads, _with_depth(settings)),
    )
    page = _write(report, run.workdir) if dist.is_primary() else run.workdir / "report.html"
    return Summary(report, page and run.mirror.shown(page), step)


def _write(report: Report, workdir: Path) -> Path | None:
    try:
        reports.save(report, workdir)
        return write_page(workdir)
    except (UserError, OSError) as error:
        cause = error.__cause__ if isinstance(error, UserError) else error
        if getattr(cause, "errno", None) not in READ_ONLY:
            raise
        logging.warning("%s may only be read: the figures are not stored there", workdir)
        return None


def _best(settings: Settings, mesh: Mesh, manager: CheckpointManager) -> tuple[int, Any]:
    """The EMA with the highest mean score among the undamaged checkpoints, else the newest."""
    ema = {"ema": abstract_state(settings.model, settings.heads, mesh).ema}
    best = manager.best_step()
    if best is not None:
        try:
            restored = manager.restore_part(ema, best)
            return best, restored.state["ema"]
        except UserError as damage:
            logging.error("%s; the newest checkpoint is evaluated instead", damage)
    restored = manager.restore_part(ema)
    return restored.step, restored.state["ema"]


class _Judge(NamedTuple):
    """What scoring the splits of a run takes."""

    settings: Settings
    data: RunData
    mesh: Mesh
    evaluator: RunEvaluator
    params: Any

    def dataset(self, name: str) -> DatasetResult | MapResult:
        """Scores a split; RGB-D also with a part of it hidden."""
        kind, classes = self.settings.datasets[name].kind, self.data.val[name].classes
        result, parts = self._score(name), None
        if kind == "rgbd":
            parts = self._score(name, "depth"), self._score(name, "rgb")
        if isinstance(result, Segmentation):
            sheet = pictures.map_sheet(name, self.data, self.mesh, self.evaluator, self.params)
            return reports.map_result(name, kind, classes, result, parts, sheet)
        return reports.dataset_result(name, kind, classes, result, parts)

    def _score(self, name: str, mode: Mode = "all") -> Any:
        return self.evaluator.evaluate_last(name, self.params, mode)


def _neighbours(
    settings: Settings, data: RunData, mesh: Mesh, evaluator: RunEvaluator, params: Any
):
    """What pictures find in other modalities, with the trained model and before training."""
    if not settings.eval.retrieval:
        return []
    results, untrained = [], None
    for pair in retrieval.pairs(settings, data):
        found = retrieval.find_neighbours(pair, settings, data, evaluator, params)
        result = None
        if found.knn is not None:
            if untrained is None:
                untrained = init_state(
                    settings.model, settings.heads, settings.train.seed, mesh
                ).params
            before = retrieval.find_neighbours(pair, settings, data, evaluator, untrained).knn
            result = _knn_result(pair, found.knn, before)
        results.append((found, result))
    return results


def _knn_result(pair: retrieval.Pair, knn: Knn, before: Knn | None) -> KnnResult:
    return KnnResult(
        query=pair.query,
        gallery=pair.gallery,
        shows=pair.shows,
        n=knn.n,
        top1=knn.top1,
        chance=knn.chance,
        untrained=None if before is None else before.top1,
        k=retrieval.K,
        tau=retrieval.TAU,
    )


def _info(settings: Settings, data: RunData, source: str, seconds: float | None) -> RunInfo:
    return RunInfo(
        name=settings.name,
        config=source,
        seed=settings.train.seed,
        steps=settings.mixture(data.sizes).total_steps,
        batching=settings.train.batching,
        device=f"{jax.devices()[0].platform} x {jax.device_count()}",
        seconds=seconds,
    )


def _with_depth(settings: Settings) -> set[str]:
    return {
        settings.tasks[name].head
        for name, config in settings.datasets.items()
        if config.kind == "rgbd"
    }


def _figures(result: Any) -> Mapping[str, Any]:
    rows = {field.name: getattr(result, field.name) for field in dataclasses.fields(result)}
    return {name: value for name, value in rows.items() if name not in HIDDEN}
