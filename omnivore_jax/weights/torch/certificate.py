"""The proof of a conversion: our model and PyTorch's, with equal weights and inputs."""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float

from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads, find_head, linear_heads
from omnivore_jax.model.params import Params, abstract_model, merge
from omnivore_jax.weights.torch.state_dict import State

LIMITS = {"logits": 1e-5, "features": 2e-5}
"""Largest difference that passes, in float32."""
STAGES_LIMIT = 2e-5
"""The same of maps between stages, relative to their largest value.

Before the final norm they have no scale.
"""
MISSING = "not run: torch missing"
NOT_FINITE = "not run: the weights hold values that are not finite"
PASSED, FAILED = "passed", "failed"
SEED = 0
STATIC = "static"
"""The input on which a 2-D model and its inflation agree."""

MAX_LINES = 10
"""Outputs over their limits that a person is shown."""

Inputs = Mapping[str, np.ndarray]
"""By name, as `make_inputs` makes them."""
Outputs = dict[str, np.ndarray]
"""By path: "features", "logits.image", "stages.interim0"; channels are last."""


class Expected(NamedTuple):
    """What PyTorch computed, by input."""

    inputs: Inputs
    outputs: Mapping[str, Outputs]
    released: Mapping[str, Outputs]
    """The same with the released window index, where the model has another one; else empty."""
    compared: str
    """What it ran: what a certificate proves depends on it."""


class Flat(NamedTuple):
    """The 2-D model of a file that was inflated.

    It gives a picture what ours gives a clip that shows it twice.
    """

    config: ModelConfig
    heads: Heads
    names: Mapping[str, str]
    """Our heads that are taken from it, and what they are called in it."""
    read: Callable[[], State]


def has_torch() -> bool:
    """Tells whether PyTorch can be imported."""
    try:
        import torch  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


def run_torch(config: ModelConfig, heads: Heads, state: State, what: str) -> Expected:
    """Runs PyTorch with a state dict by released name on seeded inputs (`make_inputs`).

    `what` says where the state dict comes from. Heads that are no linear classifiers have no
    counterpart in PyTorch and are left out.
    """
    inputs = make_inputs(config)
    classes = linear_heads(heads)
    model = torch_model(state, config, classes)
    outputs = dict(_torch_outputs(model, config, inputs))
    released: Mapping[str, Outputs] = {}
    if config.window_index != "released":
        model = torch_model(state, replace(config, window_index="released"), classes)
        released = dict(_torch_outputs(model, config, inputs))
    return Expected(inputs, outputs, released, what)


def add_flat(expected: Expected, config: ModelConfig, flat: Flat) -> Expected:
    """Runs a 2-D model on a picture, and expects the same of `config` on a clip that stands still.

    Heads of ours that are not taken from it are not compared.
    """
    picture = np.random.default_rng(SEED).standard_normal((1, *_picture(config)), np.float32)
    model = torch_model(flat.read(), flat.config, linear_heads(flat.heads))
    ((_, outputs),) = _torch_outputs(model, flat.config, {STATIC: picture})
    renamed = {path: x for path, x in outputs.items() if not path.startswith("logits.")}
    renamed |= {f"logits.{ours}": outputs[f"logits.{name}"] for ours, name in flat.names.items()}
    clip = np.repeat(picture, config.patch[0], axis=1)
    return expected._replace(
        inputs={**expected.inputs, STATIC: clip},
        outputs={**expected.outputs, STATIC: renamed},
        compared=f"{expected.compared} and the 2-D model of the file",
    )


def compare(
    expected: Expected, config: ModelConfig, heads: Heads, params: Params
) -> dict[str, Any]:
    """Runs our model and records how far it is from what PyTorch computed.

    Returns "status" ("passed" or "failed"), "over" (what is over its limit), the largest
    differences as "features", "logits" by head and "stages" by map, the same by input, "compared"
    and the versions. With the geometric window index also "as_released": how far the released code,
    which reads clamped windows otherwise, is off by input.
    """
    outputs = dict(_run_jax(params, config, linear_heads(heads), expected.inputs))
    report = _report(expected.inputs, outputs, expected.outputs)
    if expected.released:
        report["as_released"] = {
            name: _rounded(_difference(expected.outputs[name]["features"], other["features"]))
            for name, other in expected.released.items()
        }
    return report | {
        "compared": expected.compared,
        "limits": LIMITS | {"stages": STAGES_LIMIT},
        "seed": SEED,
        "versions": {name: metadata.version(name) for name in ("jax", "torch")},
    }


def not_run(not_finite: Mapping[str, int]) -> dict[str, Any]:
    """Says why nothing was compared.

    PyTorch is missing, or weights are NaN or infinity; `not_finite`: how many, by path.
    """
    if not_finite:
        return {"status": NOT_FINITE, "not_finite": dict(not_finite)}
    return {"status": MISSING}


def lines(report: Mapping[str, Any]) -> list[str]:
    """Writes a certificate for people: its status and differences, then what is over a limit."""
    line, over = f"certificate: {report['status']}", report.get("over", [])
    if "features" in report:
        each = [f"{name} {difference}" for name, difference in report["logits"].items()]
        line += (
            f" (PyTorch ran {report['compared']}); largest differences: features "
            f"{report['features']}, logits {', '.join(each) or 'none'}"
        )
    rest = [f"  and {len(over) - MAX_LINES} more"] if len(over) > MAX_LINES else []
    return [
        line,
        *(f"  over its limit: {text}" for text in over[:MAX_LINES]),
        *rest,
        *(f"  in the released code: {text}" for text in report.get("differences", ())),
    ]


