"""What a config would run, from figures alone: no samples are read, no device is asked for."""

import dataclasses
import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import count_samples
from omnivore_jax.data.feeding import feeding
from omnivore_jax.data.loader import BATCHES_ON_DEVICE
from omnivore_jax.data.mixture import Mixture
from omnivore_jax.experiment.settings import Settings, resolve
from omnivore_jax.experiment.training import batch_splits
from omnivore_jax.model import cost
from omnivore_jax.model.attention.base import Device
from omnivore_jax.model.attention.table import explain, stage_calls
from omnivore_jax.model.heads import class_count
from omnivore_jax.model.params import abstract_model
from omnivore_jax.train import estimate
from omnivore_jax.train.mesh import batch_shards, mesh_shape
from omnivore_jax.train.microbatch import Split
from omnivore_jax.weights import accounts

GIB = 2**30
WIDTH = 120
"""Columns of a terminal."""


def plan(config: Mapping[str, Any]) -> dict[str, Any]:
    """Works out a run as plain JSON.

    Steps, parameters, FLOPs, memory, hours, mesh, micro-batches, windows.

    Raises:
        UserError: names the key, the value and the remedy.

    """
    settings, beginning = settle(config)
    try:
        mixture = settings.mixture(
            {name: dataset.num_train for name, dataset in settings.datasets.items()}
        )
        mesh = mesh_shape(settings.mesh, settings.hardware.chips)
        splits = batch_splits(settings, mixture, batch_shards(mesh))
        attention = attention_lines(settings, Device(settings.hardware.platform))
    except ValueError as error:
        raise UserError(str(error)) from error
    _, params = abstract_model(settings.model, settings.heads)
    elements = estimate.elements_per_device(params, mesh)
    rows = {
        name: _dataset(name, settings, mixture, splits[name], elements)
        for name in settings.datasets
    }
    hours = _hours(settings, rows)
    counts = cost.parameter_count(settings.model, settings.heads)
    heads = {head: counts[f"heads.{head}"] for head in settings.heads}
    return {
        "name": settings.name,
        "model": dataclasses.asdict(settings.model),
        "compute": dataclasses.asdict(settings.compute),
        "init_from": beginning,
        "parameters": {"trunk": counts["trunk"], "heads": heads, "total": counts["total"]},
        "steps": mixture.total_steps,
        "steps_per_epoch": mixture.steps_per_epoch,
        "batching": settings.train.batching,
        "mesh": mesh,
        "mesh_rule": "batch over data x fsdp; parameters over fsdp (largest axis) and tensor "
        "(columns, then rows)",
        "attention": attention,
        "datasets": rows,
        "hours": hours,
        "feeding": _feeding(settings, rows, hours),
        "hours_formula": estimate.HOURS_FORMULA,
        "memory_formula": estimate.MEMORY_FORMULA,
        "hardware": dataclasses.asdict(settings.hardware),
        "config": dict(config),
    }


def attention_lines(settings: Settings, device: Device) -> list[str]:
    """Says which attention backend serves the run on a device, and why."""
    calls = []
    for dataset in settings.datasets.values():
        stages = cost.layout(settings.model, (dataset.frames, dataset.size, dataset.size))
        dtype, dropout = settings.compute.dtype, settings.compute.dropout > 0
        calls += stage_calls(stages, device=device, dtype=dtype, dropout=dropout)
    return explain(settings.compute.attention, calls)


def _feeding(settings: Settings, rows: Mapping[str, Any], hours: float) -> str:
    """Says how many cores decode as fast as the chips train."""
    seconds, parts = 0.0, []
    for name, row in rows.items():
        dataset = settings.datasets[name]
        cost_of_one = feeding(dataset.kind, dataset.frames, 1).cpu_seconds
        seconds += row["samples"] * cost_of_one
        parts.append(f"{name} {1000 * cost_of_one:.1f} ms")
    cores = seconds / (3600 * hours)
    return (
        f"feeding: {cores:,.0f} cores on all hosts together decode as fast as the chips train "
        f"(CPU time of a sample: {', '.join(parts)})"
    )


