"""Where the time of a training step goes on a CPU, by jax.profiler: parts of the model, both ways.

    python -m benchmarks.costs [--model=swin_t] [--input=image|video|rgbd] [--batch=4] [--frames=8]
        [--calls=5]

Parts are the scopes that the model gives its operations (`jax.named_scope`): a trace of
`log.profile` shows the same names. Times are those of all threads together.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
from absl import flags

from benchmarks.job import Job, config_of, write_models
from benchmarks.machine import describe, words
from omnivore_jax.core import command

MODEL = flags.DEFINE_string("model", "swin_t", "Variant, with or without omnivore_ before it.")
INPUT = flags.DEFINE_enum("input", "image", ["image", "video", "rgbd"], "Kind of the samples.")
BATCH = flags.DEFINE_integer("batch", 4, "Samples of a step.", 1)
FRAMES = flags.DEFINE_integer("frames", 8, "Of a clip.", 2)
CALLS = flags.DEFINE_integer("calls", 5, "Steps that are looked at.", 1)

OUTER = ("optimizer", "embed", "merging", "attention", "mlp")
INNER = ("windows", "linear", "norm", "gelu")
HOLDERS = ("while", "call", "conditional")
"""Operations whose time is that of others."""
NAMED = re.compile(r'%?([\w.\-]+) = .*op_name="([^"]*)"')


class Operation(NamedTuple):
    """One run of an operation on one thread."""

    name: str
    """In the compiled program."""
    seconds: float


def main(argv: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        operations, names = profile(Path(folder))
    total = sum(operation.seconds for operation in operations)
    print(f"{words(describe())}, {MODEL.value}, {INPUT.value}, {BATCH.value} samples a step")
    print("| part | way | ms | share |\n|---|---|---|---|")
    for (name, way), seconds in summed(operations, names).most_common():
        milliseconds, share = 1e3 * seconds / CALLS.value, seconds / total
        if share >= 0.005:
            print(f"| {name} | {way} | {milliseconds:.1f} | {share:.1%} |")
    return 0


def profile(folder: Path) -> tuple[list[Operation], dict[str, str]]:
    """Traces training steps: what ran, and where each operation of the program comes from."""
    from benchmarks.jax_side import JaxSide

    kind, cache = INPUT.value, folder / "cache"
    cache.mkdir()
    write_models(folder, config_of(MODEL.value), kind)
    frames = FRAMES.value if kind == "video" else 1
    side = JaxSide(Job("ours", str(folder), str(cache), "train", kind, BATCH.value, frames, 224))
    side.build()
    side.call()
    with jax.profiler.trace(str(folder / "trace")):
        for _ in range(CALLS.value):
            side.call()
    [path] = (folder / "trace").rglob("*.xplane.pb")
    return list(executed(jax.profiler.ProfileData.from_file(str(path)))), named(side.program())


def named(program: str) -> dict[str, str]:
    """Says where every operation of a compiled program comes from: scopes and primitive."""
    return dict(NAMED.findall(program))


def executed(data: jax.profiler.ProfileData) -> Iterable[Operation]:
    """Lists what ran of the training step."""
    for plane in data.planes:
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                if str(stats.get("hlo_module", "")).startswith("jit_step"):
                    yield Operation(str(stats["hlo_op"]), event.duration_ns / 1e9)


def summed(operations: Iterable[Operation], names: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """Adds up seconds by part and way."""
    sums: Counter[tuple[str, str]] = Counter()
    for operation in operations:
        if not operation.name.startswith(HOLDERS):
            sums[part(names.get(operation.name, ""))] += operation.seconds
    return sums


def part(name: str) -> tuple[str, str]:
    """The part of the model that an operation belongs to, and forward or backward."""
    scopes = re.findall(r"\w+", name)
    outer = next((scope for scope in OUTER if scope in scopes), "")
    inner = next((scope for scope in INNER if scope in scopes), "")
    way = "backward" if "transpose(" in name else "forward"
    if not name:
        return "copies of XLA", ""
    if outer == "optimizer" or not outer:
        return outer or "batch, loss, norm of the gradient", "" if outer else way
    return f"{outer}: {inner or 'moves of tokens, sums'}", way


if __name__ == "__main__":
    command.run(main)
