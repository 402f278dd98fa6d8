"""What a model gets right on a split, every sample counted once, and the features that it sees there.

Devices give figures of single samples; they are added up on the host, so that neither padding nor the number of devices
can change a result. Functions that `make_predict` and `make_features` return compile once for every shape of batch:
make them once a run.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Bool, Float, Float32, Float64, Int, Int32, Int64, PyTree

from omnivore_jax.core.types import Batch
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.omnivore import Omnivore
from omnivore_jax.model.params import Params, abstract_model, merge
from omnivore_jax.model.preprocess import Preprocessing, depth_only, preprocess
from omnivore_jax.model.sharding import BATCH_AXES

Mode = Literal["all", "depth", "rgb"]
"""What of an RGB-D sample the model sees.

Depth alone means colours of 0 after standardising (the dataset's mean).
"""

Batches = Iterable[tuple[Batch, list[str]]]
"""Host batches, padded with mask False, and the ids of their real samples (`data.loader.eval_batches`)."""

Predict = Callable[[Any, Batch], Array]
Place = Callable[[Batch], Batch]
"""Puts this process's part of a batch (numpy) on its devices."""


@dataclass(frozen=True)
class Classification:
    """Predictions for the samples of a split, in the order of the batches, and what follows from them."""

    classes: int
    label: Int32[np.ndarray, " n"]
    predicted: Int32[np.ndarray, " n"]
    rank: Int32[np.ndarray, " n"]
    """How many classes were scored above the label's: 0 where it came out on top."""
    losses: Float32[np.ndarray, " n"]
    """Plain cross entropy, without smoothing."""
    ids: list[str]
    """Empty where several processes read a part each."""

    @property
    def n(self) -> int:
        return len(self.label)

    @property
    def top1(self) -> float:
        """Share of samples, not mean over classes (FACTS 5: SUN RGB-D too)."""
        return float(np.mean(self.rank < 1))

    @property
    def top5(self) -> float | None:
        """None where there are no more than five classes: it could not fail."""
        return float(np.mean(self.rank < 5)) if self.classes > 5 else None

    @property
    def loss(self) -> float:
        return float(np.mean(self.losses, dtype=np.float64))

    @property
    def confusion(self) -> Int64[np.ndarray, "classes classes"]:
        """Number of samples by true class (row) and predicted class (column)."""
        pairs = self.label.astype(np.int64) * self.classes + self.predicted
        return np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)

    @property
    def recall(self) -> Float64[np.ndarray, " classes"]:
        """Share of every class that was recognised; NaN for a class without samples."""
        of_class = np.bincount(self.label, minlength=self.classes)
        found = np.bincount(self.label[self.rank < 1], minlength=self.classes)
        return np.divide(found, of_class, out=np.full(self.classes, np.nan), where=of_class > 0)

    def row(self) -> dict[str, float | int]:
        """The figures of a line of metrics.jsonl.

        N, loss, top1 and, with more than five classes, top5.
        """
        row: dict[str, float | int] = {"n": self.n, "loss": self.loss, "top1": self.top1}
        return row if self.top5 is None else row | {"top5": self.top5}


class Features(NamedTuple):
    """Pooled features of the samples of a split, in the order of the batches."""

    feature: Float32[np.ndarray, "n c"]
    """Of length 1."""
    label: Int32[np.ndarray, " n"]
    ids: list[str]
    """Empty where several processes read a part each."""


def make_predict(
    model: ModelConfig,
    heads: Mapping[str, int],
    head: str,
    preprocessing: Preprocessing,
    mode: Mode = "all",
    mesh: Mesh | None = None,
) -> Predict:
    """Makes the compiled function (params, batch on the device) -> logits float32 [b classes] of one head.

    Raises:
        ValueError: there is no such head.

    """
    if head not in heads:
        raise ValueError(
            f"head={head!r} is not in this model; use one of {', '.join(sorted(heads))}"
        )
    return _compiled(lambda model, x: model(x, head=head), model, heads, preprocessing, mode, mesh)


def make_features(
    model: ModelConfig,
    heads: Mapping[str, int],
    preprocessing: Preprocessing,
    mode: Mode = "all",
    mesh: Mesh | None = None,
) -> Predict:
    """Makes the compiled function (params, batch on the device) -> features float32 [b c].

    They are those of the last stage after the final norm, averaged over all positions, scaled to
    length 1 (FACTS 1.7).
    """
    return _compiled(
        lambda model, x: _unit(model.trunk(x)[0]), model, heads, preprocessing, mode, mesh
    )


