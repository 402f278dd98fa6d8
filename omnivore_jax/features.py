"""Extracts features: pooled, after the final norm, of length 1, the same space for all modalities.

    python -m omnivore_jax.features FILE|DIR... --weights=F --out=FILE.npz [--depth=F]
        [--mode=all|depth|rgb] [--views=4x3] [--window=2s|64] [--step=1s|32]
        [--cameras=8] [--up=auto|y|z] [--unit=1]
    python -m omnivore_jax.features --dataset=NAME --weights=F --out=FILE.npz [--data_root=D]
        [--split=val] [--mode=...] [--views=...]

With --window features are those of windows that slide over videos, in seconds or frames.
Files are told by their content, as in `predict`, meshes and point clouds too; NAME is a dataset
that `prepare` made, or demo_image, demo_video, demo_rgbd. FILE.npz holds feature [n c], ids, label,
classes and origin: `retrieve` takes two of them.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args

from absl import flags

from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local, check_output
from omnivore_jax.core.types import Mode
from omnivore_jax.data.depth import BASELINES, Intrinsics

if TYPE_CHECKING:
    from omnivore_jax.inference.feature_set import FeatureSet

WEIGHTS = flags.DEFINE_string("weights", "", "A file of weights, or the folder of a run.")
OUT = flags.DEFINE_string("out", "", "The file of features, FILE.npz.")
DATASET = flags.DEFINE_string("dataset", "", "Name of a dataset, instead of files.")
DATA_ROOT = flags.DEFINE_string(
    "data_root", "", "Where datasets lie; default: $OMNIVORE_DATA, else data/."
)
SPLIT = flags.DEFINE_string("split", "val", "The split of the dataset.")
VIEWS = flags.DEFINE_string(
    "views", "", "Views of a clip: 1x1, 4x3, 1x3, ...; default: the card's."
)
MODE = flags.DEFINE_enum("mode", "all", get_args(Mode), "What of RGB-D the model sees.")
DEPTH = flags.DEFINE_string("depth", "", "The depth map of the picture, a 16-bit grey PNG.")
FX = flags.DEFINE_float("fx", 0.0, "Focal length in pixels of the depth map.", lower_bound=0.0)
CAMERAS = flags.DEFINE_integer(
    "cameras", 8, "Of a scene: around it, at equal angles.", lower_bound=1
)
UP = flags.DEFINE_enum("up", "auto", ("auto", "y", "z"), "Of a scene: its axis that points up.")
UNIT = flags.DEFINE_float("unit", 1.0, "Of a scene: metres in one unit of it.", lower_bound=1e-9)
WINDOW = flags.DEFINE_string("window", "", "Of videos: length of a window, 2s or 64 frames.")
STEP = flags.DEFINE_string("step", "", "From one window to the next; default: side by side.")
BATCH_SIZE = flags.DEFINE_integer(
    "batch_size", 0, "Samples of a dataset at once; 0: by their frames.", lower_bound=0
)
THREADS = flags.DEFINE_integer(
    "threads", os.cpu_count() or 1, "Files that are read at once.", lower_bound=1
)
CACHE = flags.DEFINE_string("compile_cache", "", "Folder of compiled programs, or off.")


def main(argv: Sequence[str]) -> int:
    paths = [Path(path) for path in argv[1:]]
    _check_flags(paths)
    # seconds of imports that --help and mistakes need not wait for
    from omnivore_jax.core import compile_cache
    from omnivore_jax.inference import feature_set
    from omnivore_jax.inference.trained import open_trained

    compile_cache.open_cache(CACHE.value)
    trained = open_trained(Path(WEIGHTS.value))
    found, faults = _of_dataset(trained) if DATASET.value else _of_files(trained, paths)
    feature_set.save(Path(OUT.value), found)
    count, width = found.feature.shape
    print(f"{OUT.value}: {count:,} features of {width} numbers")
    for name, why in faults:
        print(f"{name} cannot be read: {why}", file=sys.stderr)
    return 2 if faults else 0


def _of_files(trained, paths: Sequence[Path]) -> "tuple[FeatureSet, list[tuple[Path, str]]]":
    from omnivore_jax.inference import feature_set
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
    mode = cast(Mode, MODE.value)
    if WINDOW.value:
        sliding = Sliding.parse(WINDOW.value, STEP.value)
        with show_progress(len(media.items), "videos") as advance:
            found, faults = feature_set.along_videos(trained, media.items, sliding, advance)
        return found, [(medium.path, why) for medium, why in faults]
    with show_progress(len(media.items)) as advance:
        found, faults = feature_set.of_media(
            trained, media.items, mode, VIEWS.value, THREADS.value, advance
        )
    return found, [(medium.path, why) for medium, why in faults]


def _of_dataset(trained) -> "tuple[FeatureSet, list[tuple[Path, str]]]":
    from omnivore_jax.inference import exam, feature_set
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
        hall = exam.Hall(make_mesh(MeshConfig()), BATCH_SIZE.value, THREADS.value, advance)
        return feature_set.of_dataset(trained, request, hall), []


def _check_flags(paths: Sequence[Path]) -> None:
    if not WEIGHTS.value:
        raise UserError("--weights is missing; give a file of weights or the folder of a run")
    if bool(paths) == bool(DATASET.value):
        raise UserError("give files or --dataset=NAME, one of the two")
    if WINDOW.value and (DATASET.value or VIEWS.value or MODE.value != "all"):
        raise UserError("--window is for files of videos; leave --dataset, --views and --mode out")
    if STEP.value and not WINDOW.value:
        raise UserError(f"--step={STEP.value} without --window; give both")
    if not OUT.value.endswith(".npz"):
        raise UserError(f"--out={OUT.value}; name a file that ends in .npz")
    for flag in (WEIGHTS, DATA_ROOT, DEPTH):
        check_local(flag.value, f"--{flag.name}")
    check_output(Path(OUT.value))


if __name__ == "__main__":
    run(main)
