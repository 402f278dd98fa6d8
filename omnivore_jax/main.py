"""Trains, evaluates, or says what would run.

`python -m omnivore_jax.main --config=configs/swin_l.py`.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags

from omnivore_jax.core import command, config_file, dist
from omnivore_jax.core.buckets import check_run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import location

CONFIG = config_file.define_flag()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; runs/NAME by default.")
MODES = ["train", "eval", "dry", "compile"]
MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do with it.")
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "Machine that --mode=compile compiles for, v5e:4x4 for example."
)
SEARCH = flags.DEFINE_boolean(
    "search", False, "With --mode=compile: find the largest micro-batches that fit."
)
JSON = flags.DEFINE_boolean("json", False, "Print figures as JSON.")
ALLOW = flags.DEFINE_boolean(
    "allow_config_change", False, "Go on with a run although its config has changed."
)
ONLY = flags.DEFINE_string(
    "only", "", "With --mode=compile: a part of the names of the programs to compile, train say."
)
dist.define_flags()


def main(argv: Sequence[str]) -> int:
    if len(argv) > 1:
        raise UserError(f"{argv[1]!r} is not a flag; flags begin with -- (see --help)")
    config = _config()
    workdir = location(WORKDIR.value or Path("runs") / config["name"], "--workdir")
    check_run(workdir)
    for flag in (TOPOLOGY, SEARCH, ONLY):
        if flag.value and MODE.value != "compile":
            raise UserError(f"--{flag.name} goes with --mode=compile")
    if MODE.value == "dry":
        from omnivore_jax.experiment import dry

        plan = dry.plan(config)
        print(json.dumps(plan, indent=2) if JSON.value else dry.render(plan))
        return 0
    if MODE.value == "compile":
        return _compile(config)
    from omnivore_jax.experiment import run

    try:
        source = config_flags.get_config_filename(flags.FLAGS["config"])
        options = {"evaluate_only": MODE.value == "eval", "allow_config_change": ALLOW.value}
        figures = run.run(config, workdir, source, **options)
    except run.Stopped as stop:
        if dist.is_primary():  # all hosts stop as one
            print(stop, file=sys.stderr)
        return stop.code
    if dist.is_primary():
        print(json.dumps(figures.json(), indent=2) if JSON.value else figures.text())
    return 0


def _compile(config: dict[str, Any]) -> int:
    from omnivore_jax.experiment import fits

    if TOPOLOGY.value is None:
        raise UserError("--topology is missing; name a machine, --topology=v5e:4x4 for example")
    report = fits.examine(config, TOPOLOGY.value, search=SEARCH.value, only=ONLY.value)
    print(json.dumps(report, indent=2) if JSON.value else fits.render(report), flush=True)
    if report["mistakes"]:
        raise UserError(*report["mistakes"])
    return 0


def _config() -> dict[str, Any]:
    """The config with the changes of the command line."""
    if CONFIG.value is None:
        raise UserError("--config is missing; name one, --config=configs/demo.py for example")
    return CONFIG.value.to_dict()


if __name__ == "__main__":
    command.run(main)
