"""What one update changes and what it leaves, on one device."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.core.tree import flatten
from omnivore_jax.model.params import group_of
from tests.train.miniature import SAMPLES, batch, state_of, step_of

COMPILED = "/jax/core/compile/backend_compile_duration"
REAL = SAMPLES - 3  # samples that are not padding


def update(*names, state=None, **replaced):
    """Takes one step from the initial state, or from another.

    Gives the state and the metrics as numpy.
    """
    given = {name: batch(name)._replace(**replaced) for name in names}
    return jax.device_get(step_of()(state_of() if state is None else state, given))


@pytest.fixture(scope="module")
def before():
    return jax.device_get(state_of())


@pytest.fixture(scope="module")
def after():
    """The states and metrics after one step with each of two datasets, and with both."""
    return {
        names: update(*names) for names in [("pictures",), ("reliefs",), ("pictures", "reliefs")]
    }


def test_a_step_trains_its_head_and_leaves_the_others_and_the_depth_embedding_alone(before, after):
    state, _ = after[("pictures",)]
    absent = {"heads.clips", "heads.reliefs", "depth_patch_embed"}
    new = flatten(state.params)
    for path, old in flatten(before.params).items():
        same = np.array_equal(old, new[path])
        assert same == (group_of(path) in absent), path
    for name, moments in state.opt_state.items():
        assert int(moments.count) == (name not in absent)
        assert any(np.any(leaf) for leaf in jax.tree.leaves(moments.nu)) == (name not in absent)


def test_the_average_moves_by_a_tenth_of_the_way_and_steps_are_counted(before, after):
    state, _ = after[("reliefs",)]
    assert int(state.step) == 1 and state.step.dtype == np.int32
    expected = jax.tree.map(lambda p, q: 0.9 * p + 0.1 * q, before.params, state.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.ema, expected
    )


def gradient(state, metrics):
    """The gradient before clipping, from Adam's first moment after one step."""
    return jax.tree.map(
        lambda m: m / 0.1 * max(1.0, metrics["grad_norm"]), state.opt_state["trunk"].mu
    )


def test_a_mixed_step_is_one_mean_over_the_samples_of_all_datasets(after):
    one, other, both = after.values()
    for alone, name in ((one, "pictures"), (other, "reliefs")):
        figures = alone[1]["datasets"][name]
        np.testing.assert_allclose(both[1]["datasets"][name]["loss"], figures["loss"], rtol=1e-5)
        assert figures["count"] == REAL and 0 <= figures["correct"] <= REAL
        np.testing.assert_allclose(alone[1]["loss"], figures["loss"] / REAL, rtol=1e-6)
    np.testing.assert_allclose(both[1]["loss"], (one[1]["loss"] + other[1]["loss"]) / 2, rtol=1e-5)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, gradient(*one), gradient(*other))
    for path, found in flatten(gradient(*both)).items():
        expected = flatten(mean)[path]
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.linalg.norm(expected))


def test_what_stands_in_padding_does_not_matter(after):
    plain = batch("reliefs")
    rgb, label = np.array(plain.rgb), np.array(plain.label)
    rgb[REAL:] = 255 - rgb[REAL:]
    label[REAL:] = (label[REAL:] + 1) % 5
    found = update("reliefs", **jax.device_put({"rgb": rgb, "label": label}, plain.rgb.sharding))
    jax.tree.map(np.testing.assert_array_equal, found, after[("reliefs",)])


def test_a_loss_that_is_not_finite_is_flagged(after):
    assert after[("reliefs",)][1]["finite"]
    state = state_of()
    state.params["trunk"]["norm"]["scale"] = state.params["trunk"]["norm"]["scale"] * jnp.nan
    assert not update("reliefs", state=state)[1]["finite"]


def test_a_run_compiles_once_for_every_set_of_datasets_and_copies_nothing_unasked(after):
    step, state = step_of(), state_of()  # the fixture took the first step of each set
    batches = [
        {name: batch(name, number=number)}
        for number in range(3)
        for name in ("pictures", "reliefs")
    ]
    compiled = []

    def listen(event, duration, **_):
        compiled.extend([event] * (event == COMPILED))

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with jax.transfer_guard("disallow"):
            for given in batches:
                state, metrics = step(state, given)
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert len(compiled) == 0 and int(state.step) == 6
    assert metrics["loss"].sharding.is_fully_replicated


def test_the_step_can_be_imported_with_no_more_than_jax_flax_optax_einops_and_jaxtyping():
    blocked = (
        "grain",
        "ml_collections",
        "av",
        "cv2",
        "PIL",
        "tensorboardX",
        "orbax",
        "matplotlib",
        "array_record",
    )
    code = f"import sys\nsys.modules.update(dict.fromkeys({blocked!r}))\n"
    code += "import omnivore_jax.train.step\n"
    code += "others = ('omnivore_jax.data', 'omnivore_jax.eval')\n"
    code += "assert not any(m.startswith(others) for m in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
