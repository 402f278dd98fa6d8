"""Flags that several commands have, each defined once: `WEIGHTS = options.weights()`."""

from typing import get_args

from absl import flags

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Mode

Text = flags.FlagHolder[str]


def weights() -> Text:
    return flags.DEFINE_string("weights", "", "A file of weights, or the folder of a run.")


def dataset() -> Text:
    return flags.DEFINE_string("dataset", "", "Name of a prepared dataset, or demo_image, ...")


def data_root() -> Text:
    return flags.DEFINE_string(
        "data_root", "", "Where datasets lie; default: $OMNIVORE_DATA, else data/."
    )


def split() -> Text:
    return flags.DEFINE_string("split", "val", "The split of the dataset.")


def head() -> Text:
    return flags.DEFINE_string("head", "", "The head that judges; by default the modality's.")


def views() -> Text:
    return flags.DEFINE_string(
        "views",
        "",
        "1x1, 4x3, ... of clips; whole, slide, ... of label maps; else the card's.",
    )


def mode() -> flags.FlagHolder[str]:
    return flags.DEFINE_enum("mode", "all", get_args(Mode), "What of RGB-D the model sees.")


def batch_size() -> flags.FlagHolder[int]:
    return flags.DEFINE_integer(
        "batch_size", 0, "Samples at once over all devices; 0: by their frames.", lower_bound=0
    )


def threads() -> flags.FlagHolder[int]:
    return flags.DEFINE_integer("threads", 0, "That read samples; 0: all cores.", lower_bound=0)


def compile_cache() -> Text:
    return flags.DEFINE_string("compile_cache", "", "Folder of compiled programs, or off.")


def json() -> flags.FlagHolder[bool]:
    return flags.DEFINE_bool("json", False, "Print what was found as JSON.")


def report() -> Text:
    return flags.DEFINE_string("report", "", "A page of what was found, FILE.html.")


def depth() -> Text:
    return flags.DEFINE_string("depth", "", "The depth map of the picture, a 16-bit grey PNG.")


def fx() -> flags.FlagHolder[float]:
    return flags.DEFINE_float("fx", 0.0, "Focal length in pixels of the depth map.", lower_bound=0)


def cameras() -> flags.FlagHolder[int]:
    return flags.DEFINE_integer(
        "cameras", 8, "Of a scene: around it, at equal angles.", lower_bound=1
    )


def up() -> Text:
    return flags.DEFINE_enum("up", "auto", ("auto", "y", "z"), "Of a scene: its axis that is up.")


def unit() -> flags.FlagHolder[float]:
    return flags.DEFINE_float(
        "unit", 1.0, "Of a scene: metres in one unit of it.", lower_bound=1e-9
    )


def distributed() -> flags.FlagHolder[bool]:
    """Defines --distributed and the flags of `dist`, for commands of several hosts."""
    from omnivore_jax.core import dist  # imports jax, which other commands need later or not at all

    dist.define_flags()
    return flags.DEFINE_bool(
        "distributed", False, "All processes of the job at once: Slurm, TPU pods, GKE."
    )


def is_shared(distributed: flags.FlagHolder[bool]) -> bool:
    """Tells whether the command was given to several processes."""
    return bool(distributed.value or flags.FLAGS.coordinator)


def require(flag: Text, remedy: str) -> str:
    """Gives the value of a flag that has to be given.

    Raises:
        UserError: it is missing.

    """
    if not flag.value:
        raise UserError(f"--{flag.name} is missing; {remedy}")
    return flag.value
