"""Calls of a model from Python: compiled once a shape against every operation dispatched alone.

    python -m benchmarks.calls [--model=omnivore_swin_t] [--frames=1] [--calls=9] [--json]

Both sides have the same weights and inputs and take turns in one process. Eager calls are what
`ov.load` gave before its models were compiled.
"""

import json
import statistics
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np
from absl import flags

import omnivore_jax as ov
from benchmarks.spread import spread
from omnivore_jax.core import command

MODEL = flags.DEFINE_string("model", "omnivore_swin_t", "Variant.")
FRAMES = flags.DEFINE_integer("frames", 1, "Frames of the input: 1 for a picture.", 1)
SIDE = flags.DEFINE_integer("side", 224, "Rows and columns of the input.", 1)
CALLS = flags.DEFINE_integer("calls", 9, "Calls of each side after the first.", 1)
JSON = flags.DEFINE_boolean("json", False, "Print the figures as JSON.")


def main(argv: Sequence[str]) -> int:
    model = ov.create_model(MODEL.value, {"image": 1000})
    module = model.module()
    x = np.random.default_rng(0).standard_normal((1, FRAMES.value, SIDE.value, SIDE.value, 3))
    x = jax.device_put(x.astype(np.float32))
    sides = {"eager": lambda: module(x), "compiled": lambda: model(x)}
    first = {name: seconds(call) for name, call in sides.items()}
    later: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(CALLS.value):
        for name, call in sides.items():
            later[name].append(seconds(call))
    difference = float(np.abs(np.asarray(sides["eager"]()) - np.asarray(model(x))).max())
    figures = {
        name: {"first": first[name], "median": statistics.median(times), "spread": spread(times)}
        for name, times in later.items()
    }
    ratio = figures["compiled"]["median"] / figures["eager"]["median"]
    told = {"model": MODEL.value, "shape": x.shape, "seconds": figures, "ratio": ratio}
    told |= {"largest_difference": difference}
    print(json.dumps(told, indent=1) if JSON.value else text(told))
    return 0


def seconds(call: Callable[[], jax.Array]) -> float:
    """Times a call to its end on the device."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def text(told: dict) -> str:
    lines = [f"{told['model']}, input {told['shape']}, seconds"]
    for name, figures in told["seconds"].items():
        lines.append(
            f"  {name:<9} first call {figures['first']:.2f}, later {figures['median']:.3f} "
            f"(quartiles within {figures['spread']:.0%})"
        )
    return "\n".join([*lines, f"  compiled takes {told['ratio']:.2f} of the time of eager calls"])


if __name__ == "__main__":
    command.run(main)
