"""The released PyTorch model is the oracle.

Golden.py says how its weights, inputs and outputs came about.
"""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from omnivore_jax.core.tree import flatten
from omnivore_jax.model import cpu
from omnivore_jax.model.attention import table
from omnivore_jax.model.attention.xla import XLA
from omnivore_jax.model.params import abstract_model, merge
from omnivore_jax.weights.torch.names import to_torch
from tests.golden import golden
from tests.golden.released import CONFIG, arrays, channels_last, weights

FILLS = ("n02", "fanin")
STAGES = tuple(f"interim{i}" for i in range(4))
graphdef = abstract_model(CONFIG, golden.HEADS)[0]
expected, parameters = cache(arrays), cache(weights)


@jax.jit
def forward(params, x):
    model = merge(graphdef, params)
    feature, maps = model.trunk(x, stages=STAGES)
    logits = {name: head(feature) for name, head in model.heads.items()}
    return {"features": feature, "s-1": model.trunk.embed(x)} | {
        f"s{i}": maps[s] for i, s in enumerate(STAGES)
    }, logits


@jax.jit(static_argnums=2)
def gradient(params, x, head):
    def loss(params):
        logits = merge(graphdef, params)(x, head)
        labels = jnp.arange(x.shape[0]) * 7 % golden.HEADS[head]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    return jax.value_and_grad(loss)(params)


@pytest.mark.parametrize("case", golden.CASE_SHAPES)
def test_features_stages_and_logits_are_those_of_the_released_model(case):
    x = channels_last(golden.make_input(case))
    for fill in FILLS:  # in one test, so that the program compiles once
        maps, logits = forward(parameters(fill), x)
        want = {
            key.removeprefix(f"{case}/"): value
            for key, value in expected(fill).items()
            if key.startswith(case)
        }
        np.testing.assert_allclose(maps.pop("features"), want["features"], rtol=0, atol=2e-5)
        for head, scores in logits.items():
            np.testing.assert_allclose(
                scores, want[f"logits_{head}"], rtol=0, atol=1e-5, err_msg=f"{fill} {head}"
            )
        for stage, found in maps.items():
            for key, value in golden.sample(found).items():
                np.testing.assert_allclose(
                    value,
                    want[f"{stage}/{key}"],
                    rtol=0,
                    atol=2e-5,
                    err_msg=f"{fill} {stage} {key}",
                )


@pytest.mark.parametrize(("case", "head"), golden.GRAD_CASES["tiny"])
def test_gradients_are_those_of_the_released_model(case, head):
    check_gradients(case, head, gradient)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "head"), golden.GRAD_CASES["tiny"])
def test_gradients_are_the_same_in_the_forms_for_other_platforms(case, head, monkeypatch):
    monkeypatch.setattr(cpu, "on_cpu", lambda: False)
    monkeypatch.setitem(table.TABLES, "cpu", (XLA,))
    check_gradients(case, head, jax.jit(gradient.__wrapped__, static_argnums=2))


def check_gradients(case, head, gradient):
    x = channels_last(golden.make_input(case))
    for fill in FILLS:
        loss, grads = gradient(parameters(fill), x, head)
        want = expected(fill)
        np.testing.assert_allclose(loss, want[f"G_{case}/loss"], rtol=1e-6)
        checked = 0
        for path, leaf in flatten(grads).items():
            name, array = to_torch(path, np.asarray(leaf))
            norm = want.get(f"G_{case}/{name}/norm")
            if norm is None:
                assert not array.any(), f"{name} has a gradient here and none there"
                continue
            checked += 1
            assert abs(np.linalg.norm(array.astype(np.float64)) - norm) <= 1e-4 * norm, (
                f"{fill} {name}"
            )
            first = want[f"G_{case}/{name}/first8"]
            np.testing.assert_allclose(
                array.ravel()[: first.size],
                first,
                rtol=0,
                atol=1e-4 * norm,
                err_msg=f"{fill} {name}",
            )
        assert checked == sum(
            key.startswith(f"G_{case}/") and key.endswith("/norm") for key in want
        )
