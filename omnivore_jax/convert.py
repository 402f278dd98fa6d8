"""Takes weights in from PyTorch and out to it, and looks into them.

    python -m omnivore_jax.convert from-torch SRC DST.safetensors [--classes=image=timm]
    [--allow-missing=PATTERN,...] python -m omnivore_jax.convert adapt SRC DST.safetensors
    [--window=8,12,12] [--heads=image,mine:20] [--raw] python -m omnivore_jax.convert to-torch SRC
    DST.torch|DST_FOLDER [--raw] python -m omnivore_jax.convert inspect FILE [--json] python -m
    omnivore_jax.convert diff A B [--json]

from-torch reads the layouts of Omnivore, Swin, Video Swin, timm and torchvision (docs/weights.md)
and says which one it found; adapt does the same to files of ours and to the folder of a run. Both
account for every parameter and write DST.safetensors with its card, also beside it as DST.json; or
they write nothing. to-torch writes the released layout, or, where DST has no suffix, a folder for
torch.hub. SRC of to-torch, inspect and diff is a file or a run's folder.
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from absl import flags

from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local

ALIASES = (
    "allow_missing",
    "allow_unused",
    "allow_lossy",
    "allow_nonfinite",
    "keep_image",
    "source_window",
)
"""Flags that may be written with - as well."""
TAKEN = {"inspect": ("variant", "prefix", "source_window", "raw", "json"), "diff": ("raw", "json")}
"""Flags of the commands that do not convert; the others take all."""
TORCH_SUFFIXES = (".torch", ".pth", ".pt")
MAX_TOKENS = 1 << 14
"""Of a window: its tables and its attention grow with the square of this."""
MAX_LINES = 50
"""Differing tensors that `diff` shows; --json lists all."""


@dataclass(frozen=True)
class Options:
    """What is asked for beside the files; the flags of the same names."""

    variant: str | None = None
    prefix: str | None = None
    heads: list[str] | None = None
    classes: tuple[str, ...] = ()
    window: list[str] | None = None
    source_window: list[str] | None = None
    position_bias: str | None = None
    depth_embed: str | None = None
    allow_missing: tuple[str, ...] = ()
    allow_unused: tuple[str, ...] = ()
    allow_lossy: bool = False
    allow_nonfinite: bool = False
    keep_image: bool = False
    licence: str | None = None
    seed: int = 0
    raw: bool = False
    certificate: bool = True
    certify: bool = False
    json: bool = False


def define_flags() -> None:
    flags.DEFINE_string(
        "variant", None, "Model that the file must be; its shapes tell, and this is checked."
    )
    flags.DEFINE_string(
        "prefix", None, "Which model to take from a file that holds several: how its keys begin."
    )
    flags.DEFINE_list(
        "heads",
        None,
        "Heads of the result: NAME keeps, NEW=OLD renames, NAME:CLASSES may be fresh.",
    )
    flags.DEFINE_multi_string(
        "classes", (), "HEAD=FILE, HEAD=timm or HEAD=torchvision: names of its classes."
    )
    flags.DEFINE_list("window", None, "Window t,h,w of the result; tables are resized.")
    flags.DEFINE_list(
        "source_window", None, "Window t,h,w of the file, where its tables fit several or none."
    )
    flags.DEFINE_enum(
        "position_bias", None, ["joint", "factored"], "Form of the position bias of the result."
    )
    flags.DEFINE_enum(
        "depth_embed",
        None,
        ["summed", "separate", "shared", "none"],
        "How the result embeds depth.",
    )
    flags.DEFINE_list("allow_missing", (), "Patterns of parameters that may be drawn afresh.")
    flags.DEFINE_list("allow_unused", (), "Patterns of the file's keys that may be left out.")
    flags.DEFINE_bool(
        "allow_lossy", False, "Make factored tables out of joint ones, as near as they come."
    )
    flags.DEFINE_bool(
        "keep_image", False, "With --allow-lossy: keep the bias within a frame exactly."
    )
    flags.DEFINE_bool("allow_nonfinite", False, "Convert weights that hold NaN or infinity.")
    flags.DEFINE_string(
        "licence", None, "Licence of the weights, where the card should say another."
    )
    flags.DEFINE_integer("seed", 0, "Of what is drawn afresh.")
    flags.DEFINE_bool("raw", False, "Of a run, the parameters themselves instead of their EMA.")
    flags.DEFINE_bool(
        "certificate", True, "Compare the result with PyTorch's, where that is installed."
    )
    flags.DEFINE_bool("certify", False, "Fail where outputs differ from PyTorch's.")
    flags.DEFINE_bool("json", False, "Print the result as JSON.")
    for name in ALIASES:
        flags.DEFINE_alias(name.replace("_", "-"), name)


def main(argv: Sequence[str]) -> int:
    commands = {
        "from-torch": (from_torch, 2), "adapt": (from_torch, 2), "to-torch": (to_torch, 2), "inspect": (inspect, 1),
        "diff": (diff, 2),
    }  # fmt: skip
    command, files = (commands.get(argv[1]) if len(argv) > 1 else None) or (None, 0)
    if command is None or len(argv) != 2 + files:
        given = " ".join(argv[1:]) or "nothing"
        raise UserError(
            f"cannot convert {given}; use from-torch SRC DST, adapt SRC DST, to-torch SRC DST, "
            "inspect F or diff A B"
        )
    for name in (field.name for field in fields(Options)):
        if flags.FLAGS[name].present and name not in TAKEN.get(argv[1], (name,)):
            raise UserError(
                f"--{name} is not for {argv[1]}, which takes --{', --'.join(TAKEN[argv[1]])}"
            )
    options = Options(**{field.name: getattr(flags.FLAGS, field.name) for field in fields(Options)})
    for number, file in enumerate(argv[2:], 1):
        check_local(file, f"file {number} of {argv[1]}")
    return command(options, *map(Path, argv[2:]))


def from_torch(options: Options, src: Path, dst: Path) -> int:
    """Turns any file of weights into one of ours."""
    from omnivore_jax.weights.conversion import convert

    with _working(f"converting {src}"):
        done = convert(src, dst, _request(options))
    return _show(options, done)


def to_torch(options: Options, src: Path, dst: Path) -> int:
    """Writes weights for PyTorch.

    A file in the released layout, or a folder for torch.hub where DST has no suffix.
    """
    from omnivore_jax.weights.torch import released

    if dst.suffix not in ("", *TORCH_SUFFIXES):
        raise UserError(
            f"{dst} should end in {' or '.join(TORCH_SUFFIXES)}, or in nothing for a folder of "
            "torch.hub"
        )
    write = released.write_released if dst.suffix else released.write_hub_folder
    with _working(f"converting {src}"):
        done = write(src, dst, _request(options))
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


def _show(options: Options, done: Any) -> int:
    print(json.dumps(done.json()) if options.json else done.text())
    return 0


def inspect(options: Options, file: Path) -> int:
    """Says what is in a file."""
    from omnivore_jax.weights import inspection
    from omnivore_jax.weights.opening import open_weights

    window = _window("source_window", options.source_window)
    given = {"variant": options.variant, "prefix": options.prefix, "source_window": window}
    source = open_weights(file, **given, weights=_weights(options))
    found = inspection.inspect(source)
    print(json.dumps(found) if options.json else inspection.text(found))
    return 0


def diff(options: Options, one: Path, other: Path) -> int:
    """Compares two files or runs; 1 where they differ."""
    from omnivore_jax.weights import diff as differences

    rows, models = differences.compare(one, other, _weights(options))
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


def _request(options: Options) -> Any:
    from omnivore_jax.weights.conversion import Request

    given: dict[str, Any] = {
        f.name: getattr(options, f.name) for f in fields(Request) if hasattr(options, f.name)
    }
    given |= {
        "classes": dict(_pair(text) for text in options.classes),
        "window": _window("window", options.window),
        "source_window": _window("source_window", options.source_window),
        "allow_missing": tuple(options.allow_missing),
        "allow_unused": tuple(options.allow_unused),
        "keep": "image" if options.keep_image else "all",
        "weights": _weights(options),
        "certificate": "required"
        if options.certify
        else "recorded"
        if options.certificate
        else "none",
    }
    return Request(**given)


def _weights(options: Options) -> Any:
    return "params" if options.raw else "ema"


def _pair(text: str) -> tuple[str, str]:
    head, sign, given = text.partition("=")
    check_local(given, f"--classes={head}")
    if not (head and sign and given):
        raise UserError(f"--classes={text}; write HEAD=FILE, HEAD=timm or HEAD=torchvision")
    return head, given


def _window(flag: str, given: list[str] | None) -> Any:
    if given is None:
        return None
    if len(given) != 3 or not all(side.isdecimal() and int(side) for side in given):
        raise UserError(
            f"--{flag}={','.join(given)}; write three numbers, t,h,w, for example 8,12,12"
        )
    if math.prod(map(int, given)) > MAX_TOKENS:
        raise UserError(
            f"--{flag}={','.join(given)} has more than {MAX_TOKENS:,} tokens; use a smaller one"
        )
    return tuple(int(side) for side in given)


if __name__ == "__main__":
    define_flags()
    run(main)
