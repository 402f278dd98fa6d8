"""Whether a run fits a machine that is not there: figures of its programs, remedies, a search."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from math import prod
from typing import Any

from omnivore_jax.core import log
from omnivore_jax.core.errors import UserError
from omnivore_jax.experiment.ahead import (
    Figures,
    Plan,
    Program,
    compile_program,
    make_plan,
    programs,
    train_program,
)
from omnivore_jax.experiment.dry import attention_lines, settle, table, wrapped
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.topology import Machine, find_chip, open_machine
from omnivore_jax.train.collectives import Collective
from omnivore_jax.train.mesh import batch_shards

GIB = 2**30
AT_ONCE = 2
"""Compilations; one of Swin-L's training step takes up to 6 GB."""
NOTES = (
    "GiB of one device. arguments: state and batch; outputs: those that take no argument's place; "
    "temporaries: with the program itself; beside: what the run holds there too (batches that "
    "wait; while it evaluates, parameters and moments)",
    "GFLOPs and GB (read and written) of one device as the compiler counts them: what a loop runs "
    "counts once, so of a step in several rounds they are about those of one round; that of GPUs "
    "counts none",
)


def examine(
    config: Mapping[str, Any], topology: str, *, search: bool = False, only: str = ""
) -> dict[str, Any]:
    """Compiles what a config would run on a machine; plain JSON.

    With `search` its micro-batches are the largest that fit. `mistakes` says what does not fit.
    `only` is a part of the names of programs; the others are left out.

    Raises:
        UserError: names the key or flag, the value and the remedy.

    """
    find_chip(topology)
    settings, beginning = settle(config)
    machine = open_machine(topology)
    log.setup()
    plan = make_plan(settings, machine.devices)
    try:
        attention = attention_lines(settings, machine.device)
    except ValueError as error:
        raise UserError(str(error)) from error
    chosen = _chosen(plan, only)
    known = {}
    if search:
        plan, known = _search(plan, machine, chosen)
    waiting = [program for program in programs(plan) if program.name in chosen]
    made = known | _compile_all([p for p in waiting if p.name not in known], machine)
    every = [made[program.name] for program in waiting]
    found = {name: plan.splits[name].micro for figures in known.values() for name in figures.splits}
    return {
        "name": settings.name,
        "topology": topology,
        "devices": len(machine.devices),
        "memory_gib": {"chip": machine.chip.memory_gib, "usable": machine.chip.usable_gib},
        "versions": {name: _version(name) for name in ("jax", machine.chip.compiler)},
        "init_from": beginning,
        "batching": settings.train.batching,
        "mesh": dict(plan.mesh.shape),
        "attention": attention,
        "programs": [_row(figures) for figures in every],
        "microbatches": found if search else None,
        "mistakes": [_mistake(f, plan, machine, config) for f in every if not f.fits],
        "config": dict(config),
    }


def _compile(program: Program, machine: Machine) -> Figures:
    return compile_program(program, int(machine.chip.usable_gib * GIB), machine.compiler)


