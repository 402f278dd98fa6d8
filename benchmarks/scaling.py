"""How the cost of a training step grows, by what the compiler of TPUs says of it.

    python -m benchmarks.scaling [--model=swin_t] [--generation=v5p] [--depths=2] [--fsdp=1,16]
        [--axes=frames,size,batch,devices] [--frames=8,16,32,64] [--sizes=224,256,320,384]
        [--batches=2,4,8,16] [--devices=v5e:1x1,...,v5p:16x16x16] [--json=FILE]

Steps are the run's own, of `configs/MODEL.py`, compiled on any machine without a TPU, one after
another. The compiler counts a loop once, so a step takes what a device has in one round, its blocks
are written out (`model.scan=False`) and nothing is computed again (`remat=none`). Frames are those
of two clips a device, the other axes take pictures. What attention costs on a TPU is what its
kernel tells the compiler. `--depths` are the blocks of every stage; fewer than the model has leave
its last stages out.
"""

import importlib
import json
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from absl import flags

from benchmarks.growth import exponent
from benchmarks.machine import command_line, describe, words
from omnivore_jax.core import command
from omnivore_jax.core.errors import UserError
from omnivore_jax.experiment.ahead import Figures, compile_program, make_plan, train_program
from omnivore_jax.experiment.fits import GIB, summary
from omnivore_jax.experiment.settings import Settings, resolve
from omnivore_jax.experiment.topology import CHIPS, find_chip, open_machine
from omnivore_jax.model import cost

FLAG = {"frames": "frames", "size": "sizes", "batch": "batches"}
"""Of the values along every axis but devices."""
AXES = (*FLAG, "devices")
SLICES = (
    *("v5e:1x1", "v5e:2x2", "v5e:4x4", "v5e:16x16"),
    *("v5p:2x2x1", "v5p:4x4x4", "v5p:16x16x16"),
)
FIGURES = {
    "gflops": "GFLOPs of a device",
    "gb": "GB read and written",
    "temporaries_gib": "GiB of temporaries",
    "collectives_mb": "MB of collectives",
}
"""What is said of a step, all of one device."""
CONFIGS = Path(__file__).parents[1] / "configs"
PICTURES, CLIPS = "imagenet", "kinetics400"


class Point(NamedTuple):
    """A step that is compiled."""

    value: int
    """Along its axis."""
    topology: str
    fsdp: int = 1
    dataset: str = PICTURES
    batch: int = 4
    """Samples of a device; even, as mixing takes pairs."""
    frames: int = 1
    size: int = 224


def define_flags() -> None:
    flags.DEFINE_string("model", "swin_t", "Name of a file in configs/.")
    flags.DEFINE_string("generation", "v5p", "Of the chips along all axes but devices.")
    flags.DEFINE_list("depths", [], "Blocks of every stage; the model's by default.")
    flags.DEFINE_list("axes", list(AXES), "What grows.")
    flags.DEFINE_list("frames", ["8", "16", "32", "64"], "Of a clip.")
    flags.DEFINE_list("sizes", ["224", "256", "320", "384"], "Rows and columns.")
    flags.DEFINE_list("batches", ["2", "4", "8", "16"], "Pictures of a device.")
    flags.DEFINE_list("devices", list(SLICES), "Topologies.")
    flags.DEFINE_list("fsdp", ["1", "16"], "Devices that divide the state, along devices.")
    flags.DEFINE_string("json", "", "File for the figures.")


def main(argv: Sequence[str]) -> int:
    asked = flags.FLAGS
    lines = [
        (name, axis, chosen) for axis in asked.axes for name, chosen in points(asked, axis).items()
    ]
    settings = settings_of(asked.model, _numbers("depths", asked.depths))
    progress = Progress(sum(len(chosen) for _, _, chosen in lines))
    told: dict[str, Any] = {"benchmark": "scaling", "command": command_line("scaling")}
    told |= {"machine": describe(), "model": settings.model.name, "lines": []}
    for name, axis, chosen in lines:
        found = grown(axis, [progress.row(settings, point) for point in chosen])
        told["lines"].append({"mode": name, "axes": {axis: found}})
    told["versions"] = {package: version(package) for package in ("jax", "libtpu")}
    told["depths"] = list(settings.model.depths)
    if asked.json:
        Path(asked.json).write_text(json.dumps(told, indent=1) + "\n")
    print(text(told))
    return 0


