"""A model compiled for a mesh: what its heads say of batches, and the features that it sees.

Nothing of a training run is needed: sizes and heads, how to run, and devices.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from omnivore_jax.core.memory import in_order
from omnivore_jax.core.types import Batch, Fusion, Mode
from omnivore_jax.eval.sliding import Grid, Window
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads, find_head
from omnivore_jax.model.params import Params, abstract_model, merge
from omnivore_jax.model.preprocess import Preprocessing, depth_only, preprocess
from omnivore_jax.model.sharding import BATCH_AXES
from omnivore_jax.tasks.base import Task


class Feed(NamedTuple):
    """How the samples of a dataset are given to a model."""

    preprocessing: Preprocessing
    mode: Mode = "all"
    """What of RGB-D is shown."""
    views: int = 1
    """Of a sample; above 1, batches have them in front: [b v t h w c]."""
    fusion: Fusion = "logits"
    scales: tuple[float, ...] = (1.0,)
    """Of its rows and columns, at which every view is scored."""
    mirrored: bool = False
    """Whether every view is also scored left to right."""
    window: Window | None = None
    """That slides over every picture, at every scale; for heads that label pixels."""


class Predictor:
    """Compiles once for every shape of batch, head and feed; make one a model and mesh."""

    def __init__(
        self,
        model: ModelConfig,
        heads: Heads,
        compute: Compute = Compute(),
        mesh: Mesh | None = None,
    ):
        self.mesh = mesh
        self._model, self._heads, self._compute = model, dict(heads), compute
        out = None if mesh is None else NamedSharding(mesh, P(BATCH_AXES))
        platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
        jit = partial(jax.jit, out_shardings=out, compiler_options=dict(in_order(platform)))
        self._judge = jit(self._run_judge, static_argnums=(2, 3))
        self._outputs = jit(self._run_outputs, static_argnums=(2, 3))
        self._features = jit(self._run_features, static_argnums=(2, 3))
        # of windows: the third holds the model and serves pictures of all sizes
        self._cut = jit(_cut_windows, static_argnums=(1, 2, 3))
        self._score = jit(self._run, static_argnums=2)
        self._join = jit(_join_windows, static_argnums=(1, 2, 3))
        self._fuse = jit(_fuse_parts, static_argnums=(1, 2))
        self._judge_output = jit(_judge_output, static_argnums=2)

    def judge(self, params: Params, batch: Batch, task: Task, feed: Feed) -> Any:
        """Scores a batch on a task's head and judges every sample (`Task.judge`): arrays [b ...].

        Raises:
            ValueError: there is no such head, or nothing to see in this mode.

        """
        find_head(self._heads, task.head)
        if feed.window is not None:
            output = self._slide(params, batch, task, feed, feed.window)
            return self._judge_output(output, batch.label, task)
        return self._judge(params, batch, task, feed)

    def lower(self, params: Params, batch: Batch, task: Task, feed: Feed) -> jax.stages.Lowered:
        """Lowers `judge` for arrays of these shapes, to compile it ahead of time."""
        return self._judge.lower(params, batch, task, feed)

    def outputs(self, params: Params, batch: Batch, task: Task, feed: Feed) -> Any:
        """Gives what a task's head says of every sample, fused over its views (`Task.fuse`).

        Raises:
            ValueError: there is no such head, or nothing to see in this mode.

        """
        find_head(self._heads, task.head)
        if feed.window is not None:
            return self._slide(params, batch, task, feed, feed.window)
        return self._outputs(params, batch, task, feed)

    def features(
        self, params: Params, batch: Batch, feed: Feed, stage: str = ""
    ) -> Float[Array, "b ..."]:
        """Gives features of length 1: the last stage after the final norm, averaged (FACTS 1.7).

        With a stage (`trunk.stage_names`) its maps, of one view: [b t h w c].
        """
        return self._features(params, batch, feed, stage)

    def _run_judge(self, params: Params, batch: Batch, task: Task, feed: Feed) -> Any:
        return task.judge(self._run_outputs(params, batch, task, feed), batch.label)

    def _run_outputs(self, params: Params, batch: Batch, task: Task, feed: Feed) -> Any:
        with self._on_mesh():
            x = _inputs(batch, feed)
            model = self._merged(params)

            def run(x: Float[Array, "n t h w c"]) -> Any:
                return model(x, task.head, compute=self._compute)

            outputs = _at_all_scales(run, x, task, feed)
            if feed.views == len(outputs) == 1:
                return outputs[0]
            split = [
                jax.tree.map(lambda y: y.reshape(-1, feed.views, *y.shape[1:]), output)
                for output in outputs
            ]
            joined = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *split)
            return task.fuse(joined, feed.fusion)

    def _slide(self, params: Params, batch: Batch, task: Task, feed: Feed, window: Window) -> Any:
        """Scores windows one after another, so that one program does for all of a shape."""
        size, parts = batch.rgb.shape[-3:-1], []
        for scale in feed.scales:
            grid = Grid(*_at_scale(size, scale), window)
            for flipped in (False, True)[: 1 + feed.mirrored]:
                windows = self._cut(batch, feed, scale, (grid, flipped))
                outputs = [self._score(params, x, task) for x in windows]
                parts.append(self._join(outputs, task, grid, (*size, flipped)))
        return parts[0] if len(parts) == 1 else self._fuse(parts, task, feed.fusion)

    def _run(self, params: Params, x: Float[Array, "n t h w c"], task: Task) -> Any:
        with self._on_mesh():
            return self._merged(params)(x, task.head, compute=self._compute)

    def _run_features(self, params: Params, batch: Batch, feed: Feed, stage: str) -> Array:
        with self._on_mesh():
            model, x = self._merged(params), _inputs(batch, feed)
            if stage:
                return model.features(x, [stage], compute=self._compute)[stage]
            feature = model.features(x, compute=self._compute)
            if feed.views > 1:
                feature = feature.reshape(-1, feed.views, feature.shape[-1]).mean(1)
            return feature / jnp.maximum(jnp.linalg.norm(feature, axis=-1, keepdims=True), 1e-12)

    def _merged(self, params: Params) -> Any:
        return merge(abstract_model(self._model, self._heads)[0], params)

    def _on_mesh(self) -> Any:
        """Where the model looks for the batch axes."""
        if self.mesh is None:
            return nullcontext()
        return jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh)


def _at_all_scales(
    run: Callable[[Float[Array, "n t h w c"]], Any],
    x: Float[Array, "n t h w c"],
    task: Task,
    feed: Feed,
) -> list[Any]:
    """Scores inputs at every scale, as they are and mirrored; all outputs as of the inputs' size.

    The resize is bilinear without an average, as OpenCV's and PyTorch's.
    """
    rows, columns = x.shape[2:4]
    as_it_is = feed.scales == (1.0,) and not feed.mirrored
    outputs = []
    for scale in feed.scales:
        scaled = _scaled(x, scale)
        for flipped in (False, True)[: 1 + feed.mirrored]:
            output = run(scaled[:, :, :, ::-1] if flipped else scaled)
            if not as_it_is:
                output = task.restore(output, (rows, columns), flipped=flipped)
            outputs.append(output)
    return outputs


def _scaled(x: Float[Array, "n t h w c"], scale: float) -> Float[Array, "n t h2 w2 c"]:
    if scale == 1:
        return x
    shape = (*x.shape[:2], *_at_scale(x.shape[2:4], scale), x.shape[4])
    return jax.image.resize(x, shape, "bilinear", antialias=False)


def _at_scale(size: Sequence[int], scale: float) -> tuple[int, int]:
    rows, columns = size
    return int(rows * scale + 0.5), int(columns * scale + 0.5)


def _cut_windows(
    batch: Batch, feed: Feed, scale: float, where: tuple[Grid, bool]
) -> list[Float[Array, "n t h w c"]]:
    """Standardises, resizes and, if asked, mirrors whole pictures, then cuts the windows."""
    x, (grid, flipped) = _scaled(_inputs(batch, feed), scale), where
    return grid.cut(x[:, :, :, ::-1] if flipped else x)


def _join_windows(
    outputs: Sequence[Any], task: Task, grid: Grid, whole: tuple[int, int, bool]
) -> Any:
    """Makes one output of those of all windows; `whole`: rows, columns, and if it is mirrored."""
    rows, columns, flipped = whole
    return task.restore(grid.join(outputs, task), (rows, columns), flipped=flipped)


def _fuse_parts(parts: Sequence[Any], task: Task, fusion: Fusion) -> Any:
    return task.fuse(jax.tree.map(lambda *maps: jnp.stack(maps, axis=1), *parts), fusion)


def _judge_output(output: Any, label: Array, task: Task) -> Any:
    return task.judge(output, label)


def _inputs(batch: Batch, feed: Feed) -> Float[Array, "n t h w c"]:
    """Standardises a batch; n counts views, those of a sample one after another."""
    if feed.mode == "depth" and batch.disparity is None:
        raise ValueError("mode='depth', but the dataset has no depth; evaluate it with mode='all'")
    if feed.mode == "rgb":
        batch = batch._replace(disparity=None)
    if feed.views > 1:
        batch = batch._replace(rgb=_flat(batch.rgb), disparity=_flat(batch.disparity))
    x = preprocess(batch, feed.preprocessing)
    return depth_only(x) if feed.mode == "depth" else x


def _flat(views: Any) -> Any:
    return None if views is None else views.reshape(-1, *views.shape[2:])
