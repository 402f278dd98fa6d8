"""Takes weights in from PyTorch and out to it, and looks into them.

    python -m omnivore_jax.convert from-torch SRC DST.safetensors
        [--classes=image=timm] [--allow-missing=PATTERN,...]
    python -m omnivore_jax.convert adapt SRC DST.safetensors
        [--window=8,12,12] [--heads=image,mine:20] [--raw]
    python -m omnivore_jax.convert to-torch SRC DST.torch|DST_FOLDER [--raw]
    python -m omnivore_jax.convert inspect FILE [--json]
    python -m omnivore_jax.convert diff A B [--json]

from-torch reads the layouts of Omnivore, Swin, Video Swin, timm and torchvision (docs/weights.md)
and says which one it is; adapt does the same to files of ours and to the folder of a run. Both
account for every parameter and write DST.safetensors with its card, also beside it as DST.json; or
they write nothing. to-torch writes the released layout, or, where DST has no suffix, a folder for
torch.hub. SRC of to-torch, inspect and diff is a file or a run's folder.
"""

import json
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from absl import flags

from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local, location
from omnivore_jax.core.types import Size
from omnivore_jax.weights.request import Request, option

if TYPE_CHECKING:
    from omnivore_jax.weights.result import Result

TAKEN = {"inspect": ("variant", "prefix", "source_window", "raw", "json"), "diff": ("raw", "json")}
"""Flags of the commands that do not convert; the others take all."""
TORCH_SUFFIXES = (".torch", ".pth", ".pt")
MAX_TOKENS = 1 << 14
"""Of a window: its tables and its attention grow with the square of this."""
MAX_LINES = 50
"""Differing tensors that `diff` shows; --json lists all."""


@dataclass(frozen=True)
class Options(Request):
    """What is asked for beside the files: every field is a flag of the same name."""

    json: bool = option(False, "Print the result as JSON.")


def define_flags() -> None:
    """Makes the flags of the fields of `Options`; they may be written with - as well."""
    hints = get_type_hints(Options)
    for row in fields(Options):
        _define(row.name, hints[row.name], row.default, row.metadata["help"])
        if "_" in row.name:
            flags.DEFINE_alias(row.name.replace("_", "-"), row.name)


def _define(name: str, hint: Any, default: Any, text: str) -> None:
    kind = _kind(hint)
    if kind is bool:
        flags.DEFINE_bool(name, default, text)
    elif kind is int:
        flags.DEFINE_integer(name, default, text)
    elif kind is str:
        flags.DEFINE_string(name, default, text)
    elif get_origin(kind) is Literal:
        flags.DEFINE_enum(name, default, list(get_args(kind)), text)
    elif get_origin(kind) is Mapping:
        flags.DEFINE_multi_string(name, (), text)
    else:
        flags.DEFINE_list(name, default, text)


def _kind(hint: Any) -> Any:
    """The type of a field, without the None that says that nothing is asked."""
    return next((kind for kind in get_args(hint) if type(None) in get_args(hint)), hint)


def read_options(values: Mapping[str, Any]) -> Options:
    """Makes options of the values of flags by name.

    Raises:
        UserError: a window or a name of classes is none.

    """
    hints = get_type_hints(Options)
    return Options(**{name: _value(name, hints[name], value) for name, value in values.items()})


def _value(name: str, hint: Any, value: Any) -> Any:
    kind = _kind(hint)
    if value is None or get_origin(kind) not in (tuple, Sequence, Mapping):
        return value
    if kind == Size:
        return _window(name, value)
    return dict(map(_pair, value)) if get_origin(kind) is Mapping else tuple(value)


def main(argv: Sequence[str]) -> int:
    """Runs the command that the arguments name."""
    command, count = COMMANDS.get(argv[1], (None, 0)) if len(argv) > 1 else (None, 0)
    if command is None or len(argv) != 2 + count:
        said = " ".join(argv[1:]) or "nothing"
        raise UserError(
            f"cannot convert {said}; use from-torch SRC DST, adapt SRC DST, to-torch SRC DST, "
            "inspect F or diff A B"
        )
    names = [field.name for field in fields(Options)]
    for name in names:
        if flags.FLAGS[name].present and name not in TAKEN.get(argv[1], names):
            raise UserError(
                f"--{name} is not for {argv[1]}, which takes --{', --'.join(TAKEN[argv[1]])}"
            )
    options = read_options({name: getattr(flags.FLAGS, name) for name in names})
    places = (
        location(file, f"file {number} of {argv[1]}") for number, file in enumerate(argv[2:], 1)
    )
    return command(options, *places)