def make_inputs(config: ModelConfig) -> dict[str, Float[np.ndarray, "b t h w c"]]:
    """Draws an image, a clip, an RGB-D picture and a clip smaller than the window.

    Sizes follow from those of patch and window, so that in every variant windows shift, are filled
    up and are clamped.
    """
    (p, q, r), (t, h, w) = config.patch, config.window
    shapes = {
        "image": _picture(config),
        "video": (t * p + 1, (2 * h - 1) * q, (w + 2) * r, 3),
        "rgbd": (1, 2 * h * q + 1, 2 * w * r - 1, 4),
        "small": (2 * p - 1, max(1, h - 2) * q, max(1, w - 3) * r, 3),
    }
    if config.depth_embed == "none":
        del shapes["rgbd"]
    rng = np.random.default_rng(SEED)
    return {name: rng.standard_normal((1, *shape), np.float32) for name, shape in shapes.items()}


def _picture(config: ModelConfig) -> tuple[int, int, int, int]:
    (_, q, r), (_, h, w) = config.patch, config.window
    return 1, 4 * h * q, 4 * w * r, 3


def _run_jax(
    params: Params, config: ModelConfig, classes: Mapping[str, int], inputs: Inputs
) -> Iterator[tuple[str, Outputs]]:
    device = _cpu()
    heads = {name: params["heads"][name] for name in classes}
    params = jax.device_put(
        {"trunk": params["trunk"], **({"heads": heads} if heads else {})}, device
    )
    graphdef = abstract_model(config, classes)[0]
    with jax.default_device(device), jax.default_matmul_precision("highest"):
        for name, x in inputs.items():
            yield name, jax.device_get(_outputs(graphdef, params, x))


def _cpu() -> Any:
    """The CPU; another device where there is none to compute on."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


# A program that runs once is not worth optimising: it compiles three times faster without.
@partial(jax.jit, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0})
def _outputs(graphdef: Any, params: Params, x: Float[Array, "b t h w c"]) -> dict[str, Array]:
    model = merge(graphdef, params)
    feature, maps = model.trunk(x, stages=_stages(model.config))
    outputs = {"features": feature, "stages.embedding": model.trunk.embed(x)}
    outputs |= {f"stages.{name}": value for name, value in maps.items()}
    return outputs | {
        f"logits.{name}": find_head(model.heads, name).score(feature, {}, None, 0.0)
        for name in model.heads
    }


def _stages(config: ModelConfig) -> list[str]:
    return [f"interim{i}" for i in range(len(config.depths))]


def torch_model(state: State, config: ModelConfig, classes: Mapping[str, int]) -> Any:
    """A model whose parameters are the arrays themselves, not copies."""
    import torch  # pyright: ignore[reportMissingImports]

    from omnivore_jax.weights.torch.hub.omnivore import Omnivore

    with torch.device("meta"):
        model = Omnivore({"model": asdict(config), "heads": classes}).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that arrays of a file must not be written to
        tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    model.load_state_dict(tensors, assign=True)
    return model


def _torch_outputs(
    model: Any, config: ModelConfig, inputs: Inputs
) -> Iterator[tuple[str, Outputs]]:
    import torch  # pyright: ignore[reportMissingImports]

    for name, array in inputs.items():
        x = torch.from_numpy(array)
        with torch.no_grad():
            feature, maps = model.trunk(x, _stages(config))
            outputs = {"features": feature, "stages.embedding": model.trunk.embed(x)}
            outputs |= {f"stages.{stage}": value for stage, value in maps.items()}
            outputs |= {f"logits.{head}": layer(feature) for head, layer in model.heads.items()}
        yield name, {path: value.numpy() for path, value in outputs.items()}


def _report(
    inputs: Inputs, ours: Mapping[str, Outputs], theirs: Mapping[str, Outputs]
) -> dict[str, Any]:
    by_input, largest, over = {}, {}, []
    for name, outputs in theirs.items():
        differences = {
            path: _difference(ours[name][path], value) for path, value in outputs.items()
        }
        for path, difference in differences.items():
            size = float(np.abs(outputs[path]).max())
            limit = LIMITS.get(path.split(".")[0], STAGES_LIMIT * max(1.0, size))
            if not difference <= limit:  # so that NaN is over it
                over.append(f"{path} of {name}: {difference:.2g}, of values up to {size:.2g}")
            largest[path] = _worse(largest.get(path, 0.0), difference)
        by_input[name] = {"shape": list(inputs[name].shape), **_nested(differences)}
    return {
        "status": FAILED if over else PASSED,
        "over": over,
        **_nested(largest),
        "inputs": by_input,
    }


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def _worse(one: float, other: float) -> float:
    return math.nan if math.isnan(one) or math.isnan(other) else max(one, other)


def _nested(differences: Mapping[str, float]) -> dict[str, Any]:
    report: dict[str, Any] = {"logits": {}, "stages": {}}
    for path, difference in differences.items():
        kind, _, name = path.partition(".")
        if name:
            report[kind][name] = _rounded(difference)
        else:
            report[kind] = _rounded(difference)
    return report


def _rounded(difference: float) -> float | None:
    """Three digits; None for NaN, which JSON does not have."""
    return None if math.isnan(difference) else float(f"{difference:.3g}")
