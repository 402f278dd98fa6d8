"""How fast a config trains here: its own steps on samples that lie on the device, its own loader.

Neither a checkpoint nor a log is written, and no step waits for the other part: which of the two
limits a run is told from both.
"""

import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from omnivore_jax.core.compile_cache import open_cache
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.peak import measured_teraflops, peak_teraflops
from omnivore_jax.core.types import Batch
from omnivore_jax.data.loader import BATCHES_ON_DEVICE
from omnivore_jax.experiment.ahead import Plan, make_plan, train_program
from omnivore_jax.experiment.dry import settle, table
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.splits import open_datasets
from omnivore_jax.experiment.training import make_loader
from omnivore_jax.model.attention.base import platform
from omnivore_jax.model.heads import class_count
from omnivore_jax.train.estimate import PASSES
from omnivore_jax.train.state import TrainState, init_state

GIB = 2**30
WARM_UP = 2
"""Steps before those that are timed."""


class StepSpeed(NamedTuple):
    """A compiled step with the datasets that it carries."""

    samples: Mapping[str, int]
    """Of a step, without padding."""
    compile_seconds: float
    """From the cache of compiled programs where it is there."""
    seconds: float
    """Median of the steps."""
    spread: float
    """Distance between their quartiles, relative to the median."""
    flops: float
    """Of the model, without padding and without what is computed again."""
    memory_gib: float
    """Of a device by the compiler: arguments, outputs and temporaries."""


