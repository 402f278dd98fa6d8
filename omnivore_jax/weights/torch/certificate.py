"""The proof of a conversion.

Our model and a PyTorch one with the same weights, side by side on the same inputs.
"""

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
from omnivore_jax.model.heads import find_head
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

Outputs = dict[str, np.ndarray]
"""By path: "features", "logits.image", "stages.interim0"; channels are last."""


class Flat(NamedTuple):
    """The 2-D model of a file that was inflated.

    It gives a picture what ours gives a clip that shows it twice.
    """

    config: ModelConfig
    heads: Mapping[str, int]
    names: Mapping[str, str]
    """Our heads that are taken from it, and what they are called in it."""
    read: Callable[[], State]


def certify(
    config: ModelConfig,
    heads: Mapping[str, int],
    theirs: Callable[[], State],
    ours: Callable[[], Params],
    *,
    compared: str,
    flat: Flat | None = None,
) -> dict[str, Any]:
    """Runs both sides on seeded inputs (`make_inputs`) and records the largest differences per stage and head.

    `theirs` reads what PyTorch runs, a state dict by released name, and `ours` the parameters that JAX runs; the second
    is called when the first is no longer held. `compared` says where `theirs` comes from: what the certificate proves
    depends on it. `flat` is compared on a clip that stands still.

    Returns "status" ("passed", "failed" or why it was not run), "over" (what is over its limit), the differences as
    "features", "logits" by head and "stages" by map, the same by input, "compared" and the versions. With the geometric
    window index also "as_released": how far the released code, which reads clamped windows otherwise, is off by input.
    """
    try:
        import torch  # pyright: ignore[reportMissingImports]
    except ImportError:
        return {"status": MISSING}
    inputs = make_inputs(config)
    found, released = _run_torch(torch, theirs(), config, heads, inputs)
    if flat is not None:
        picture = np.random.default_rng(SEED).standard_normal((1, *_picture(config)), np.float32)
        outputs = _run_torch(torch, flat.read(), flat.config, flat.heads, {STATIC: picture})[0][
            STATIC
        ]
        found[STATIC] = _renamed(outputs, flat.names)
        inputs[STATIC] = np.repeat(picture, config.patch[0], axis=1)
    report = _report(inputs, dict(_run_jax(ours(), config, heads, inputs)), found)
    if released:
        off = {
            name: _difference(found[name]["features"], outputs["features"])
            for name, outputs in released.items()
        }
        report["as_released"] = {name: _rounded(difference) for name, difference in off.items()}
    versions = {name: metadata.version(name) for name in ("jax", "torch")}
    made = {"limits": LIMITS | {"stages": STAGES_LIMIT}, "seed": SEED, "versions": versions}
    return (
        report | {"compared": compared + (" and the 2-D model of the file" if flat else "")} | made
    )


def _renamed(outputs: Outputs, names: Mapping[str, str]) -> Outputs:
    """Outputs of a model whose heads have other names."""
    kept = {path: value for path, value in outputs.items() if not path.startswith("logits.")}
    return kept | {f"logits.{ours}": outputs[f"logits.{theirs}"] for ours, theirs in names.items()}


def not_comparable(not_finite: Mapping[str, int]) -> dict[str, Any]:
    """The certificate of weights with NaN or infinity; `not_finite`: how many, by path."""
    return {"status": NOT_FINITE, "not_finite": dict(not_finite)}


def lines(found: Mapping[str, Any]) -> list[str]:
    """A certificate for people.

    Its status with the largest differences, then what is over its limit or differs.
    """
    line, over = f"certificate: {found['status']}", found.get("over", [])
    if "features" in found:
        logits = (
            ", ".join(f"{name} {difference}" for name, difference in found["logits"].items())
            or "none"
        )
        line += f" (PyTorch ran {found['compared']}); largest differences: features {found['features']}, logits {logits}"
    return [
        line,
        *(f"  over its limit: {text}" for text in over[:MAX_LINES]),
        *([f"  and {len(over) - MAX_LINES} more"] if len(over) > MAX_LINES else []),
        *(f"  in the released code: {text}" for text in found.get("differences", ())),
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
    params: Params, config: ModelConfig, heads: Mapping[str, int], inputs: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, Outputs]]:
    device = _cpu()
    params = jax.device_put(params, device)
    graphdef = abstract_model(config, heads)[0]
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


def _run_torch(
    torch: Any,
    state: State,
    config: ModelConfig,
    heads: Mapping[str, int],
    inputs: Mapping[str, np.ndarray],
) -> tuple[dict[str, Outputs], dict[str, Outputs]]:
    """Runs a model, and one with the released window index where that is another."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that arrays of a file must not be written to
        tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    found = dict(_torch_outputs(torch, tensors, config, heads, inputs))
    if config.window_index == "released":
        return found, {}
    return found, dict(
        _torch_outputs(torch, tensors, replace(config, window_index="released"), heads, inputs)
    )


def _torch_outputs(
    torch: Any,
    tensors: Mapping[str, Any],
    config: ModelConfig,
    heads: Mapping[str, int],
    inputs: Mapping[str, Any],
) -> Iterator[tuple[str, Outputs]]:
    from omnivore_jax.weights.torch.hub.omnivore import Omnivore

    with torch.device("meta"):  # the parameters are the tensors, not copies
        model = Omnivore({"model": asdict(config), "heads": heads}).eval()
    model.load_state_dict(tensors, assign=True)
    for name, x in inputs.items():
        with torch.no_grad():
            trunk = model.trunk
            feature, maps = trunk(torch.from_numpy(x), _stages(config))
            outputs = {"features": feature, "stages.embedding": trunk.embed(torch.from_numpy(x))}
            outputs |= {f"stages.{stage}": value for stage, value in maps.items()}
            outputs |= {f"logits.{head}": layer(feature) for head, layer in model.heads.items()}
        yield name, {path: value.numpy() for path, value in outputs.items()}


def _report(
    inputs: Mapping[str, np.ndarray], ours: Mapping[str, Outputs], theirs: Mapping[str, Outputs]
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
