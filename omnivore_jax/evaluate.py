"""Scores weights on a dataset: top-1, top-5, F1, confusion, calibration; mIoU of label maps.

    python -m omnivore_jax.evaluate --weights=F --dataset=NAME [--data_root=D] [--split=val]
        [--views=1x1|4x3|1x3|...] [--fuse=logits|probs] [--clip_length=L] [--head=H]
        [--mode=all|depth|rgb] [--json] [--report=FILE.html] [--predictions=FILE.csv|.parquet]
    python -m omnivore_jax.evaluate watch RUN --dataset=NAME [--once] [--interval=60]
    python -m omnivore_jax.evaluate sweep W [W2 ...] --dataset=NAME --out=FILE.json
        [--over=clip_length|mode|depth_scale] [--values=1,2,4] [--views=4x3] [--report=FILE.html]
    python -m omnivore_jax.evaluate mean A.json B.json [C.json ...]
    python -m omnivore_jax.evaluate compare A.json B.json [--groups=FILE.csv] [--json]
        [--report=FILE.html]

Weights are a file of ours, any file of PyTorch's that `convert` reads, or the folder of a run (its
best EMA). NAME is a dataset that `prepare` made in DATA_ROOT, or demo_image, demo_video, demo_rgbd,
demo_maps. Every sample is scored once, on all devices of this machine. How samples are seen is what
the weights' card says unless flags say otherwise, and is printed. Labels are matched to the head by
the names of the classes. A damaged record ends the evaluation and is named: no sample is replaced.
On several hosts give the same command to all, with --distributed, or --coordinator, --num_processes
and --process_id.

watch: scores every new checkpoint of a run, its EMA and the parameters themselves, a line each in
RUN/watch.jsonl, until Ctrl-C; with --once those that are there.

sweep: scores weights again and again with one thing changed, and draws all in one plot: the length
of clips as in Fig. 5 (they get shorter and as many more), RGB-D as RGB, depth or both, or depth
multiplied. What FILE.json holds is not scored again.

mean: the mean of every figure over evaluations, as UCF101 is reported over its three splits.

compare: A and B are what --json printed of two models; it gives the gain in F1 of every class and
of every group of classes (a table with the columns group and class), as Figs. 3, 6 and 7 do.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast, get_args

from absl import flags

from omnivore_jax.core import dist, options
from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_output, location
from omnivore_jax.core.types import Fusion, Mode

WEIGHTS = options.weights()
DATASET = options.dataset()
DATA_ROOT = options.data_root()
SPLIT = options.split()
HEAD = options.head()
VIEWS = options.views()
FUSE = flags.DEFINE_enum("fuse", None, get_args(Fusion), "What is averaged over views.")
CLIP_LENGTH = flags.DEFINE_integer("clip_length", 0, "Frames of a clip.", lower_bound=0)
MODE = options.mode()
BATCH_SIZE = options.batch_size()
THREADS = options.threads()
CACHE = options.compile_cache()
DISTRIBUTED = options.distributed()
JSON = options.json()
REPORT = options.report()
OVER = flags.DEFINE_enum(
    "over", "clip_length", ["clip_length", "mode", "depth_scale"], "sweep: what is changed."
)
VALUES = flags.DEFINE_list("values", [], "sweep: to what; default: usual ones.")
OUT = flags.DEFINE_string("out", "", "sweep: the file of figures, FILE.json.")
ONCE = flags.DEFINE_bool("once", False, "watch: end when all that is there is scored.")
INTERVAL = flags.DEFINE_float(
    "interval", 60.0, "watch: seconds between two looks for checkpoints.", lower_bound=1.0
)
GROUPS = flags.DEFINE_string("groups", "", "compare: a table with the columns group and class.")
PREDICTIONS = flags.DEFINE_string("predictions", "", "A table of all samples, .csv or .parquet.")


def main(argv: Sequence[str]) -> int:
    if argv[1:2] == ["compare"]:
        return compare(argv[2:])
    if argv[1:2] == ["mean"]:
        return mean(argv[2:])
    if argv[1:2] == ["sweep"]:
        return sweep(argv[2:])
    if argv[1:2] == ["watch"]:
        return watch(argv[2:])
    if len(argv) > 1:
        raise UserError(f"{argv[1]!r} is not a flag; flags begin with -- (see --help)")
    outputs = _check_flags()
    if options.is_shared(DISTRIBUTED):
        dist.initialize_from_flags()
    # seconds of imports that --help and mistakes need not wait for
    from omnivore_jax.core import compile_cache
    from omnivore_jax.inference import exam as exams
    from omnivore_jax.inference import paper, score_table
    from omnivore_jax.inference.hall import Hall
    from omnivore_jax.inference.trained import open_trained
    from omnivore_jax.ingest.meter import show_progress
    from omnivore_jax.train.mesh import MeshConfig, make_mesh

    compile_cache.open_cache(CACHE.value)
    trained = open_trained(location(WEIGHTS.value, "--weights"))
    exam = exams.prepare_exam(trained, _request())
    with show_progress(len(exam.samples), "samples") as advance:
        hall = Hall(make_mesh(MeshConfig()), BATCH_SIZE.value, THREADS.value, advance)
        done = exams.score(trained, exam, hall)
    if not dist.is_primary():
        return 0
    figures = score_table.figures(done)
    in21k = paper.trained_with_in21k(trained.model)
    lines, why = paper.compare(done, figures, trained.model.config.name, in21k)
    if lines:
        figures["paper"] = [line.json() for line in lines]
    elif why:
        figures["not_comparable"] = why
    if "predictions" in outputs:
        score_table.write_table(outputs["predictions"], done)
    if "report" in outputs:
        from omnivore_jax.reporting.score_page import write_evaluation

        write_evaluation(
            outputs["report"], WEIGHTS.value, exam.classes, done.result, figures, exam.samples.kind
        )
    if JSON.value:
        print(json.dumps(figures, indent=2))
        return 0
    print(_text(figures))
    for path in outputs.values():
        print(path)
    return 0


def _request() -> Any:
    from omnivore_jax.inference.exam import Request

    return Request(
        DATASET.value,
        DATA_ROOT.value,
        SPLIT.value,
        HEAD.value,
        VIEWS.value,
        cast(Fusion | None, FUSE.value),
        CLIP_LENGTH.value,
        cast(Mode, MODE.value),
    )


def watch(names: Sequence[str]) -> int:
    """Scores the checkpoints of a run, those that come later too."""
    if len(names) != 1:
        raise UserError(f"{len(names)} runs given; watch one: watch RUN --dataset=NAME")
    options.require(DATASET, "name one, --dataset=imagenet for example")
    run = location(names[0], "RUN")
    from omnivore_jax.core import compile_cache
    from omnivore_jax.inference.hall import Hall
    from omnivore_jax.inference.watch import score_new
    from omnivore_jax.train.mesh import MeshConfig, make_mesh

    compile_cache.open_cache(CACHE.value)
    hall = Hall(make_mesh(MeshConfig()), BATCH_SIZE.value, THREADS.value)
    while True:
        for row in score_new(run, _request(), hall):
            shown = {name: row[key] for name, key in NAMES.items() if key in row}
            figures = ", ".join(f"{name} {100 * value:.2f} %" for name, value in shown.items())
            kind = "EMA" if row["weights"] == "ema" else "raw"
            print(f"step {row['step']:,} {kind}: {figures}", flush=True)
        if ONCE.value:
            return 0
        time.sleep(INTERVAL.value)


def sweep(names: Sequence[str]) -> int:
    """Scores weights with one thing changed."""
    if not names:
        raise UserError("no weights given; sweep W [W2 ...] --dataset=NAME --out=FILE.json")
    options.require(DATASET, "name one, --dataset=kinetics400 for example")
    options.require(OUT, "name the file of figures, FILE.json")
    out = location(OUT.value, "--out")
    page = _page()
    for path in filter(None, (out, page)):
        check_output(path)
    from omnivore_jax.core import compile_cache
    from omnivore_jax.inference import sweep as sweeps
    from omnivore_jax.inference.hall import Hall
    from omnivore_jax.train.mesh import MeshConfig, make_mesh

    values = [value.strip() for value in VALUES.value]
    asked = sweeps.requests(OVER.value, values, _request())
    compile_cache.open_cache(CACHE.value)
    hall = Hall(make_mesh(MeshConfig()), BATCH_SIZE.value, THREADS.value)
    rows = []
    for row in sweeps.run_sweep(names, asked, hall, out):
        rows.append(row)
        if not JSON.value:
            share = 100 * row["miou" if "miou" in row else "top1"]
            print(f"{row['weights']}  {OVER.value} {row['value']:>6}  {share:6.2f} %", flush=True)
    if page is not None:
        from omnivore_jax.reporting.sweep_page import write_sweep

        write_sweep(page, DATASET.value, sweeps.AXES[OVER.value].title, rows)
    if JSON.value:
        print(json.dumps(rows, indent=2))
    return 0


def mean(names: Sequence[str]) -> int:
    """Averages the figures of several evaluations."""
    if len(names) < 2:
        raise UserError(f"{len(names)} files given; name two or more: mean A.json B.json")
    found = []
    for name in names:
        try:
            found.append(json.loads(Path(name).read_text()))
            if not isinstance(found[-1]["n"], int):
                raise ValueError("n is no number")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(f"{name} is not what evaluate --json printed ({error})") from error
    keys = [key for key in (*NAMES.values(), "loss") if all(key in figures for figures in found)]
    means = {key: sum(figures[key] for figures in found) / len(found) for key in keys}
    if JSON.value:
        print(json.dumps({"of": list(names), **means}, indent=2))
        return 0
    for name, key in NAMES.items():
        if key in means:
            each = ", ".join(f"{100 * figures[key]:.2f}" for figures in found)
            print(f"{name:<20} {100 * means[key]:6.2f} %  ({each})")
    return 0


def compare(names: Sequence[str]) -> int:
    """Compares two evaluations."""
    if len(names) != 2:
        raise UserError(f"{len(names)} files given; compare two: compare A.json B.json")
    page = _page()
    if page is not None:
        check_output(page)
    from omnivore_jax.inference import comparison

    groups = Path(GROUPS.value) if GROUPS.value else None
    figures = comparison.compare(Path(names[0]), Path(names[1]), groups).json()
    if page is not None:
        from omnivore_jax.reporting.comparison_page import write_comparison

        write_comparison(page, (names[0], names[1]), figures)
    if JSON.value:
        print(json.dumps(figures, indent=2))
        return 0
    first, second = figures["macro_f1"]
    print(
        f"{figures['dataset']}: {figures['better']} of {figures['classes']} classes better, "
        f"{figures['worse']} worse; macro F1 {100 * first:.2f} -> {100 * second:.2f} %"
    )
    gains = figures["group_gains"] or figures["class_gains"]
    for name in sorted(gains, key=lambda row: -gains[row]):
        print(f"  {100 * gains[name]:+6.2f}  {name}")
    if page is not None:
        print(page)
    return 0


def _page() -> Path | None:
    return location(REPORT.value, "--report") if REPORT.value else None


def _check_flags() -> dict[str, Path]:
    """Refuses what cannot be, before anything is loaded; gives the files to be written."""
    options.require(WEIGHTS, "give a file of weights or the folder of a run")
    options.require(DATASET, "name one, --dataset=imagenet for example")
    location(WEIGHTS.value, "--weights")
    location(DATA_ROOT.value, "--data_root")
    flag = {"report": REPORT.value, "predictions": PREDICTIONS.value}
    outputs = {name: location(value, f"--{name}") for name, value in flag.items() if value}
    for path in outputs.values():
        check_output(path)
    if "predictions" in outputs:
        from omnivore_jax.inference.score_table import check_table

        check_table(outputs["predictions"])
    return outputs


def _text(figures: dict[str, Any]) -> str:
    lines = [
        f"{figures['dataset']}: {figures['n']:,} samples, head {figures['head']}",
        f"  view {figures['view']}",
        *(
            f"  {name:<20} {100 * figures[key]:6.2f} %"
            for name, key in NAMES.items()
            if key in figures
        ),
        f"  {'loss':<20} {figures['loss']:6.4f}",
        *_beside_the_paper(figures),
    ]
    return "\n".join(lines)


def _beside_the_paper(figures: dict[str, Any]) -> list[str]:
    if "not_comparable" in figures:
        return [f"  not comparable: {figures['not_comparable']}"]
    rows = figures.get("paper", [])
    names = {key: name for name, key in NAMES.items()}
    lines = ["  paper / ours / difference"] if rows else []
    for row in rows:
        what = f"Table {row['table']}, {names[row['figure']]}"
        shown = f"{row['paper']:.1f} / {row['ours']:.2f} / {row['difference']:+.2f}"
        lines.append(f"  {what:<20} {shown}")
    return lines


NAMES = {
    "top-1": "top1",
    "top-5": "top5",
    "verb top-1": "verb_top1",
    "noun top-1": "noun_top1",
    "mIoU": "miou",
    "pixel accuracy": "pixel_accuracy",
    "mean over classes": "mean_class_accuracy",
    "macro F1": "macro_f1",
    "calibration error": "calibration_error",
}

if __name__ == "__main__":
    run(main)