def measure(config: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """Times `steps` steps of every kind that the run has, then the loader; plain JSON.

    Raises:
        UserError: names the key, the value and the remedy.

    """
    settings, _ = settle(config)
    open_cache(settings.log.compile_cache)
    plan = make_plan(settings, jax.devices())
    rule, seed = settings.optimizer.rule, settings.train.seed
    state = init_state(settings.model, settings.heads, seed, plan.mesh, rule)
    names = list(settings.datasets)
    speeds = {}
    for carried in [names] if plan.mixture.mixed else [[name] for name in names]:
        speed, state = time_step(plan, carried, state, steps)
        speeds["mixed" if plan.mixture.mixed else carried[0]] = speed
    del state
    measured = measured_teraflops(settings.compute.dtype) * plan.mesh.size
    stated = settings.hardware.teraflops if settings.hardware.platform == platform() else None
    peak = peak_teraflops(stated if platform() != "cpu" else None)
    return {
        "name": settings.name,
        "model": settings.model.name,
        "dtype": settings.compute.dtype,
        "device": jax.devices()[0].device_kind,
        "devices": plan.mesh.size,
        "matmul_teraflops": measured,
        "peak_teraflops": peak and peak * plan.mesh.size,
        "steps": {name: _row(speed, measured, peak) for name, speed in speeds.items()},
        "process_peak_gib": _process_peak() / GIB,
        "device_peak_gib": _device_peak(),
        "data": data_rate(settings, plan, speeds, steps),
    }


def time_step(
    plan: Plan, names: Sequence[str], state: TrainState, steps: int
) -> tuple[StepSpeed, TrainState]:
    """Compiles the step that carries these datasets and runs it on random samples.

    A step is given to the device while the one before it runs, as in training. The state is
    donated; the last one is returned.
    """
    began = time.perf_counter()
    program = train_program(plan, names)
    lowered = program.lower()
    compiled = lowered.compile()
    compiling = time.perf_counter() - began
    batches = _draw(plan, lowered.args_info[0][1], compiled.input_shardings[0][1])
    ends, pending = [], None
    for _ in range(WARM_UP + steps):
        state, metrics = compiled(state, batches)
        if pending is not None:
            jax.block_until_ready(pending)
            ends.append(time.perf_counter())
        pending = metrics
    jax.block_until_ready((state, pending))
    ends.append(time.perf_counter())
    seconds = np.diff(ends)[-steps:].tolist()
    middle = statistics.median(seconds)
    low, high = np.quantile(seconds, [0.25, 0.75])
    samples = {name: plan.mixture.batch_sizes[name] for name in names}
    flops = sum(
        PASSES["none"] * count * plan.settings.forward_flops(name)
        for name, count in samples.items()
    )
    spread = float(high - low) / middle
    return StepSpeed(samples, compiling, middle, spread, float(flops), _memory(compiled)), state


def _draw(plan: Plan, shapes: Mapping[str, Batch], places: Mapping[str, Batch]) -> dict[str, Batch]:
    """Draws samples of these shapes onto the devices; the slots behind a batch are padding."""
    rng = np.random.default_rng(0)
    batches = {}
    for name, shape in shapes.items():
        task, spec = plan.settings.tasks[name], plan.settings.training[name].preprocessing
        disparity = None
        if shape.disparity is not None:
            most = spec.disparity_max
            disparity = rng.uniform(0, most, shape.disparity.shape).astype(np.float32)
        batch = Batch(
            rng.integers(0, 256, shape.rgb.shape, np.uint8),
            disparity,
            rng.integers(0, class_count(task.spec), shape.label.shape, shape.label.dtype),
            np.arange(*shape.mask.shape) < plan.mixture.batch_sizes[name],
        )
        batches[name] = jax.tree.map(jax.device_put, batch, places[name])
    return batches


def _memory(compiled: jax.stages.Compiled) -> float:
    stats: Any = compiled.memory_analysis()
    total = stats.argument_size_in_bytes + stats.temp_size_in_bytes
    return (total + stats.output_size_in_bytes - stats.alias_size_in_bytes) / GIB


def _process_peak() -> int:
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _device_peak() -> float | None:
    """The most memory of a device that was in use; None where it is that of the process."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats["peak_bytes_in_use"] / GIB if "peak_bytes_in_use" in stats else None


def _row(speed: StepSpeed, measured: float, peak: float | None) -> dict[str, Any]:
    rate = speed.flops / speed.seconds / 1e12
    return speed._asdict() | {
        "samples_per_second": {name: n / speed.seconds for name, n in speed.samples.items()},
        "mfu": rate / measured,
        "mfu_of_peak": None if peak is None else rate / peak,
    }


def data_rate(
    settings: Settings, plan: Plan, speeds: Mapping[str, StepSpeed], steps: int
) -> dict[str, Any]:
    """Times the loader alone over `steps` steps of the run; says what is missing where it is.

    As many steps are on their way when the clock starts as when it stops.
    """
    ahead = settings.loader.prefetch + BATCHES_ON_DEVICE
    settings = replace(settings, train=replace(settings.train, steps=2 * ahead + steps))
    try:
        data = open_datasets(settings)
        mixture = settings.mixture(data.sizes)
    except (UserError, ValueError) as error:
        return {"missing": list(map(str, error.args))}
    with tempfile.TemporaryDirectory() as folder:
        place = (settings, data, plan.mesh, mixture, Path(folder))
        with make_loader(*place, 0) as loader:
            for _ in range(ahead):
                jax.block_until_ready(next(loader).batches)
            began = time.perf_counter()
            for _ in range(steps):
                jax.block_until_ready(next(loader).batches)
            seconds = time.perf_counter() - began
    before = mixture.samples_before(ahead)
    read = {name: n - before[name] for name, n in mixture.samples_before(ahead + steps).items()}
    computing = sum(
        read[name] / speed.samples[name] * speed.seconds
        for speed in speeds.values()
        for name in list(speed.samples)[:1]
    )
    return {
        "samples": read,
        "seconds": seconds,
        "samples_per_second": sum(read.values()) / seconds,
        "device_seconds": computing,
        "limit": "data" if seconds > computing else "device",
    }


def render(speed: Mapping[str, Any]) -> str:
    """The figures as text, for a terminal of 120 columns."""
    peak = speed["peak_teraflops"]
    against = "" if peak is None else f", {peak:,.0f} by the data sheet"
    lines = [
        f"{speed['name']}: {speed['model']}, {speed['dtype']}, {speed['devices']} x "
        f"{speed['device']}",
        f"a product of matrices: {speed['matmul_teraflops']:.2f} teraflops{against}",
        "",
        *table(
            [
                ("step", "samples", "compile s", "step s", "spread", "samples/s", "MFU", "GiB"),
                *(_line(name, row) for name, row in speed["steps"].items()),
            ]
        ),
        "",
        "MFU: FLOPs of the model over those of a product of matrices, both measured here; GiB: of "
        "a device, by the compiler",
        f"memory at most: process {speed['process_peak_gib']:.2f} GiB"
        + _words(", device {:.2f} GiB", speed["device_peak_gib"]),
    ]
    return "\n".join([*lines, *_data_lines(speed["data"])])


def _line(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        f"{sum(row['samples'].values())}",
        f"{row['compile_seconds']:.1f}",
        f"{row['seconds']:.4g}",
        f"{row['spread']:.0%}",
        f"{sum(row['samples_per_second'].values()):,.1f}",
        f"{row['mfu']:.1%}",
        f"{row['memory_gib']:.2f}",
    )


def _words(template: str, figure: float | None) -> str:
    return "" if figure is None else template.format(figure)


def _data_lines(data: Mapping[str, Any]) -> list[str]:
    if "missing" in data:
        return ["data, not measured: " + line for line in data["missing"]]
    samples = sum(data["samples"].values())
    lines = [
        f"data: {data['samples_per_second']:,.1f} samples/s from the loader alone ({samples} in "
        f"{data['seconds']:.2f} s); the steps for them take {data['device_seconds']:.2f} s",
        f"what limits: the {data['limit']}",
    ]
    if platform() == "cpu":
        lines[-1] += "; on a CPU both share its cores, and their times add up"
    return lines
