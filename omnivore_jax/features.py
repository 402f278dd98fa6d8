"""Extracts features: pooled, after the final norm, of length 1, the same space for all modalities.

    python -m omnivore_jax.features FILE|DIR... --weights=F --out=FILE.npz [--depth=F]
        [--mode=all|depth|rgb] [--views=4x3] [--stage=last] [--window=2s|64] [--step=1s|32]
        [--cameras=8] [--up=auto|y|z] [--unit=1]
    python -m omnivore_jax.features --dataset=NAME --weights=F --out=FILE.npz [--data_root=D]
        [--split=val] [--mode=...] [--views=...] [--stage=last]

--stage gives maps [t h w c] instead: last, or stageK and interimK of stage K, counted from 0. With
--window features are those of windows that slide over videos, in seconds or frames. Files are told
by their content, as in `predict`, meshes and point clouds too; NAME is a dataset that `prepare`
made, or demo_image, demo_video, demo_rgbd. FILE.npz holds feature [n c], ids, label, classes and
origin, FILE.parquet the same as a table: `retrieve` takes two of them. A pass over a dataset that
was killed goes on where it was. On several hosts give the same command to all, with --distributed,
or --coordinator, --num_processes and --process_id. For datasets beyond memory: `retrieve index`.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from absl import flags

from omnivore_jax.core import options
from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local, check_output, location
from omnivore_jax.core.types import Mode
from omnivore_jax.data.depth import BASELINES, Intrinsics
from omnivore_jax.inference import feature_set
from omnivore_jax.inference.feature_set import FeatureSet

WEIGHTS = options.weights()
OUT = flags.DEFINE_string("out", "", "The file of features, FILE.npz or FILE.parquet.")
DATASET = options.dataset()
DATA_ROOT = options.data_root()
SPLIT = options.split()
VIEWS = options.views()
MODE = options.mode()
STAGE = flags.DEFINE_string("stage", "", "Its maps instead of the pooled feature: last, ...")
DEPTH = options.depth()
FX = options.fx()
CAMERAS = options.cameras()
UP = options.up()
UNIT = options.unit()
WINDOW = flags.DEFINE_string("window", "", "Of videos: length of a window, 2s or 64 frames.")
STEP = flags.DEFINE_string("step", "", "From one window to the next; default: side by side.")
BATCH_SIZE = options.batch_size()
THREADS = options.threads()
CACHE = options.compile_cache()
DISTRIBUTED = options.distributed()


def main(argv: Sequence[str]) -> int:
    paths = [Path(path) for path in argv[1:]]
    _check_flags(paths)
    # seconds of imports that --help and mistakes need not wait for
    from omnivore_jax.core import compile_cache, dist
    from omnivore_jax.inference.trained import open_trained

    if options.is_shared(DISTRIBUTED):
        dist.initialize_from_flags()
    compile_cache.open_cache(CACHE.value)
    trained = open_trained(location(WEIGHTS.value, "--weights"))
    found, faults = _of_dataset(trained) if DATASET.value else _of_files(trained, paths)
    if not dist.is_primary():
        return 0
    feature_set.save(location(OUT.value, "--out"), found)
    count, *shape = found.feature.shape
    print(f"{OUT.value}: {count:,} features of {' x '.join(map(str, shape))} numbers")
    for name, why in faults:
        print(f"{name} cannot be read: {why}", file=sys.stderr)
    return 2 if faults else 0


def _of_files(trained, paths: Sequence[Path]) -> tuple[FeatureSet, list[tuple[Path, str]]]:
    from omnivore_jax.inference import extraction
    from omnivore_jax.inference.media import Finder
    from omnivore_jax.inference.scenes import Cameras, UpAxis
    from omnivore_jax.inference.windows import Sliding
    from omnivore_jax.ingest.meter import show_progress

    depth = Path(DEPTH.value) if DEPTH.value else None
    cameras = Cameras(CAMERAS.value, cast(UpAxis, UP.value), UNIT.value)
    media = Finder(depth, Intrinsics(FX.value, BASELINES["kv2"], 0.001), cameras).find(paths)
    for medium in media.items:
        if MODE.value == "depth" and medium.kind != "rgbd":
            raise UserError(f"--mode=depth: {medium.path} has no depth map; give --depth=FILE")
    if WINDOW.value:
        sliding = Sliding.parse(WINDOW.value, STEP.value)
        with show_progress(len(media.items), "videos") as advance:
            found, faults = extraction.along_videos(trained, media.items, sliding, advance)
        return found, [(medium.path, why) for medium, why in faults]
    look = extraction.Look(cast(Mode, MODE.value), VIEWS.value, STAGE.value)
    threads = THREADS.value or os.cpu_count() or 1
    with show_progress(len(media.items)) as advance:
        found, faults = extraction.of_media(trained, media.items, look, threads, advance)
    return found, [(medium.path, why) for medium, why in faults]


def _of_dataset(trained) -> tuple[FeatureSet, list[tuple[Path, str]]]:
    from omnivore_jax.inference import exam, extraction
    from omnivore_jax.inference.hall import Hall
    from omnivore_jax.ingest.meter import show_progress
    from omnivore_jax.train.mesh import MeshConfig, make_mesh

    request = exam.Request(
        DATASET.value,
        DATA_ROOT.value,
        SPLIT.value,
        views=VIEWS.value,
        mode=cast(Mode, MODE.value),
    )
    total = len(exam.open_split(trained, request)[0])
    with show_progress(total, "samples") as advance:
        hall = Hall(make_mesh(MeshConfig()), BATCH_SIZE.value, THREADS.value, advance)
        return extraction.of_dataset(trained, request, hall, STAGE.value), []


def _check_flags(paths: Sequence[Path]) -> None:
    options.require(WEIGHTS, "give a file of weights or the folder of a run")
    if bool(paths) == bool(DATASET.value):
        raise UserError("give files or --dataset=NAME, one of the two")
    if paths and options.is_shared(DISTRIBUTED):
        raise UserError("several processes share a dataset, not files; give --dataset=NAME")
    if WINDOW.value and (DATASET.value or VIEWS.value or STAGE.value or MODE.value != "all"):
        raise UserError(
            "--window is for files of videos; leave --dataset, --views, --stage and --mode out"
        )
    if STEP.value and not WINDOW.value:
        raise UserError(f"--step={STEP.value} without --window; give both")
    feature_set.check_output_name(Path(OUT.value))
    for flag in (WEIGHTS, DATA_ROOT):
        location(flag.value, f"--{flag.name}")
    check_local(DEPTH.value, "--depth")
    check_output(location(OUT.value, "--out"))


if __name__ == "__main__":
    run(main)