def _compile_all(waiting: Sequence[Program], machine: Machine) -> dict[str, Figures]:
    """Compiles programs, two at a time, as a compiler does much of its work on one core."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        pending = [pool.submit(_compile, program, machine) for program in waiting]
        try:
            return {one.result().name: one.result() for one in pending}
        except BaseException:  # an interrupt too: what has not begun need not
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _chosen(plan: Plan, only: str) -> list[str]:
    """Names of the programs whose name has this part."""
    names = [program.name for program in programs(plan)]
    chosen = [name for name in names if only in name]
    if not chosen:
        raise UserError(f"--only={only!r} is in no name of a program; they are {', '.join(names)}")
    return chosen


def _version(package: str) -> str:
    try:
        return version(package)
    except ImportError:
        return ""


def _row(figures: Figures) -> dict[str, Any]:
    parts = ("arguments", "outputs", "temporaries", "beside", "total")
    return {
        "name": figures.name,
        "splits": {
            name: {"samples": split.slots, "micro_batch": split.micro, "accumulation": split.count}
            for name, split in figures.splits.items()
        },
        "memory_gib": {part: getattr(figures, part) / GIB for part in parts},
        "fits": figures.fits,
        "gflops": figures.flops / 1e9,
        "gb": figures.accessed / 1e9,
        "collectives": summary(figures.collectives),
        "seconds": round(figures.seconds, 1),
    }


def summary(every: Sequence[Collective]) -> list[dict[str, Any]]:
    """Counts collectives of one kind and type, apart inside and outside of loops."""
    groups: dict[tuple[str, str, bool], list[Collective]] = {}
    for one in every:
        key = one.kind, " ".join(sorted(one.types)), one.in_loop
        groups.setdefault(key, []).append(one)
    return [
        {
            "kind": kind,
            "type": types,
            "in_loop": in_loop,
            "count": len(group),
            "bytes": sum(one.bytes for one in group),
        }
        for (kind, types, in_loop), group in groups.items()
    ]


# Remedies


def _mistake(figures: Figures, plan: Plan, machine: Machine, config: Mapping[str, Any]) -> str:
    """One line that says what does not fit, and what to do."""
    usable = machine.chip.usable_gib
    changes = remedy(figures, plan, int(usable * GIB))
    remedies = [_as_flag(key, value, config) for key, value in changes.items()]
    remedies = remedies or ["a larger chip, a smaller model, or fewer frames or pixels"]
    generation = machine.name.partition(":")[0]
    return (
        f"{figures.name} takes {figures.total / GIB:.1f} GiB of the {usable:g} of a {generation}; "
        f"use {', or '.join(remedies)}"
    )


def _as_flag(key: str, value: Any, config: Mapping[str, Any]) -> str:
    """How to change a key; a flag changes only keys that the config has."""
    section: Any = config
    for part in key.split("."):
        if part not in section:
            return f"{key}={value} in the config file"
        section = section[part]
    return f"--config.{key}={value}"


def remedy(figures: Figures, plan: Plan, usable: int) -> dict[str, Any]:
    """Keys of the config and values, each of which by these figures makes a program fit."""
    settings, changes = plan.settings, {}
    lasting = figures.arguments + figures.outputs
    for name, split in figures.splits.items():
        smaller = [micro for micro in candidates(plan, name) if micro < split.micro]
        room = usable - lasting - figures.beside
        enough = [m for m in smaller if figures.temporaries * m <= room * split.micro]
        if smaller and room > 0:
            micro = max(enough, default=smaller[0])
            changes[f"data.{name}.microbatch"] = micro
        if settings.training[name].recipe.remat != "block":
            changes[f"data.{name}.remat"] = "block"
    shards = batch_shards(plan.mesh.shape)
    if figures.name.startswith("eval") and settings.eval.batch_size > shards:
        changes["eval.batch_size"] = shards
    divided = _fsdp(figures.total - usable, lasting + figures.beside, plan)
    if divided:
        changes["mesh.fsdp"] = divided
    return changes


def _fsdp(excess: int, lasting: int, plan: Plan) -> int | None:
    """The least division of what lasts that frees so much; None: none does, or is possible."""
    fsdp, devices = plan.mesh.shape["fsdp"], plan.mesh.size
    more = fsdp * 2
    while devices % (more * plan.mesh.shape["tensor"]) == 0:
        if lasting * (1 - fsdp / more) > excess:
            return more
        more *= 2
    return None


# Search


def candidates(plan: Plan, name: str) -> list[int]:
    """Micro-batches that a dataset's batch can be taken in without more padding, ascending."""
    whole = replace(plan, settings=with_microbatch(plan.settings, name, 0)).splits[name].local
    unit = 2 if plan.settings.training[name].mixes else 1
    return [n for n in range(1, whole + 1) if whole % n == 0 and (n == 1 or n % unit == 0)]


def largest(sizes: Sequence[int], start: int, fits: Callable[[int], bool]) -> int | None:
    """The largest of ascending sizes that fits, by bisection that begins at `start`; None: none."""
    low, high = -1, len(sizes)
    at = min(range(high), key=lambda i: abs(sizes[i] - start))
    while high - low > 1:
        low, high = (at, high) if fits(sizes[at]) else (low, at)
        at = (low + high) // 2
    return None if low < 0 else sizes[low]


