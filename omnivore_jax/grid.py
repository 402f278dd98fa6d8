"""Trains one config with every combination of some values and says which does best.

    python -m omnivore_jax.grid optimizer.peak=0.01,0.02,0.04 model.drop_path=0.1,0.3
        --config=configs/transfer.py:pets --workdir=runs/grid-pets [--shard=i/n] [--json]
        [--flags=--config.train.steps=100]

Every combination is a run in WORKDIR with a process of its own. The same command goes on where it
was stopped. --shard takes every n-th run from the i-th on, for an array of jobs
(launch/grid_slurm.sbatch); without it, or when all runs are there, the winner is printed and
WORKDIR/grid.html draws all scores.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from omnivore_jax.core import options
from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local

CONFIG = flags.DEFINE_string("config", "", "The config of all runs, FILE.py[:ARGUMENT].")
WORKDIR = flags.DEFINE_string("workdir", "", "Folder of the runs.")
FLAGS = flags.DEFINE_multi_string("flags", [], "A flag that every run is given; may be repeated.")
SHARD = flags.DEFINE_string("shard", "0/1", "i/n: every n-th run from the i-th on.")
JSON = options.json()


def main(argv: Sequence[str]) -> int:
    if not CONFIG.value:
        raise UserError("--config is missing; name one, --config=configs/transfer.py:pets")
    if not WORKDIR.value:
        raise UserError("--workdir is missing; name a folder for the runs, --workdir=runs/grid")
    check_local(WORKDIR.value, "--workdir")
    if not Path(CONFIG.value.partition(":")[0]).is_file():
        raise UserError(f"--config={CONFIG.value}: there is no such file")
    # a second of imports that --help and mistakes need not wait for
    from omnivore_jax.experiment import combinations as grid

    points, workdir = grid.points(argv[1:]), Path(WORKDIR.value)
    index, count = _shard()
    own = points[index::count]
    done = list(grid.run_points(CONFIG.value, own, workdir, FLAGS.value))
    stopped = next((o.code for o in done if o.code in grid.STOPPED or o.code < 0), 0)
    if stopped:
        return stopped if stopped > 0 else 128 - stopped
    outcomes = [grid.Outcome(point, grid.read_scores(workdir / point.name)) for point in points]
    figures = grid.figures(outcomes)
    if any(outcome.scores for outcome in outcomes):
        from omnivore_jax.reporting.grid_page import write_grid

        write_grid(workdir / "grid.html", CONFIG.value, figures)
    print(json.dumps(figures, indent=2) if JSON.value else _text(figures, workdir))
    failed = [outcome.point.name for outcome in done if outcome.code]
    if failed:
        raise UserError(f"{len(failed)} runs failed, the first is {workdir / failed[0]}; see above")
    return 0


def _shard() -> tuple[int, int]:
    index, _, count = SHARD.value.partition("/")
    if not (index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UserError(f"--shard={SHARD.value}; use i/n with i from 0 to n - 1, for example 0/4")
    return int(index), int(count)


def _text(figures: dict, workdir: Path) -> str:
    lines = []
    for row in figures["points"]:
        values = ", ".join(f"{key}={value}" for key, value in row["values"].items())
        score = "not ended" if row["score"] is None else f"{100 * row['score']:.2f} %"
        best = "  best" if row["values"] == figures["winner"] else ""
        lines.append(f"{score:>10}  {values}{best}")
    return "\n".join([*lines, str(workdir / "grid.html")])


if __name__ == "__main__":
    run(main)
