"""The model beside what people would use instead, in one run: time, memory, first call, MFU.

    python -m benchmarks.model [--model=swin_t] [--input=image|video|rgbd] [--mode=forward|train]
        [--against=torch,torch-compile,torchvision,timm] [--batch=8] [--frames=16] [--size=224]
        [--dtype=float32|bfloat16] [--attention=auto] [--rounds=5] [--threads=0]
        [--json=FILE]

Every side is a process of its own with the same parameters and samples, on the CPU; they take
turns, call by call. `torch` is the model that `convert to-torch` writes (attention by
`F.scaled_dot_product_attention`, bias and shift mask as its mask); `torchvision` and `timm` are
their code with the same parameters in it; `-compile` behind a name is torch.compile. bfloat16 is
`Compute(dtype="bfloat16")` against `torch.autocast`. A training step standardises bytes, computes
gradients, their norm, AdamW and the average of the weights, without augmentation. What differs by
more than `TOLERANCE` is not timed.
"""

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from benchmarks.job import CLASSES, PASSES, Job, config_of, write_models
from benchmarks.machine import command_line, describe, words
from benchmarks.spread import spread
from benchmarks.worker import Worker
from omnivore_jax.core import command
from omnivore_jax.core.errors import UserError
from omnivore_jax.model import cost
from omnivore_jax.model.attention.table import NAMES

LIBRARIES = {
    "torch": ("image", "video", "rgbd"),
    "torchvision": ("image", "video"),
    "timm": ("image",),
}
"""Inputs that each has a model of."""
SIDES = (*LIBRARIES, *(f"{name}-compile" for name in LIBRARIES))
TOLERANCE = {
    "forward": {"float32": 1e-4, "bfloat16": 5e-2},
    "train": {"float32": 1e-3, "bfloat16": 5e-2},
}
"""Largest difference of outputs from ours, relative to the largest.

Logits, or loss and norm of the gradient of the first steps, whose updates AdamW makes of signs.
"""
COMPARED = 2
"""First calls whose outputs are compared: the second step of a training shows the update."""
BATCH = {"image": 8, "video": 1, "rgbd": 8}
FRAMES = {"image": 1, "video": 16, "rgbd": 1}


def define_flags() -> None:
    flags.DEFINE_string("model", "swin_t", "Variant, with or without omnivore_ before it.")
    flags.DEFINE_enum("input", "image", list(BATCH), "Kind of the samples.")
    flags.DEFINE_enum("mode", "forward", list(PASSES), "Scores, or steps of training.")
    flags.DEFINE_list("against", ["torch"], f"Of {', '.join(SIDES)}.")
    flags.DEFINE_integer("batch", 0, "Samples at once; 0: 8 pictures or 1 clip.", 0)
    flags.DEFINE_integer("frames", 0, "Of a clip; 0: 16.", 0)
    flags.DEFINE_integer("size", 224, "Rows and columns.", 32)
    flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the computation.")
    flags.DEFINE_enum("attention", "auto", list(NAMES), "Backend of ours.")
    flags.DEFINE_integer("rounds", 5, "Timed calls of every side.", 1)
    flags.DEFINE_integer("threads", 0, "Cores of every side; 0: all.", 0)
    flags.DEFINE_string("json", "", "File for the figures.")


def main(argv: Sequence[str]) -> int:
    machine, asked = describe(), flags.FLAGS
    told = {"benchmark": "model", "command": command_line("model"), "machine": machine}
    told |= compare(sides(asked, machine["cores"]), config_of(asked.model), asked.rounds)
    if asked.json:
        Path(asked.json).write_text(json.dumps(told, indent=1) + "\n")
    print(text(told))
    return 0


def sides(asked: Any, cores: int) -> list[Job]:
    """Makes a job for every side, ours first, of the flags.

    Raises:
        UserError: names the flag, the value and the remedy.

    """
    kind = asked.input
    for name in asked.against:
        if name not in SIDES:
            raise UserError(f"--against={name} is not known; use some of {', '.join(SIDES)}")
        library = name.removesuffix("-compile")
        if kind not in LIBRARIES[library]:
            raise UserError(f"--against={name}: {library} has no model for --input={kind}")
    if kind != "video" and asked.frames > 1:
        raise UserError(f"--frames={asked.frames}: --input={kind} has one frame; use --input=video")
    if not 0 <= asked.threads <= cores:
        raise UserError(f"--threads={asked.threads}: this machine has {cores} cores")
    ours = Job(
        "ours",
        folder="",
        cache="",
        mode=asked.mode,
        kind=kind,
        batch=asked.batch or BATCH[kind],
        frames=asked.frames or FRAMES[kind],
        size=asked.size,
        dtype=asked.dtype,
        threads=asked.threads or cores,
        attention=asked.attention,
    )
    return [ours, *(replace(ours, side=name) for name in asked.against)]


