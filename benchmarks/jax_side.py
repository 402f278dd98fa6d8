"""Our side of a comparison: what `ov.load` gives, and the training step of a run."""

import time
from pathlib import Path

import jax
import numpy as np

import omnivore_jax as ov
from benchmarks.job import (
    CLASSES,
    DECAY,
    EMA,
    RATE,
    SMOOTHING,
    SPEC,
    WEIGHTS,
    Job,
    draw_batch,
    standardised,
)
from omnivore_jax.core.compile_cache import open_cache
from omnivore_jax.model.compute import Compute
from omnivore_jax.tasks.classification import ClassificationTask
from omnivore_jax.train.mesh import MeshConfig, make_mesh
from omnivore_jax.train.mix import MixConfig
from omnivore_jax.train.optimizer import OptimizerConfig
from omnivore_jax.train.recipe import Recipe, TrainDataset
from omnivore_jax.train.state import state_from
from omnivore_jax.train.step import Trainer, make_train_step

CONSTANT = OptimizerConfig(
    warmup=0.0, peak=RATE, cooldown=RATE, cooldown_start=1.0, decay=DECAY, ema=EMA
)
PLAIN = Recipe(mixup=0.0, cutmix=0.0)


class JaxSide:
    """A model of ours in this process."""

    versions = {"jax": jax.__version__}

    def __init__(self, job: Job):
        self._job = job
        open_cache(str(Path(job.cache) / "jax"))
        self._inputs = draw_batch(job) if job.mode == "train" else standardised(job)

    def build(self) -> None:
        """Reads the weights."""
        job = self._job
        compute = Compute(dtype=job.dtype, attention=job.attention)
        model = ov.load(Path(job.folder) / WEIGHTS, compute)
        self._inputs = jax.device_put(self._inputs)
        if job.mode == "forward":
            self._model = model
            return
        dataset = TrainDataset(
            ClassificationTask(job.kind, CLASSES[job.kind], smoothing=SMOOTHING), PLAIN, SPEC
        )
        mesh = make_mesh(MeshConfig())
        steps, datasets = 10_000, {job.kind: dataset}
        trainer = Trainer(model.config, compute, datasets, CONSTANT, MixConfig(), mesh, steps, 0)
        self._step = make_train_step(trainer)
        self._state = state_from(model.params, mesh)

    def call(self) -> list[float]:
        """Scores the samples, or trains on them once: logits, or loss and norm of the gradient."""
        if self._job.mode == "forward":
            return np.ravel(self._model(self._inputs, self._job.kind)).tolist()
        self._state, metrics = self._step(self._state, {self._job.kind: self._inputs})
        jax.block_until_ready(self._state)
        return [float(metrics["loss"]), float(metrics["grad_norm"])]

    def program(self) -> str:
        """The compiled training step, as text."""
        batches = {self._job.kind: self._inputs}
        return self._step.lower(self._state, batches).compile().as_text() or ""

    def matmul(self, n: int) -> float:
        """Measures the FLOPs a second of a product of two n x n matrices."""
        x = jax.random.normal(jax.random.key(0), (n, n), self._job.dtype)
        product = jax.jit(lambda x: x @ x)
        jax.block_until_ready(product(x))
        began = time.perf_counter()
        jax.block_until_ready(product(x))
        return 2 * n**3 / (time.perf_counter() - began)
