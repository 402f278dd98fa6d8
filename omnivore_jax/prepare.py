"""Turns folders of your own files, or a published dataset, into a dataset to train from.

    python -m omnivore_jax.prepare folder --src=DIR --out=DIR [--val=0.1]
        [--kind=auto|image|video|rgbd] [--short_side=256] [--shard=i/n]
    python -m omnivore_jax.prepare DATASET --src=DIR --out=DIR [--short_side=256] [--shard=i/n]
    python -m omnivore_jax.prepare manifest --src=TABLE --out=DIR [--val=0.1] [--kind=...]
    python -m omnivore_jax.prepare verify --out=DIR [--deep]
    python -m omnivore_jax.prepare timeline --src=FILE.mp4
    python -m omnivore_jax.prepare preview --out=DIR [--preview=FILE.html]
    python -m omnivore_jax.prepare demo_files [--out=demo_files]

`folder` reads SRC/CLASS/... (or SRC/train/CLASS/... and SRC/val/CLASS/..., or valid, test, ...):
pictures (JPEG, PNG), clips (what PyAV opens), or pictures with 16-bit depth maps (NAME.jpg beside
NAME.depth.png).
DATASET reads a published dataset as it is downloaded:

    imagenet      ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and the devkit, or unpacked
    imagenet21k   nXXXXXXXX.tar or nXXXXXXXX/, or fall11_whole.tar; no validation split: --val
    inat2018      train2018.json, val2018.json, train_val2018/
    pets          images/, annotations/
    places365     the lists of Places365-Standard, data_large/ and val_large/ (or 256)
    sunrgbd       SUNRGBD/ and SUNRGBDtoolbox/
    nyu_scenes    nyu_depth_v2_labeled.mat and splits.mat
    kinetics400   class folders, the lists of the release, or train.csv and val.csv; so kinetics600
    ssv2          20bn-something-something-v2/ and its JSON lists
    epic100       EPIC_100_{train,validation}.csv and the videos, of which spans are cut out
    ucf101        UCF-101/ and ucfTrainTestlist/, split --fold

`manifest` reads a CSV or Parquet table of your own files: path, label[, split][, depth[, fx,
baseline]][, start, end]. All layouts are in docs/data.md. Files are stored as they are, or smaller
with --short_side: clips as H.264 with a key frame every 12 frames, which are decoded fast at any
place; --inpaint fills the holes of depth maps; --depth=DIR adds predicted maps to pictures of any
layout, which become RGB-D. Files that cannot be read are left out and listed in
OUT/bad_files.jsonl, those that a list names and that are not there in OUT/missing_files.jsonl.
Stopped, it goes on where it was when started again; on several machines give each its --shard
(0/4, 1/4, ...), for example by
launch/prepare_slurm.sbatch. `verify` checks every byte again, the labels, and that no file is in
two splits; --deep decodes every record too. `timeline` prints which frames of a video every
protocol takes, one line per clip. `preview` draws samples on a page, as stored and as transformed;
--preview=FILE.html does after any prepare. `demo_files` writes pictures, clips and RGB-D of the
demo as files, to try `predict` on.
"""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast, get_args

from absl import flags

from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local
from omnivore_jax.data import manifest, timeline
from omnivore_jax.data.decode import Clip, DecodeError, sniff
from omnivore_jax.data.depth import BASELINES, Intrinsics
from omnivore_jax.data.manifest import KINDS
from omnivore_jax.ingest import preparation
from omnivore_jax.ingest.faults import find_record_faults, find_row_faults
from omnivore_jax.ingest.layouts.base import Convention, LayoutOptions
from omnivore_jax.ingest.layouts.official import differences
from omnivore_jax.ingest.layouts.predicted import Meaning, Predictions
from omnivore_jax.ingest.layouts.table import LAYOUTS
from omnivore_jax.ingest.meter import show_progress
from omnivore_jax.ingest.overview import class_table, figures, sentences
from omnivore_jax.ingest.preparation import Work
from omnivore_jax.ingest.verify import check_shards

SMALLEST = 16
"""Pixels of a short side that video encoders take."""
WITH_DEPTH = ("sunrgbd", "nyu_scenes")
"""Layouts whose depth can be read in two ways."""
MAX_FAULTS = 100
"""Faults that `verify` says one by one."""