def from_torch(options: Options, src: Path, dst: Path) -> int:
    """Turns any file of weights into one of ours."""
    from omnivore_jax.weights.conversion import convert
    from omnivore_jax.weights.opening import here

    with _working(f"converting {src}"):
        done = convert(here(src), dst, options)
    return _show(options, done)


def to_torch(options: Options, src: Path, dst: Path) -> int:
    """Writes weights for PyTorch.

    A file in the released layout, or a folder for torch.hub where DST has no suffix.
    """
    from omnivore_jax.weights.opening import here
    from omnivore_jax.weights.torch import released

    if dst.suffix not in ("", *TORCH_SUFFIXES):
        raise UserError(
            f"{dst} should end in {' or '.join(TORCH_SUFFIXES)}, or in nothing for a folder of "
            "torch.hub"
        )
    write = released.write_released if dst.suffix else released.write_hub_folder
    with _working(f"converting {src}"):
        done = write(here(src), dst, options)
    return _show(options, done)


@contextmanager
def _working(text: str) -> Iterator[None]:
    """Shows on a terminal that something goes on."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(text):
        yield


def _show(options: Options, done: "Result") -> int:
    print(json.dumps(done.json()) if options.json else done.text())
    return 0


def inspect(options: Options, file: Path) -> int:
    """Says what is in a file."""
    from omnivore_jax.weights import inspection
    from omnivore_jax.weights.opening import open_weights

    source = open_weights(
        file,
        variant=options.variant,
        prefix=options.prefix,
        source_window=options.source_window,
        weights=options.weights,
    )
    content = inspection.inspect(source)
    print(json.dumps(content) if options.json else inspection.text(content))
    return 0


def diff(options: Options, one: Path, other: Path) -> int:
    """Compares two files or runs; 1 where they differ."""
    from omnivore_jax.weights import diff as differences
    from omnivore_jax.weights.opening import here

    rows, models = differences.compare(here(one), here(other), options.weights)
    unequal = [row for row in rows if row.verdict != "equal"]
    if options.json:
        tensors = [row._asdict() for row in rows]
        print(
            json.dumps({"summary": differences.summary(rows), "models": models, "tensors": tensors})
        )
    else:
        more = [f"and {len(unequal) - MAX_LINES:,} more"] if len(unequal) > MAX_LINES else []
        said = [*map(differences.text, unequal[:MAX_LINES]), *more]
        said += [
            f"{key:<10} {one_says!r} and {other_says!r}"
            for key, (one_says, other_says) in models.items()
        ]
        print("\n".join([*said, differences.summary(rows)]))
    return 1 if unequal or models else 0


def _pair(text: str) -> tuple[str, str]:
    head, sign, origin = text.partition("=")
    check_local(origin, f"--classes={head}")
    if not (head and sign and origin):
        raise UserError(f"--classes={text}; write HEAD=FILE, HEAD=timm or HEAD=torchvision")
    return head, origin


def _window(flag: str, sides: Sequence[str]) -> Size:
    if len(sides) != 3 or not all(side.isdecimal() and int(side) for side in sides):
        raise UserError(
            f"--{flag}={','.join(sides)}; write three numbers, t,h,w, for example 8,12,12"
        )
    if math.prod(map(int, sides)) > MAX_TOKENS:
        raise UserError(
            f"--{flag}={','.join(sides)} has more than {MAX_TOKENS:,} tokens; use a smaller one"
        )
    t, h, w = map(int, sides)
    return t, h, w


COMMANDS: Mapping[str, tuple[Callable[..., int], int]] = {
    "from-torch": (from_torch, 2),
    "adapt": (from_torch, 2),
    "to-torch": (to_torch, 2),
    "inspect": (inspect, 1),
    "diff": (diff, 2),
}
"""By name: what runs, and the number of files that it takes."""

if __name__ == "__main__":
    define_flags()
    run(main)
