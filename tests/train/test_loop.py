"""The loop knows when.

A fake step and a callback that notes what it is told show what happens in which order.
"""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.core.types import PlacedStep
from omnivore_jax.train.loop import NonFiniteLoss, TrainConfig, train


@dataclass
class Notes:
    """A callback that writes down what it is told; the fake step writes to the same list."""

    pauses: tuple[int, ...] = ()
    events: list[str] = field(default_factory=list)

    def record(self, step, metrics):
        assert all(isinstance(leaf, np.ndarray | np.generic) for leaf in jax.tree.leaves(metrics))
        self.events.append(f"record {step} loss {metrics['loss']:g}")

    def pauses_at(self, step):
        return step in self.pauses

    def pause(self, step, state):
        self.events.append(f"pause {step} state {int(state)}")


def steps(total, start=0):
    for step in range(start, total):
        yield PlacedStep(step, {"clips": step}, {"clips": [f"a/{step}.mp4", f"b/{step}.mp4"]})


def run(callback, loader, diverges_at=None):
    def step_fn(state, batches):
        callback.events.append(f"step {batches['clips']}")
        loss = np.nan if batches["clips"] == diverges_at else batches["clips"] / 10
        metrics = {
            "loss": jnp.float32(loss),
            "grad_norm": jnp.float32(3e10),
            "finite": jnp.isfinite(loss),
        }
        return state + 1, metrics

    with np.errstate(all="raise"):
        return train(jnp.int32(0), loader, step_fn, callback)


@pytest.mark.parametrize("start", [0, 3])
def test_every_step_of_the_loader_is_one_update_and_no_more(start):
    callback = Notes()
    assert run(callback, steps(7, start)) == 7 - start
    assert sum(event.startswith("step") for event in callback.events) == 7 - start


def test_figures_are_recorded_in_order_while_the_next_step_runs():
    callback = Notes()
    run(callback, steps(3))
    assert callback.events == [
        "step 0",
        "step 1",
        "record 1 loss 0",
        "step 2",
        "record 2 loss 0.1",
        "record 3 loss 0.2",
    ]


def test_figures_are_recorded_before_a_pause_and_a_pause_sees_the_state_after_its_step():
    callback = Notes(pauses=(2, 3))
    run(callback, steps(4))
    assert callback.events == [
        *("step 0", "step 1", "record 1 loss 0", "record 2 loss 0.1", "pause 2 state 2"),
        *("step 2", "record 3 loss 0.2", "pause 3 state 3"),
        *("step 3", "record 4 loss 0.3"),
    ]


@pytest.mark.parametrize(("diverges_at", "updates"), [(1, 2), (3, 5)])
def test_a_loss_that_is_not_finite_names_step_dataset_and_samples_and_nothing_is_saved_after_it(
    diverges_at, updates
):
    """Step 2 pauses: it is found there and then; step 4 is found when step 5 has been sent off."""
    callback = Notes(pauses=(2, 5))
    with pytest.raises(NonFiniteLoss) as stopped:
        run(callback, steps(8), diverges_at)
    message = str(stopped.value)
    assert (
        f"at step {diverges_at + 1} " in message
        and f"clips: a/{diverges_at}.mp4, b/{diverges_at}.mp4" in message
    )
    assert "gradient norm 3e+10" in message and "\n" not in message
    saved = [event for event in callback.events if event.startswith("pause")]
    assert saved == ([] if diverges_at == 1 else ["pause 2 state 2"])
    assert sum(event.startswith("step") for event in callback.events) == updates


def test_a_loss_that_is_not_finite_in_the_last_step_is_found_too():
    with pytest.raises(NonFiniteLoss, match="at step 4 "):
        run(Notes(), steps(4), diverges_at=3)


def test_of_many_samples_the_first_eight_are_named():
    ids = {"pictures": [f"{k}.jpg" for k in range(40)]}
    with pytest.raises(NonFiniteLoss, match="pictures: 0.jpg, 1.jpg, .*, 7.jpg ...;"):
        run(Notes(), [PlacedStep(0, {"clips": 0}, ids)], diverges_at=0)


def test_an_error_of_the_loader_ends_the_run():
    def fails():
        yield from steps(2)
        raise OSError("the disk is gone")

    callback = Notes()
    with pytest.raises(OSError, match="the disk is gone"):
        run(callback, fails())
    assert callback.events[-1] == "record 1 loss 0"


def test_a_run_of_no_length_is_refused():
    with pytest.raises(ValueError, match="epochs=0.0, steps=0: nothing to do"):
        TrainConfig()