def settle(config: Mapping[str, Any]) -> tuple[Settings, list[str]]:
    """The settings of a run with all that it would find out, and what becomes of `init_from`.

    Raises:
        UserError: names the key, the value and the remedy.

    """
    return _begin(_with_counts(resolve(config)))


def _begin(settings: Settings) -> tuple[Settings, list[str]]:
    """The model as `init_from` has it, and what becomes of its weights, of which none is read."""
    path = settings.init_from
    if not path:
        return settings, []
    if not Path(path).exists():
        return settings, [
            f"init_from: {path} is not on this machine; its position bias and window index are not "
            "known"
        ]
    plan = settings.plan_initial()
    form = f"{plan.config.position_bias} position bias, {plan.config.window_index} window index"
    return replace(settings, model=plan.config), [
        f"init_from: {path}, {form}",
        *accounts.lines(plan.rows),
    ]


def _with_counts(settings: Settings) -> Settings:
    """Fills in numbers of samples that the config leaves to the prepared datasets.

    Of a subset, its own.
    """
    datasets = {}
    for name, dataset in settings.datasets.items():
        whole = dataset if dataset.num_train else _counted(name, dataset, settings.store.root)
        datasets[name] = replace(whole, num_train=whole.training_samples(whole.num_train))
    return replace(settings, datasets=datasets)


def _counted(name: str, dataset: DatasetConfig, root: str) -> DatasetConfig:
    try:
        return replace(dataset, num_train=count_samples(name, dataset, root, "train"))
    except UserError as error:
        raise UserError(
            f"data.{name}.num_train={dataset.num_train}; a dry run needs the number of samples, "
            f"and {error}"
        ) from error


def _hours(settings: Settings, rows: Mapping[str, Mapping[str, Any]]) -> float:
    work = [  # padding is computed too
        estimate.Work(
            row["steps"] * row["slots"],
            row["gflops_forward"] * 1e9,
            settings.training[name].recipe.remat,
        )
        for name, row in rows.items()
    ]
    return estimate.hours(work, settings.hardware)


def _dataset(
    name: str,
    settings: Settings,
    mixture: Mixture,
    split: Split,
    elements: estimate.Elements,
) -> dict[str, Any]:
    dataset, task = settings.datasets[name], settings.training[name].task
    classes = class_count(task.spec)
    size, channels = settings.input_size(name)
    batches = mixture.batches_before(mixture.total_steps)[name]
    memory = device_memory(settings, name, split, elements)
    return {
        "kind": dataset.kind,
        "head": task.head,
        "classes": classes,
        "num_train": dataset.num_train,
        "ratio": dataset.ratio,
        "batch_size": mixture.batch_sizes[name],
        "steps_per_epoch": _steps_per_epoch(dataset, mixture, name),
        "steps": batches,
        "slots": split.slots,
        "samples": mixture.samples_before(mixture.total_steps)[name],
        "micro_batch": split.micro,
        "accumulation": split.count,
        "mixing_group": settings.mix.group if settings.training[name].mixes else None,
        "input": [*size, channels],
        "gflops_forward": settings.forward_flops(name) / 1e9,
        "memory_gib": {key: value / GIB for key, value in memory._asdict().items()}
        | {"total": memory.total / GIB},
        "stages": [stage._asdict() for stage in cost.layout(settings.model, size)],
    }


def _steps_per_epoch(dataset: DatasetConfig, mixture: Mixture, name: str) -> float:
    if mixture.mixed:
        return mixture.steps_per_epoch
    return dataset.ratio * dataset.num_train / mixture.batch_sizes[name]


def device_memory(
    settings: Settings, name: str, split: Split, elements: estimate.Elements
) -> estimate.Memory:
    """Estimates the memory of a device with these parameters in a step of one dataset."""
    dataset, recipe = settings.datasets[name], settings.training[name].recipe
    tiled = settings.hardware.platform == "tpu"
    compute = replace(settings.compute, remat=recipe.remat)
    size = (dataset.frames, dataset.size, dataset.size)
    device = Device(settings.hardware.platform)
    activations = cost.activation_bytes(settings.model, size, compute, device)
    spec = settings.training[name].task.spec
    if not isinstance(spec, int):
        maps = [(s.channels, math.prod(s.size)) for s in cost.layout(settings.model, size)]
        activations += spec.activation_bytes(maps, dataset.size**2)
    return estimate.memory(
        elements,
        split,
        activation_bytes=activations,
        batch_bytes=BATCHES_ON_DEVICE * _sample_bytes(dataset, tiled),
        narrow=compute.dtype == "bfloat16",
        moments=1 if settings.optimizer.rule == "sgd" else 2,
    )


