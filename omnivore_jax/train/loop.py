"""The training loop: takes steps from the loader, runs them, and stops where the run asks for it.

What happens around the steps (records, evaluation, checkpoints, signals) is handed in as a
`Callback`: the loop knows when, the callback knows what.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import jax

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch, PlacedStep


@dataclass(frozen=True)
class TrainConfig:
    """How long to train and on what: the section `train`."""

    epochs: float = 0.0
    """One epoch is `ratio` passes over every dataset."""
    steps: int = 0
    """0: from the epochs; else it wins."""
    seed: int = 0
    batching: Literal["separate", "mixed"] = "separate"
    batch_size: int = 0
    """Samples of a mixed step, on average; 0: the largest batch size of the datasets."""

    def __post_init__(self):
        if self.epochs <= 0 and self.steps <= 0:
            raise ValueError(
                f"epochs={self.epochs}, steps={self.steps}: nothing to do; make one of them "
                "positive"
            )


@runtime_checkable
class Callback(Protocol):
    """What a run does around its steps. Steps count updates.

    Step n is the state after n updates.
    """

    def record(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Writes the figures of a step, in order; called while the next step already runs."""
        ...

    def pauses_at(self, step: int) -> bool:
        """Tells whether the run evaluates or saves at this step, or has been asked to stop."""
        ...

    def pause(self, step: int, state: Any) -> None:
        """Evaluates and saves, from the state after this step; ends the run by raising."""
        ...


class NonFiniteLoss(UserError):
    """Training diverged; the last good checkpoint is untouched."""


def train(
    state: Any,
    steps: Iterable[PlacedStep],
    step_fn: Callable[[Any, dict[str, Batch]], Any],
    callback: Callback,
) -> Any:
    """Runs every step that the loader gives, one update each, and returns the last state.

    The figures of step n are fetched while step n + 1 runs, so that the device never waits for the
    host; only before a pause are they fetched at once, because no checkpoint may hold a state whose
    loss was not finite.

    Raises:
        NonFiniteLoss: names step, dataset and samples.

    """
    pending = None
    for loaded in steps:
        state, metrics = step_fn(state, loaded.batches)
        if pending is not None:
            _record(*pending, callback)
        pending = (loaded, metrics)
        if callback.pauses_at(loaded.step + 1):
            _record(*pending, callback)
            pending = None
            callback.pause(loaded.step + 1, state)
    if pending is not None:
        _record(*pending, callback)
    return state


def _record(loaded: PlacedStep, metrics: Any, callback: Callback) -> None:
    metrics = jax.device_get(metrics)
    if not metrics["finite"]:
        raise NonFiniteLoss(_diverged(loaded, metrics))
    callback.record(loaded.step + 1, metrics)


def _diverged(loaded: PlacedStep, metrics: Mapping[str, Any]) -> str:
    ids = "; ".join(
        f"{name}: {', '.join(ids[:8])}{' ...' if len(ids) > 8 else ''}"
        for name, ids in loaded.ids.items()
    )
    return (
        f"loss or gradient is not finite at step {loaded.step + 1} (gradient norm "
        f"{metrics['grad_norm']:.3g}), "
        f"samples {ids}; lower optimizer.peak, set optimizer.clip or look at these; the last "
        "checkpoint is untouched"
    )