def points(asked: Any, axis: str) -> dict[str, list[Point]]:
    """Says what is compiled along an axis, of the flags; by the name of the machines.

    Raises:
        UserError: names the flag, the value and the remedy.

    """
    if axis not in AXES:
        raise UserError(f"--axes={axis} is not known; use some of {', '.join(AXES)}")
    if axis == "devices":
        return _slices(asked.devices, _numbers("fsdp", asked.fsdp))
    tpus = [name for name, chip in CHIPS.items() if not chip.target]
    if asked.generation not in tpus:
        raise UserError(f"--generation={asked.generation}; use one of {', '.join(tpus)}")
    topology = f"{asked.generation}:{CHIPS[asked.generation].shapes[0]}"
    values = _numbers(FLAG[axis], getattr(asked, FLAG[axis]))
    if len(values) < 2:
        raise UserError(f"--{FLAG[axis]}={values[0]}; give two or more to fit a line")
    if axis == "batch" and any(value % 2 for value in values):
        raise UserError("--batches: give even numbers, as samples are mixed in pairs")
    fixed = {"dataset": CLIPS, "batch": 2} if axis == "frames" else {}
    return {topology: [Point(n, topology, **fixed | {axis: n}) for n in values]}


def _slices(names: Sequence[str], divided: Sequence[int]) -> dict[str, list[Point]]:
    """Points along devices: a line for every generation and division of the state."""
    lines: dict[str, list[Point]] = {}
    for fsdp in divided:
        for name in names:
            if find_chip(name).target:
                raise UserError(
                    f"--devices={name}; give TPUs, the compiler of GPUs counts no FLOPs"
                )
            generation, _, shape = name.partition(":")
            count = _chips(shape)
            if count % fsdp == 0:
                key = f"{generation}, fsdp {fsdp}"
                lines.setdefault(key, []).append(Point(count, name, fsdp))
    return lines


def _chips(shape: str) -> int:
    count = 1
    for side in shape.split("x"):
        count *= int(side)
    return count


def _numbers(flag: str, values: Sequence[str]) -> list[int]:
    for value in values:
        if not value.isdecimal() or not int(value):
            raise UserError(f"--{flag}={value}; give numbers above 0")
    return [int(value) for value in values]


def settings_of(model: str, depths: Sequence[int]) -> Settings:
    """The settings of configs/MODEL.py, its blocks written out, stages cut to `depths`.

    Raises:
        UserError: there is no such config, or it has no pictures or no clips.

    """
    known = sorted(path.stem for path in CONFIGS.glob("swin_*.py"))
    if model not in known:
        raise UserError(f"--model={model} is not in configs/; use one of {', '.join(known)}")
    config = importlib.import_module(f"configs.{model}").get_config()
    config.model.scan = False
    settings = resolve(config.to_dict())
    if not depths:
        return settings
    if len(depths) > len(settings.model.depths):
        raise UserError(f"--depths: {model} has {len(settings.model.depths)} stages")
    cut = replace(
        settings.model, depths=tuple(depths), num_heads=settings.model.num_heads[: len(depths)]
    )
    return replace(settings, model=cut)


def at(settings: Settings, point: Point, devices: int) -> Settings:
    """The settings of a point: what a device has is taken in one round."""
    name = point.dataset
    dataset = settings.datasets[name]
    sized = replace(dataset, batch_size=point.batch * devices, frames=point.frames, size=point.size)
    training = settings.training[name]
    recipe = replace(training.recipe, microbatch=point.batch, remat="none")
    return replace(
        settings,
        mesh=replace(settings.mesh, fsdp=point.fsdp),
        datasets={**settings.datasets, name: sized},
        training={**settings.training, name: training._replace(recipe=recipe)},
    )


