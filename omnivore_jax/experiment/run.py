"""A whole run, in the order in which things happen.

Settings, data, devices, folder, training, evaluation, report.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
from absl import logging

from omnivore_jax.checkpoint.manager import CheckpointManager
from omnivore_jax.core import dist, log
from omnivore_jax.core.compile_cache import open_cache
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.mirror import Mirror, mirrored
from omnivore_jax.core.peers import Peers, Stopped
from omnivore_jax.core.signals import Preemption
from omnivore_jax.experiment.dry import attention_lines
from omnivore_jax.experiment.evaluation import RunEvaluator
from omnivore_jax.experiment.settings import Settings, resolve
from omnivore_jax.experiment.splits import check_validation, manifest_facts, open_datasets
from omnivore_jax.experiment.summary import Summary, summarise
from omnivore_jax.experiment.training import Run, run_training
from omnivore_jax.experiment.workdir import host_facts, open_workdir
from omnivore_jax.model.attention.base import traced_device
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.train.mesh import make_mesh
from omnivore_jax.weights import accounts
from omnivore_jax.weights.card import read_card
from omnivore_jax.weights.initial import read_initial

__all__ = ["Stopped", "Summary", "run"]


def run(
    config: Mapping[str, Any],
    workdir: Path,
    source: str,
    *,
    evaluate_only: bool,
    allow_config_change: bool,
) -> Summary:
    """Trains to the end, or from where the run in `workdir` stopped; evaluates, writes the report.

    `source` is where the config comes from, for the report.

    Raises:
        UserError: a mistake in what the user gave.
        Stopped: a signal came; the state is saved.

    """
    began = time.perf_counter()
    settings = resolve(config)  # what is wrong with the config is said before anything is touched
    dist.initialize_from_flags()
    log.setup()
    cache = open_cache(settings.log.compile_cache)
    with Peers(dist.heartbeat_from_flags()) as peers:
        peers.compare("config", host_facts(config))
        data = open_datasets(settings)
        peers.compare("manifests", manifest_facts(settings, data))
        mesh = _mesh(settings)
        with mirrored(workdir, read_only=evaluate_only) as mirror:
            _open_workdir(mirror, settings, config, (evaluate_only, allow_config_change))
            place = Run(settings, data, mesh, mirror)
            summary = _train_and_evaluate(place, peers, source, None if evaluate_only else began)
        logging.info("%s", cache())
        return summary


def _open_workdir(
    mirror: Mirror, settings: Settings, config: Mapping[str, Any], mode: tuple[bool, bool]
) -> None:
    """`mode`: whether only to evaluate, and whether the config may have changed."""
    evaluate_only, allow_change = mode
    begun = mirror.checkpoints.is_dir()
    if evaluate_only and not begun:
        raise UserError(f"--workdir={mirror.workdir} holds no run to evaluate; train first")
    if settings.init_from and not begun:
        settings.plan_initial()  # a mistake in it must not be remembered by the folder
    open_workdir(mirror, config, allow_change, read_only=evaluate_only)


def _train_and_evaluate(run: Run, peers: Peers, source: str, began: float | None) -> Summary:
    """`began` is when the process began to train; None: evaluates only."""
    settings, data, mesh, mirror = run.settings, run.data, run.mesh, run.mirror
    with (
        _manager(run, read_only=began is None) as manager,
        Preemption(peers) as preemption,
        peers.fails_early(),
    ):
        settings, params = _begin_from(settings, manager)
        run = replace(run, settings=settings)
        evaluator = RunEvaluator(settings, data, mesh)
        for line in attention_lines(settings, traced_device()):
            logging.info("%s", line)
        whole = False
        if began is not None:
            check_validation(settings, data, mirror.folder)
            whole = run_training(run, manager, evaluator, preemption, params)
        seconds = time.perf_counter() - began if began is not None and whole else None
        return summarise(run, manager, evaluator, source, seconds)


def _manager(run: Run, read_only: bool) -> CheckpointManager:
    """Of the run's checkpoints; its rows are where they are before a step is sealed."""
    mirror = run.mirror
    return CheckpointManager(
        mirror.checkpoints, run.settings.checkpoint, read_only, before_seal=mirror.push
    )


def _begin_from(settings: Settings, manager: CheckpointManager) -> tuple[Settings, Any]:
    """The weights of `init_from`, and the model as they have it.

    A run that has a checkpoint goes on with its own.
    """
    if not settings.init_from:
        return settings, None
    step = manager.latest_good_step()
    if step is not None:
        saved, _, _ = read_card(manager.metadata(step)["card"])
        return replace(settings, model=_formed(settings.model, saved)), None
    plan = settings.plan_initial()
    logging.info("starting from %s", settings.init_from)
    for line in accounts.lines(plan.rows):
        logging.info("%s", line)
    return replace(settings, model=plan.config), read_initial(plan)


def _formed(model: ModelConfig, saved: ModelConfig) -> ModelConfig:
    """The model with what `init_from` decides; all else is the config's."""
    return replace(model, position_bias=saved.position_bias, window_index=saved.window_index)


def _mesh(settings: Settings) -> jax.sharding.Mesh:
    try:
        return make_mesh(settings.mesh)
    except ValueError as error:
        raise UserError(str(error)) from error