def classify(
    predict: Predict, params: Params, batches: Batches, classes: int, place: Place = jax.device_put
) -> Classification:
    """Runs a classifier over a split.

    Raises:
        ValueError: there are no samples, or a label that the head does not have.

    """

    def score(batch: Batch) -> _Scores:
        return _score(predict(params, batch), batch.label)

    scores, ids = _collect(score, batches, place)
    if scores.label.min() < 0 or scores.label.max() >= classes:
        raise ValueError(
            f"labels run from {scores.label.min()} to {scores.label.max()}, but the head has "
            f"{classes} classes; "
            "set the dataset's `classes` to what its files hold"
        )
    return Classification(classes, scores.label, scores.predicted, scores.rank, scores.losses, ids)


def extract_features(
    features: Predict, params: Params, batches: Batches, place: Place = jax.device_put
) -> Features:
    """Runs a feature function (`make_features`) over a split."""
    (feature, label), ids = _collect(
        lambda batch: (features(params, batch), batch.label), batches, place
    )
    return Features(feature, label, ids)


class _Scores(NamedTuple):
    label: Any
    predicted: Any
    rank: Any
    losses: Any


def _compiled(
    apply: Callable[[Omnivore, Array], Array],
    model: ModelConfig,
    heads: Mapping[str, int],
    preprocessing: Preprocessing,
    mode: Mode,
    mesh: Mesh | None,
) -> Predict:
    graphdef, _ = abstract_model(model, heads)

    def run(params: Params, batch: Batch) -> Array:
        on_mesh = (
            nullcontext() if mesh is None else jax.sharding.use_abstract_mesh(mesh.abstract_mesh)
        )
        with on_mesh:  # where the model looks for the batch axes
            return apply(merge(graphdef, params), _inputs(batch, preprocessing, mode))

    return jax.jit(run, out_shardings=None if mesh is None else NamedSharding(mesh, P(BATCH_AXES)))


def _inputs(batch: Batch, preprocessing: Preprocessing, mode: Mode) -> Float[Array, "b t h w c"]:
    if mode == "depth" and batch.disparity is None:
        raise ValueError("mode='depth', but the dataset has no depth; evaluate it with mode='all'")
    x = preprocess(batch._replace(disparity=None) if mode == "rgb" else batch, preprocessing)
    return depth_only(x) if mode == "depth" else x


def _unit(x: Float[Array, "b c"]) -> Float[Array, "b c"]:
    return x / jnp.maximum(jnp.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


@jax.jit
def _score(logits: Float[Array, "b classes"], label: Int[Array, " b"]) -> _Scores:
    """Judges every sample.

    A logit that is not a number ranks above all others, so it never helps.
    """
    own = jnp.take_along_axis(logits, label[:, None], axis=-1)
    earlier = (
        jnp.arange(logits.shape[-1]) < label[:, None]
    )  # of equal scores the first counts as higher, as in argmax
    rank = jnp.sum(~(logits <= own) | (logits == own) & earlier, axis=-1, dtype=jnp.int32)
    losses = jax.nn.logsumexp(logits, axis=-1) - own[:, 0]
    return _Scores(label, jnp.argmax(logits, axis=-1).astype(jnp.int32), rank, losses)


def _collect(
    run: Callable[[Batch], PyTree], batches: Batches, place: Place
) -> tuple[Any, list[str]]:
    """Concatenates what `run` gives for the real samples.

    Fetches a batch while the next one is computed.
    """
    parts, ids, pending = [], [], None
    for batch, names in batches:
        with jax.transfer_guard_host_to_device(
            "allow"
        ):  # JAX counts making a global array of parts as in passing
            placed = place(batch)
        ahead = run(placed), placed.mask
        if pending is not None:
            parts.append(_fetch(*pending))
        pending = ahead
        ids += names
    if pending is None:
        raise ValueError(
            "there is nothing to evaluate: the split gave no batches; prepare it or leave its "
            "dataset out"
        )
    parts.append(_fetch(*pending))
    return jax.tree.map(
        lambda *arrays: np.concatenate(arrays), *parts
    ), ids if jax.process_count() == 1 else []


def _fetch(results: PyTree, mask: Bool[Array, " b"]) -> PyTree:
    """Brings the rows of the real samples to the host, on every process those of all."""
    if not mask.is_fully_addressable:
        results, mask = _gather(mask.sharding)((results, mask))
    results, mask = jax.device_get((results, mask))
    return jax.tree.map(lambda array: array[mask], results)


@cache
def _gather(sharding: NamedSharding) -> Callable[[PyTree], PyTree]:
    return jax.jit(lambda arrays: arrays, out_shardings=NamedSharding(sharding.mesh, P()))