def _search(plan: Plan, machine: Machine, chosen: Sequence[str]) -> tuple[Plan, dict[str, Figures]]:
    """The plan with the largest micro-batches that fit, each dataset in a step of its own.

    Also the figures of these steps, by name. Only those of datasets in steps that are chosen.
    """
    known = {}
    steps = [program for program in programs(plan) if program.name in chosen]
    for name in [name for step in steps for name in step.splits]:
        figures = _largest_step(plan, name, machine)
        micro = figures.splits[name].micro
        plan = replace(plan, settings=with_microbatch(plan.settings, name, micro))
        known[figures.name] = figures
    return plan, known


def _largest_step(plan: Plan, name: str, machine: Machine) -> Figures:
    """The step of one dataset with its largest micro-batch that fits, else with its smallest."""
    tried: dict[int, Figures] = {}

    def fits(micro: int) -> bool:
        changed = replace(plan, settings=with_microbatch(plan.settings, name, micro))
        tried[micro] = _compile(train_program(changed, [name]), machine)
        return tried[micro].fits

    sizes = candidates(plan, name)
    return tried[largest(sizes, plan.splits[name].micro, fits) or sizes[0]]


def with_microbatch(settings: Settings, name: str, micro: int) -> Settings:
    """The settings with another micro-batch of a dataset."""
    dataset = settings.training[name]
    changed = dataset._replace(recipe=replace(dataset.recipe, microbatch=micro))
    return replace(settings, training={**settings.training, name: changed})


# Text


def render(report: Mapping[str, Any]) -> str:
    """The report as text, for a terminal of 120 columns."""
    memory, mesh = report["memory_gib"], report["mesh"]
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.items())
    versions = ", ".join(f"{name} {number}" for name, number in report["versions"].items())
    rows = report["programs"]
    found = report["microbatches"] or {}
    columns = (
        *("program", "micro x rounds", "arguments", "outputs", "temporaries", "beside"),
        *("total", "of HBM", "GFLOPs", "GB", "s"),
    )
    lines = [
        f"{report['name']} on {report['topology']}: {report['devices']} devices of "
        f"{memory['usable']:g} GiB (of {memory['chip']:g}), {report['batching']} batches",
        versions,
        f"mesh {axes} = {prod(mesh.values())} devices",
        *report["init_from"],
        *(line for text in report["attention"] for line in wrapped(text)),
        "",
        *table([columns, *(_columns(row, memory["usable"]) for row in rows)]),
        "",
        *(line for text in NOTES for line in wrapped(text)),
        "",
        "collectives, with what they leave on each device:",
        *(line for row in rows for line in wrapped(_collectives(row))),
    ]
    if found:
        keys = ", ".join(f"data.{name}.microbatch={n}" for name, n in found.items())
        lines += ["", "largest micro-batches that fit:", *wrapped(keys)]
    return "\n".join(lines)


def _columns(row: Mapping[str, Any], usable: float) -> tuple[str, ...]:
    memory = row["memory_gib"]
    parts = ("arguments", "outputs", "temporaries", "beside", "total")
    splits = row["splits"].values()
    return (
        row["name"],
        " ".join(f"{split['micro_batch']}x{split['accumulation']}" for split in splits),
        *(f"{memory[part]:.2f}" for part in parts),
        f"{memory['total'] / usable:.0%}",
        f"{row['gflops']:,.0f}" if row["gflops"] else "-",
        f"{row['gb']:,.1f}" if row["gb"] else "-",
        f"{row['seconds']:.0f}",
    )


def _collectives(row: Mapping[str, Any]) -> str:
    if not row["fits"] and not row["collectives"]:
        return f"{row['name']}: not known, as it does not fit"
    parts = [
        f"{one['count']} {one['kind']} of {one['type']}, {one['bytes'] / 1e6:,.1f} MB"
        f"{' in a loop' if one['in_loop'] else ''}"
        for one in row["collectives"]
    ]
    return f"{row['name']}: {'; '.join(parts) or 'none'}"
