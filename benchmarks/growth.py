"""How time and memory of our model grow with frames, resolution, batch and model size.

    python -m benchmarks.growth [--model=swin_t] [--mode=forward|train] [--rounds=3]
        [--axes=frames,size,batch,model] [--frames=8,16,32,64] [--sizes=224,256,288,320,384]
        [--batches=1,2,4,8,16] [--models=swin_t,swin_s,swin_b,swin_l] [--json=FILE]

Every point is a process of its own; those along an axis take turns. Frames are those of one clip,
the other axes take pictures. Exponents are fitted to the CPU seconds of all threads, which others
on the machine change less than wall time, and to the peak of memory without the parameters (in
training also moments and average): over the tokens of the first stage, for models over the FLOPs.
"""

import json
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from absl import flags

from benchmarks.job import CLASSES, PASSES, Job, config_of, write_models
from benchmarks.machine import command_line, describe, words
from benchmarks.worker import GIB, Worker
from omnivore_jax.core import command
from omnivore_jax.core.errors import UserError
from omnivore_jax.model import cost
from omnivore_jax.model.config import ModelConfig

FLAG = {"frames": "frames", "size": "sizes", "batch": "batches", "model": "models"}
"""Of the values along every axis."""


STATES = {"forward": 1, "train": 4}
"""Arrays as large as the parameters that a call holds: moments and the average too in training."""


class Point(NamedTuple):
    """What is measured: a model and the inputs that it gets."""

    value: int | str
    config: ModelConfig
    job: Job


def define_flags() -> None:
    flags.DEFINE_string("model", "swin_t", "Variant of all points but those of models.")
    flags.DEFINE_enum("mode", "forward", list(PASSES), "Scores, or steps of training.")
    flags.DEFINE_list("axes", list(FLAG), "What grows.")
    flags.DEFINE_list("frames", ["8", "16", "32", "64"], "Of one clip.")
    flags.DEFINE_list("sizes", ["224", "256", "288", "320", "384"], "Rows and columns.")
    flags.DEFINE_list("batches", ["1", "2", "4", "8", "16"], "Pictures at once.")
    flags.DEFINE_list("models", ["swin_t", "swin_s", "swin_b", "swin_l"], "Variants.")
    flags.DEFINE_integer("rounds", 3, "Timed calls of every point.", 1)
    flags.DEFINE_string("json", "", "File for the figures.")


def main(argv: Sequence[str]) -> int:
    machine, asked = describe(), flags.FLAGS
    along = {axis: points(asked, axis, machine["cores"]) for axis in asked.axes}
    axes = {axis: measure(axis, chosen, asked.rounds) for axis, chosen in along.items()}
    told = {"benchmark": "growth", "command": command_line("growth"), "machine": machine}
    told |= {"mode": asked.mode, "rounds": asked.rounds, "axes": axes}
    if asked.json:
        Path(asked.json).write_text(json.dumps(told, indent=1) + "\n")
    print(text(told))
    return 0


def points(asked: Any, axis: str, cores: int) -> list[Point]:
    """Says what is measured along an axis, of the flags.

    Raises:
        UserError: names the flag, the value and the remedy.

    """
    if axis not in FLAG:
        raise UserError(f"--axes={axis} is not known; use some of {', '.join(FLAG)}")
    values = getattr(asked, FLAG[axis])
    if len(values) < 2:
        raise UserError(f"--{FLAG[axis]}={','.join(values)}; give two or more to fit a line")
    if axis == "model":
        return [Point(name, config_of(name), _job(asked, cores)) for name in values]
    for text in values:
        if not text.isdecimal() or not int(text):
            raise UserError(f"--{FLAG[axis]}={text}; give numbers above 0")
    config = config_of(asked.model)
    return [Point(int(n), config, _job(asked, cores, **{axis: int(n)})) for n in values]


def _job(asked: Any, cores: int, frames: int = 0, size: int = 224, batch: int = 1) -> Job:
    return Job(
        "ours",
        folder="",
        cache="",
        mode=asked.mode,
        kind="video" if frames else "image",
        batch=batch,
        frames=frames or 1,
        size=size,
        threads=cores,
    )


def measure(axis: str, chosen: Sequence[Point], rounds: int) -> dict[str, Any]:
    """Measures points in turn and fits how they grow."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        workers = [stack.enter_context(_started(Path(name), p)) for p in chosen]
        seconds: list[list[dict[str, Any]]] = [[] for _ in workers]
        for number in range(rounds):
            for k in list(range(len(workers)))[:: -1 if number % 2 else 1]:
                seconds[k].append(workers[k].ask("call"))
        peaks = [worker.ask("peak") for worker in workers]
    rows = [
        _row(point, calls, peak) for point, calls, peak in zip(chosen, seconds, peaks, strict=True)
    ]
    of = "FLOPs" if axis == "model" else "tokens"
    base = [row["gflops" if axis == "model" else "tokens"] for row in rows]
    return {
        "of": of,
        "points": rows,
        "time_exponent": exponent(base, [row["cpu_seconds"] for row in rows]),
        "memory_exponent": exponent(base, [row["gib"] for row in rows]),
    }


def _started(folder: Path, point: Point) -> Worker:
    """The process of a point, compiled and called once."""
    place = folder / str(point.value)
    (place / "cache").mkdir(parents=True)
    write_models(place, point.config, point.job.kind)
    job = replace(point.job, folder=str(place), cache=str(place / "cache"))
    worker = Worker(job)
    for word in ("build", "call", "call", "forget peak"):
        worker.ask(word)
    return worker


def _row(point: Point, calls: Sequence[Mapping[str, Any]], peak: float) -> dict[str, Any]:
    job, config = point.job, point.config
    size, classes = (job.frames, job.size, job.size), CLASSES[job.kind]
    stage = cost.layout(config, size)[0]
    count = cost.parameter_count(config, {job.kind: classes})["total"]
    flops = PASSES[job.mode] * job.batch * cost.flops(config, size, 3, classes)
    return {
        "value": point.value,
        "tokens": job.batch * stage.tokens,
        "gflops": flops / 1e9,
        "seconds": statistics.median(call["seconds"] for call in calls),
        "cpu_seconds": statistics.median(call["cpu_seconds"] for call in calls),
        "gib": peak - STATES[job.mode] * 4 * count / GIB,
    }


def exponent(base: Sequence[float], figures: Sequence[float]) -> float:
    """The slope of a line through logarithms: figures grow as base to its power."""
    return float(np.polyfit(np.log(base), np.log(figures), 1)[0])


def text(told: Mapping[str, Any]) -> str:
    """The figures as lines."""
    lines = [words(told["machine"]), f"{told['mode']}, {told['rounds']} rounds"]
    for axis, found in told["axes"].items():
        lines.append(
            f"{axis}: time ~ {found['of']}^{found['time_exponent']:.2f}, memory ~ "
            f"{found['of']}^{found['memory_exponent']:.2f}"
        )
        lines += [
            f"  {point['value']!s:>8} {point['tokens']:>9,} tokens {point['gflops']:>8.1f} GFLOPs "
            f"{point['seconds']:>8.3f} s {point['cpu_seconds']:>8.3f}  CPU {point['gib']:>6.2f} GiB"
            for point in found["points"]
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    command.run(main)