def _flag(default: Any, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True)
class Options:
    """What `prepare` is asked for; each field is the flag of its name."""

    src: str = _flag("", "Folder of the class folders or of the download.")
    out: str = _flag("", "Folder of the prepared dataset: DATA_ROOT/NAME.")
    kind: str = _flag("auto", "What the files are.", enum_values=["auto", *KINDS])
    val: float = _flag(
        0.0,
        "Share of every class that becomes the validation split.",
        lower_bound=0.0,
        upper_bound=0.9,
    )
    short_side: int = _flag(
        0,
        "Pixels at which pictures and clips are encoded again, if larger; 0: as they are.",
        lower_bound=0,
    )
    max_missing: float = _flag(
        0.2,
        "Share of the samples in the lists of a download whose files may be missing.",
        lower_bound=0.0,
        upper_bound=1.0,
    )
    fold: int = _flag(1, "Split of UCF101.", lower_bound=1, upper_bound=3)
    shard: str = _flag("0/1", "i/n: make every n-th shard from the i-th on (0 to n - 1).")
    rows: int = _flag(0, "Samples of a shard; 0: by kind and number of samples.", lower_bound=0)
    threads: int = _flag(os.cpu_count() or 1, "Files that are read at once.", lower_bound=1)
    fx: float = _flag(
        0.0, "Focal length in pixels of the depth maps, where no file says it.", lower_bound=0.0
    )
    baseline: float = _flag(
        BASELINES["kv2"], "Metres between the eyes of the depth sensor.", lower_bound=0.0
    )
    depth_scale: float = _flag(
        0.001,
        "Metres in one unit of the depth maps; --depth: what whole numbers are multiplied by.",
        lower_bound=0.0,
    )
    depth_convention: str = _flag(
        "auto",
        "What depth is in SUN RGB-D and NYU: released (8 times the metres, auto) or metric.",
        enum_values=["auto", *get_args(Convention)],
    )
    depth: str = _flag("", "Folder of predicted depth maps, named as the pictures.")
    depth_kind: str = _flag(
        "auto",
        "What predicted maps hold: disparity as the model takes it (auto), inverse (1 / metres) or "
        "metres.",
        enum_values=["auto", *get_args(Meaning)],
    )
    raw_depth: bool = _flag(False, "Take depth as the sensor gave it: SUN RGB-D, NYU.")
    inpaint: bool = _flag(False, "Fill the holes (0) of depth maps before they are stored.")
    depth_rotated: bool = _flag(False, "Rotate the bits back: SUN RGB-D in true metres.")
    deep: bool = _flag(False, "verify: decode every record, every frame of a clip.")
    preview: str = _flag("", "Page of samples to draw; preview: OUT/preview.html by default.")
    overwrite: bool = _flag(False, "Replace another dataset in --out.")
    json: bool = _flag(False, "Print the summary as JSON.")


def define_flags() -> None:
    define: dict[Any, Callable[..., Any]] = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
    }
    for option in fields(Options):
        choice = "enum_values" in option.metadata
        add: Callable[..., Any] = flags.DEFINE_enum if choice else define[type(option.default)]
        add(option.name, option.default, **option.metadata)


def main(argv: Sequence[str]) -> None:
    names = [*LAYOUTS, *COMMANDS]
    if len(argv) != 2 or argv[1] not in names:
        asked = " ".join(argv[1:]) or "nothing"
        uses = ", ".join(LAYOUTS)
        raise UserError(
            f"cannot prepare {asked}; use one of {uses}, with --src=DIR --out=DIR, or: verify "
            "--out=DIR, timeline --src=FILE, preview --out=DIR"
        )
    options = Options(
        **{option.name: getattr(flags.FLAGS, option.name) for option in fields(Options)}
    )
    try:
        if argv[1] in COMMANDS:
            COMMANDS[argv[1]](options)
        else:
            prepare(argv[1], options)
    except OSError as error:
        raise UserError(
            f"{error.filename or options.out}: {error.strerror or error}; make room or mend the "
            "permissions, then run the same command again"
        ) from error


def verify(options: Options) -> None:
    """Looks for all that is wrong with a prepared dataset, and says it line by line.

    Raises:
        UserError: faults were found; the last line counts them.

    """
    folder = Path(_folder(options, "out"))
    whole = manifest.read(folder)
    counts = {split: whole.count(split) for split in whole.splits}
    faults: list[str] = []
    try:
        check_shards(folder)
    except UserError as error:
        faults += error.args
    faults += find_row_faults(folder, whole)
    if options.deep:
        with show_progress(sum(counts.values())) as advance:
            faults += find_record_faults(folder, whole, options.threads, advance)
    layout = (str(whole.origin.get("by", "")).split(" ") + [""])[1]
    said = differences(layout, len(whole.classes), counts)
    if options.json:
        print(json.dumps({"ok": not faults, "splits": counts, "official": said, "faults": faults}))
    else:
        print("\n".join([f"{folder} holds {counts}", *said]))
    if faults:
        more = [f"... and {len(faults) - MAX_FAULTS} more"] if len(faults) > MAX_FAULTS else []
        count = f"{folder} has {len(faults)} faults; see the lines above"
        raise UserError(*faults[:MAX_FAULTS], *more, count)
    if not options.json:
        print(f"{folder} is whole")


def show_timeline(options: Options) -> None:
    """Prints which frames of a video every protocol takes.

    Raises:
        UserError: the file is not there, or it is no video.

    """
    path = Path(_folder(options, "src"))
    try:
        data = path.read_bytes()
        if sniff(data) == "still":
            raise DecodeError("it is a still picture")
        times = Clip(data).times
    except OSError as error:
        raise UserError(
            f"--src={path}: {error.strerror or error}; give the file of a video"
        ) from error
    except DecodeError as error:
        raise UserError(f"--src={path}: {error}; give the file of a video") from error
    print(timeline.text(timeline.timeline(times)))


