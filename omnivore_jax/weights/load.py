"""Opens a trained model for use."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import location
from omnivore_jax.core.tree import flatten, unflatten
from omnivore_jax.model.compiled import CompiledModel
from omnivore_jax.model.compute import Compute
from omnivore_jax.model.params import Params, abstract_model
from omnivore_jax.weights.card import Card
from omnivore_jax.weights.lazy import LazyArray
from omnivore_jax.weights.opening import WeightsFile, open_run, open_weights
from omnivore_jax.weights.request import Request


def load(path: str | Path, compute: Compute = Compute()) -> CompiledModel:
    """Opens weights.

    A safetensors file of ours, a run's folder (the EMA of its best checkpoint), or a file of
    PyTorch's that `convert` reads with no flags; converting it once spares the time.

    `model.card` says what the model is, how it is fed and where it comes from.

    Raises:
        UserError: there is no such file or folder, it is damaged, or something of it would be lost.

    """
    source = open_weights(location(path, "path"))
    if source.is_pytorch or source.card is None:
        from omnivore_jax.weights.conversion import open_job

        job = open_job(source.path, Request(certificate=False))
        config, heads, arrays = job.plan.config, job.plan.heads, job.plan.arrays
        return CompiledModel(config, heads, read_params(arrays), compute, Card(job.card))
    return _compiled(source, compute)


def load_step(
    folder: Path, step: int, weights: Literal["ema", "params"], compute: Compute = Compute()
) -> CompiledModel:
    """Opens a checkpoint of a run: its EMA, or the parameters themselves.

    Raises:
        UserError: there is none of that step, or it is damaged.

    """
    return _compiled(open_run(folder, weights, step), compute)


def _compiled(source: WeightsFile, compute: Compute) -> CompiledModel:
    check_shapes(source, flatten(abstract_model(source.config, source.heads)[1]))
    card = Card(source.card or {})
    return CompiledModel(source.config, source.heads, read_params(source.arrays), compute, card)


def read_params(arrays: dict[str, LazyArray]) -> Params:
    """Reads all arrays onto the default device, one after another."""
    return unflatten({path: jax.device_put(array.read()) for path, array in arrays.items()})


def check_shapes(source: WeightsFile, shapes: Mapping[str, jax.ShapeDtypeStruct]) -> None:
    """Raises UserError for the first parameter that is not as the card says."""
    for path in {**shapes, **source.arrays}:
        is_there, should_be = _words(source.arrays.get(path)), _words(shapes.get(path))
        if is_there != should_be:
            raise UserError(
                f"{source.path}: {path} is {is_there} where the card says {should_be}; convert it "
                "again"
            )


def _words(array: Any) -> str:
    return "nothing" if array is None else f"{array.dtype}{list(array.shape)}"