def _sample_bytes(dataset: DatasetConfig, tiled: bool) -> int:
    """Bytes of a sample on the device; on a TPU rows of pixels lie along whole lanes."""
    row = -(-dataset.size // cost.LANES) * cost.LANES if tiled else dataset.size
    return dataset.frames * dataset.size * row * (3 + 4 * (dataset.kind == "rgbd"))


def render(plan: Mapping[str, Any]) -> str:
    """The plan as text, for a terminal of 120 columns."""
    parameters, mesh, hardware = plan["parameters"], plan["mesh"], plan["hardware"]
    heads = " + ".join(f"{head} {count:,}" for head, count in parameters["heads"].items())
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.items())
    columns = (
        "dataset",
        "samples",
        "ratio",
        "batch",
        "padded",
        "steps/epoch",
        "steps",
        "micro x accum",
        "GFLOPs",
        "GiB/device",
    )
    lines = [
        f"{plan['name']}: {plan['steps']:,} steps, {plan['steps_per_epoch']:.1f} an epoch, "
        f"{plan['batching']} batches",
        f"model {plan['model']['name']}: {parameters['total']:,} parameters",
        f"  = trunk {parameters['trunk']:,} + {heads}",
        *plan["init_from"],
        f"mesh {axes} = {math.prod(mesh.values())} devices",
        *wrapped(plan["mesh_rule"]),
        *(line for text in plan["attention"] for line in wrapped(text)),
        "",
        *table([columns, *(_row(name, row) for name, row in plan["datasets"].items())]),
        "",
        *(line for name, row in plan["datasets"].items() for line in _layout(name, row)),
        f"hours: {plan['hours']:,.1f} on {hardware['chips']} chips of {hardware['teraflops']:g} "
        "teraflops "
        f"at {hardware['utilisation']:.0%}, memory {hardware['memory_gib']:g} GiB each",
        *wrapped(plan["hours_formula"]),
        *wrapped(plan["feeding"]),
        *wrapped(plan["memory_formula"]),
        "",
        "config:",
        *_config(plan["config"], "  "),
    ]
    return "\n".join(lines)


def _row(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        name,
        f"{row['num_train']:,}",
        f"{row['ratio']:g}",
        f"{row['batch_size']:,}",
        f"{row['slots']:,}",
        f"{row['steps_per_epoch']:.2f}",
        f"{row['steps']:,}",
        f"{row['micro_batch']} x {row['accumulation']}",
        f"{row['gflops_forward']:.2f}",
        f"{row['memory_gib']['total']:.1f}",
    )


def _layout(name: str, row: Mapping[str, Any]) -> list[str]:
    """The layout of tokens and windows per stage, for one dataset."""
    rows: list[tuple[str, ...]] = [
        ("stage", "channels", "blocks", "heads", "tokens", "padded", "window", "shift", "windows")
    ]
    for number, stage in enumerate(row["stages"]):
        counts = [str(stage[key]) for key in ("channels", "blocks", "heads")]
        extents = [_times(stage[key]) for key in ("size", "padded", "window", "shift")]
        rows.append((str(number + 1), *counts, *extents, str(stage["windows"])))
    head = f"head {row['head']} ({row['classes']:,} classes)"
    title = f"{name}: {row['kind']} {_times(row['input'])}, {head}"
    return [title, *("  " + line for line in table(rows)), ""]


def _times(extent: Sequence[int]) -> str:
    return "x".join(map(str, extent))


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of columns, the first to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    ]


def wrapped(text: str) -> list[str]:
    """Lines that fit the terminal."""
    return textwrap.wrap(
        text, WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )


def _config(tree: Mapping[str, Any], indent: str) -> list[str]:
    lines = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}:", *_config(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key} = {value!r}")
    return lines