def preview(options: Options) -> None:
    """Draws a page of what a prepared dataset holds and what becomes of its samples.

    Raises:
        UserError: there is no such dataset, or the disk does not take the page.

    """
    from omnivore_jax.reporting.preview import write_preview

    folder = Path(_folder(options, "out"))
    path = _page(options, folder)
    write_preview(folder, path)
    if not options.json:
        print(f"{path} shows samples of {folder}")


def prepare(layout: str, options: Options) -> None:
    """Makes the shards of this machine, and the manifest if all shards are there."""
    source, out = Path(_folder(options, "src")), Path(_folder(options, "out"))
    _page(options, out)  # a fault is said before hours of preparing, not after
    began = time.monotonic()
    work = Work(
        _machine(options.shard),
        options.rows,
        options.threads,
        options.overwrite,
        _even(options.short_side),
        options.inpaint,
        _predictions(options),
    )
    depth = Intrinsics(options.fx, options.baseline, options.depth_scale, options.depth_rotated)
    convention = options.depth_convention
    wishes = LayoutOptions(
        kind=options.kind,
        val=options.val,
        intrinsics=depth,
        max_missing=options.max_missing,
        fold=options.fold,
        convention=None if convention == "auto" else cast(Convention, convention),
        raw_depth=options.raw_depth,
    )
    _check_depth(layout, options)
    result = preparation.prepare(layout, source, out, wishes, work, show_progress)
    sums = figures(out, result)
    said: list[str] = []
    if not sums["shards_missing"]:
        said = differences(layout, sums["classes"], sums["splits"])
    summary = sums | {"seconds": round(time.monotonic() - began, 1)}
    if options.json:
        print(json.dumps(summary | {"official": said}))
    else:
        _tell(summary, said, result)
    if options.preview and not sums["shards_missing"]:
        preview(options)


def _tell(summary: Mapping[str, Any], said: Sequence[str], result: preparation.Preparation) -> None:
    from rich.console import Console

    Console(highlight=False).print(class_table(result))
    print("\n".join([*sentences(summary, result), *said]))


def demo_files(options: Options) -> None:
    """Writes samples of the demo as files, and says where."""
    from omnivore_jax.ingest.demo_files import write_demo_files

    folder = Path(options.out or "demo_files")
    check_local(folder, "--out")
    print(f"{len(write_demo_files(folder))} samples in {folder}")


COMMANDS: Mapping[str, Callable[[Options], None]] = {
    "verify": verify,
    "timeline": show_timeline,
    "preview": preview,
    "demo_files": demo_files,
}
"""What is asked of a prepared dataset or of a file, beside the layouts."""


def _predictions(options: Options) -> Predictions | None:
    meaning = options.depth_kind
    if not options.depth:
        if meaning != "auto":
            raise UserError(f"--depth_kind={meaning} without --depth; give --depth=DIR of the maps")
        return None
    check_local(options.depth, "--depth")
    return Predictions(
        Path(options.depth), "disparity" if meaning == "auto" else cast(Meaning, meaning)
    )


def _check_depth(layout: str, options: Options) -> None:
    """Refuses flags that say something about depth to a layout that does not ask."""
    asks = layout in WITH_DEPTH
    for key in ("depth_convention", "raw_depth") if not asks else ("depth_rotated", "fx"):
        default = Options.__dataclass_fields__[key].default
        if getattr(options, key) != default:
            instead = "give --depth_convention" if asks else f"it is for {', '.join(WITH_DEPTH)}"
            raise UserError(
                f"--{key}={getattr(options, key)} means nothing for {layout}; {instead}"
            )


def _folder(options: Options, key: str) -> str:
    if not getattr(options, key):
        whose = {
            "src": "that holds the class folders or the download",
            "out": "of the prepared dataset",
        }
        raise UserError(f"--{key} is missing; give the folder {whose[key]}")
    check_local(getattr(options, key), f"--{key}")
    return getattr(options, key)


def _page(options: Options, folder: Path) -> Path:
    check_local(options.preview, "--preview")
    path = Path(options.preview or folder / "preview.html")
    if path.is_dir():
        raise UserError(f"--preview={path} is a folder; name a file in it")
    return path


def _machine(text: str) -> tuple[int, int]:
    index, _, machines = text.partition("/")
    if not (index.isdigit() and machines.isdigit() and int(index) < int(machines)):
        raise UserError(f"--shard={text}; use i/n with i from 0 to n - 1, for example 0/4")
    return int(index), int(machines)


def _even(short_side: int) -> int:
    if short_side and (short_side % 2 or short_side < SMALLEST):
        raise UserError(
            f"--short_side={short_side}; give an even number from {SMALLEST} on, for example 256, "
            "or 0 to store files as they are"
        )
    return short_side


if __name__ == "__main__":
    define_flags()
    run(main)