def compiled(settings: Settings, point: Point) -> Figures:
    """Compiles the step of a point.

    Raises:
        UserError: it does not fit the chip, or the slice has no sides that make `fsdp`.

    """
    machine = open_machine(point.topology)
    plan = make_plan(at(settings, point, len(machine.devices)), machine.devices)
    program = train_program(plan, [point.dataset])
    figures = compile_program(program, int(machine.chip.usable_gib * GIB), machine.compiler)
    if not figures.flops:
        raise UserError(f"{point.topology} has no room for {point}; give smaller numbers")
    return figures


class Progress:
    """Compiles points and says on stderr how far that is."""

    def __init__(self, total: int):
        self._total, self._done, self._began = total, 0, time.monotonic()

    def row(self, settings: Settings, point: Point) -> dict[str, Any]:
        figures = compiled(settings, point)
        self._done += 1
        left = (time.monotonic() - self._began) / self._done * (self._total - self._done)
        print(
            f"{self._done} of {self._total}: {point.topology} {point.value}, "
            f"{figures.seconds:.0f} s, {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )
        return row(settings, point, figures)


def row(settings: Settings, point: Point, figures: Figures) -> dict[str, Any]:
    """What is kept of a compiled step: figures of one device."""
    size = (point.frames, point.size, point.size)
    told = summary(figures.collectives)
    return {
        "value": point.value,
        "topology": point.topology,
        "fsdp": point.fsdp,
        "tokens": point.batch * cost.layout(settings.model, size)[0].tokens,
        "rounds": figures.splits[point.dataset].count,
        "gflops": figures.flops / 1e9,
        "gb": figures.accessed / 1e9,
        "temporaries_gib": figures.temporaries / GIB,
        "collectives_mb": sum(one["bytes"] for one in told) / 1e6,
        "collectives": told,
        "seconds": round(figures.seconds, 1),
    }


def grown(axis: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The points of a line, and how each figure grows: with tokens, or with devices."""
    of = "devices" if axis == "devices" else "tokens"
    found: dict[str, Any] = {"of": of, "points": list(rows)}
    base = [row["value" if of == "devices" else "tokens"] for row in rows]
    for key in FIGURES:
        values = [row[key] for row in rows]
        found[f"{key}_exponent"] = exponent(base, values) if all(values) and len(rows) > 1 else None
    return found


def series(results: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The lines of all files as they are drawn, those along devices first."""
    lines = [line for told in results for line in told["lines"]]
    return sorted(lines, key=lambda line: "devices" not in line["axes"])


def text(told: Mapping[str, Any]) -> str:
    """The figures as lines."""
    versions = ", ".join(f"{name} {number}" for name, number in told["versions"].items())
    lines = [words(told["machine"]), f"{told['model']} {told['depths']}, {versions}"]
    for line in told["lines"]:
        for axis, found in line["axes"].items():
            lines.append(f"{axis}, {line['mode']}: {_powers(found)}")
            lines += [
                f"  {point['value']:>6} {point['gflops']:>9.1f} GFLOPs {point['gb']:>7.2f} GB "
                f"{point['temporaries_gib']:>6.2f} GiB {point['collectives_mb']:>7.2f} MB of "
                f"collectives {point['seconds']:>6.0f} s"
                for point in found["points"]
            ]
    return "\n".join(lines)


def _powers(found: Mapping[str, Any]) -> str:
    """How figures grow, as powers."""
    known = {key: found[f"{key}_exponent"] for key in FIGURES}
    return ", ".join(
        f"{key} ~ {found['of']}^{power:.2f}" for key, power in known.items() if power is not None
    )


if __name__ == "__main__":
    define_flags()
    command.run(main)