def compare(jobs: Sequence[Job], config: Any, rounds: int) -> dict[str, Any]:
    """Runs all sides beside each other and gives what was measured.

    Raises:
        UserError: a side failed, or computes something else than ours.

    """
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_models(folder, config, jobs[0].kind)
        placed = {}
        for job in jobs:
            (folder / f"cache-{job.side}").mkdir()
            cache = str(folder / f"cache-{job.side}")
            placed[job.side] = replace(job, folder=name, cache=cache)
        cold = {side: first_call(job) for side, job in placed.items()}
        workers = {side: stack.enter_context(Worker(job)) for side, job in placed.items()}
        warm = {side: _begin(worker) for side, worker in workers.items()}
        later = [{side: worker.ask("call")["gave"] for side, worker in workers.items()}]
        differences = {}
        for side in list(workers)[1:]:
            outputs = [{s: row["outputs"] for s, row in warm.items()}, *later][:COMPARED]
            differences[side] = max(difference(row["ours"], row[side]) for row in outputs)
            _check(side, differences[side], TOLERANCE[jobs[0].mode][jobs[0].dtype])
        for worker in workers.values():
            worker.ask("forget peak")
        measured = measure(workers, rounds)
        peaks = {side: worker.ask("peak") for side, worker in workers.items()}
        versions = {k: v for worker in workers.values() for k, v in worker.versions.items()}
    figures = _figures(jobs[0], config, measured, rounds)
    for side, row in figures["sides"].items():
        row |= {"peak_gib": peaks[side], "first_call_peak_gib": cold[side]["peak_gib"]}
        row |= {"first_call_cold": cold[side]["seconds"], "first_call_warm": warm[side]["seconds"]}
        row["difference"] = differences.get(side, 0.0)
    return figures | {"versions": versions}


def first_call(job: Job) -> dict[str, Any]:
    """Builds a model in a process of its own, which nothing was compiled for, and calls it once."""
    with Worker(job) as worker:
        return _begin(worker)


def _begin(worker: Worker) -> dict[str, Any]:
    built, called = worker.ask("build"), worker.ask("call")
    seconds = built["seconds"] + called["seconds"]
    return {"seconds": seconds, "outputs": called["gave"], "peak_gib": worker.ask("peak")}


def difference(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The largest difference, relative to the largest of ours."""
    one, other = np.array(ours), np.array(theirs)
    if one.shape != other.shape:
        return float("inf")
    return float(np.abs(one - other).max() / np.abs(one).max())


def _check(side: str, found: float, most: float) -> None:
    if not found <= most:  # so that NaN is over it
        raise UserError(
            f"--against={side}: its outputs differ from ours by {found:.1e} of the largest, more "
            f"than {most:.0e}; what computes something else is not timed"
        )


def measure(workers: Mapping[str, Any], rounds: int) -> dict[str, dict[str, list[float]]]:
    """Calls every side in turn, forwards and backwards, each after a product of matrices."""
    keys = ("seconds", "cpu_seconds", "matmul")
    measured = {side: {key: [] for key in keys} for side in workers}
    for number in range(rounds):
        for side in list(workers)[:: -1 if number % 2 else 1]:
            row = {"matmul": workers[side].ask("matmul"), **workers[side].ask("call")}
            for key in keys:
                measured[side][key].append(row[key])
    return measured


def _figures(job: Job, config: Any, measured: Mapping[str, Any], rounds: int) -> dict[str, Any]:
    size = (job.frames, job.size, job.size)
    one = cost.flops(config, size, job.channels, CLASSES[job.kind])
    flops = PASSES[job.mode] * job.batch * one
    peak = max(statistics.median(row["matmul"]) for row in measured.values())
    figures, ratios = {}, {}
    for side, row in measured.items():
        seconds = statistics.median(row["seconds"])
        figures[side] = {
            "seconds": seconds,
            "spread": spread(row["seconds"]),
            "cpu_seconds": statistics.median(row["cpu_seconds"]),
            "samples_per_second": job.batch / seconds,
            "mfu": flops / seconds / peak,
            "matmul_gflops": statistics.median(row["matmul"]) / 1e9,
        }
        if side != "ours":
            ratios[side] = {
                key: _ratio(measured["ours"][key], row[key]) for key in ("seconds", "cpu_seconds")
            }
    return {
        "model": config.name,
        "input": job.kind,
        "shape": [job.batch, *size, job.channels],
        "mode": job.mode,
        "dtype": job.dtype,
        "attention": job.attention,
        "threads": job.threads,
        "rounds": rounds,
        "tolerance": TOLERANCE[job.mode][job.dtype],
        "gflops": flops / 1e9,
        "matmul_gflops": peak / 1e9,
        "sides": figures,
        "ratios": ratios,
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, float]:
    """Ours over theirs, round by round."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"median": statistics.median(ratios), "spread": spread(ratios)}


def text(told: Mapping[str, Any]) -> str:
    """The figures as lines."""
    shape = " x ".join(map(str, told["shape"]))
    lines = [
        words(told["machine"]),
        f"{told['model']}, {told['input']} {shape}, {told['mode']}, {told['dtype']}, "
        f"attention {told['attention']}, "
        f"{told['threads']} threads, {told['rounds']} rounds, "
        f"{told['gflops']:.1f} GFLOPs a call; a product of matrices {told['matmul_gflops']:.0f}/s",
        f"  {'':<20} {'ours / it':>15} {'of CPU':>8} {'seconds':>9} {'MFU':>5} {'peak GiB':>9} "
        f"{'first call: cold':>17} {'warm s':>7} {'differs':>8}",
    ]
    for side, row in told["sides"].items():
        ratio = told["ratios"].get(side)
        against = f"{'':>15} {'':>8}"
        if ratio:
            wall, cpu = ratio["seconds"], ratio["cpu_seconds"]
            against = f"{wall['median']:>8.2f} ({wall['spread']:>4.0%}) {cpu['median']:>8.2f}"
        lines.append(
            f"  {side:<20} {against} {row['seconds']:>9.3f} {row['mfu']:>5.0%} "
            f"{row['peak_gib']:>9.2f} {row['first_call_cold']:>17.1f} "
            f"{row['first_call_warm']:>7.1f} {row['difference']:>8.0e}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    command.run(main)
