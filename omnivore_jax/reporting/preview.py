"""A page of a prepared dataset: what it holds, and what the host makes of some of its samples."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from omnivore_jax.core.files import write_text
from omnivore_jax.core.types import DISPARITY_MAX, Kind
from omnivore_jax.data import manifest
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import PUBLIC
from omnivore_jax.data.decode import Clip, DecodeError, decode_image, decode_label_map
from omnivore_jax.data.manifest import Manifest
from omnivore_jax.data.records import Record, RecordReader
from omnivore_jax.data.sample import BadRecord, Sample
from omnivore_jax.data.stills import decode_rgbd, label_map_of, naming
from omnivore_jax.data.timeline import Row, row_of, rows_of
from omnivore_jax.data.transforms import EvalTransform, TrainTransform
from omnivore_jax.reporting import label_maps, render, sheets

SPLITS: Mapping[str, str] = {"train": "Training", "val": "Validation"}
SAMPLES = 8
"""Of a split, evenly spread."""
SEEDS = (0, 1)
"""Of the training transform."""
RECIPES: Mapping[Kind, str] = {"image": "imagenet", "video": "kinetics400", "rgbd": "sunrgbd"}
"""Whose recipe stands for that of a dataset which the paper does not have."""

MAX_CLASSES = 100
"""More are counted, not listed."""


class Picture(NamedTuple):
    """A picture, or some frames of a clip, small."""

    title: str
    frames: UInt8[np.ndarray, "t h w 3"]
    depth: UInt8[np.ndarray, "t h w 3"] | None = None
    """Disparity in false colours."""
    seconds: tuple[float, ...] = ()
    """At which the frames of a clip are shown."""
    labels: UInt8[np.ndarray, "t h w 3"] | None = None
    """A label map in colours."""
    span: str = ""
    """The smallest and the largest disparity, in words."""


@dataclass(frozen=True)
class Preview:
    """A sample as it is stored, after the transforms, and the frames they take; or its fault."""

    id: str
    label: int = -1
    name: str = ""
    facts: str = ""
    """Size, and how long a clip is."""
    pictures: tuple[Picture, ...] = ()
    rows: tuple[Row, ...] = ()
    times: Float[np.ndarray, " n"] | None = None
    """Of all frames of a clip."""
    fault: str = ""


@dataclass(frozen=True)
class _Host:
    """The transforms of a recipe."""

    train: TrainTransform
    evaluation: EvalTransform


def write_preview(folder: Path, path: Path) -> None:
    """Draws the page of a prepared dataset.

    Raises:
        UserError: it is not there or a shard is damaged, or the disk does not take the page.

    """
    content = manifest.read(folder)
    recipe, config = recipe_of(content)
    protocol = config.protocol(DISPARITY_MAX)
    host = _Host(TrainTransform(config, DISPARITY_MAX), EvalTransform(config.kind, protocol))
    parts = {
        title: list(_previews(folder, content, split, host))
        for split, title in SPLITS.items()
        if content.count(split)
    }
    page = (
        render.environment()
        .get_template("preview.html")
        .render(
            title=printable(folder.resolve().name),
            content=content,
            classes=[printable(name) for name in content.classes[:MAX_CLASSES]],
            origin={printable(str(key)): printable(str(v)) for key, v in content.origin.items()},
            counts={printable(split): content.count(split) for split in content.splits},
            kinds=render.KINDS,
            recipe=recipe,
            protocol=protocol.describe(),
            parts=parts,
            most=sheets.FRAMES["samples"],
        )
    )
    write_text(path, page)


def recipe_of(content: Manifest) -> tuple[str, DatasetConfig]:
    """Names the dataset of the paper whose recipe is shown, and what the recipe says."""
    layout = (str(content.origin.get("by", "")).split(" ") + [""])[1]
    own = layout in PUBLIC and PUBLIC[layout].kind == content.kind
    usual = "nyu_seg" if content.labels == "map" else RECIPES[content.kind]
    name = layout if own else usual
    return name, PUBLIC[name].config(kind=content.kind)


def printable(text: str) -> str:
    """Writes the bytes of a file name that are no text as escapes."""
    return text.encode(errors="backslashreplace").decode()


def _previews(folder: Path, content: Manifest, split: str, host: _Host) -> Iterator[Preview]:
    manifest.check_files(folder, content, split)
    reader = RecordReader(folder, content.splits[split])
    for index in sheets.places(len(reader), SAMPLES).tolist():
        try:
            yield _preview(reader[index], content, host)
        except BadRecord as error:
            yield Preview(printable(error.id), fault=printable(error.reason))


def _preview(record: Record, content: Manifest, host: _Host) -> Preview:
    _check_labels(record, len(content.classes))
    try:
        times = Clip(record.media).times if content.kind == "video" else None
        stored = _stored(record, content.kind)
    except DecodeError as error:
        raise BadRecord(record.id, str(error)) from error
    rows = () if times is None else tuple(_rows(times, host))
    samples = [host.train(record, seed) for seed in SEEDS] + [host.evaluation(record)]
    titles = [f"training, seed {seed}" for seed in SEEDS] + ["evaluation"]
    made = [
        _made(title, sample, None if times is None else times[rows[k].frames])
        for k, (title, sample) in enumerate(zip(titles, samples, strict=True))
    ]
    name = content.classes[record.label]
    if record.label_map is not None:
        name = label_maps.caption(decode_label_map(record.label_map), content.classes)
    facts = _facts(record, times)
    return Preview(
        printable(record.id), record.label, printable(name), facts, (stored, *made), rows, times
    )


def _check_labels(record: Record, classes: int) -> None:
    """Raises BadRecord for a label that is no class."""
    highest = record.label
    if record.label_map is not None:
        with naming(record):
            highest = max(label_maps.largest(decode_label_map(record.label_map), 255), default=0)
    if not 0 <= highest < classes:
        raise BadRecord(record.id, f"label {highest}, but there are {classes} classes")


def _facts(record: Record, times: Float[np.ndarray, " n"] | None) -> str:
    """Size of a picture, and of a clip how many frames it has in how long."""
    if times is None:
        height, width = decode_image(record.media, upright=record.depth is None).shape[:2]
        return f"{width} x {height}"
    height, width = Clip(record.media).frames([0])[0].shape[:2]
    return f"{width} x {height}, {len(times)} frames, {times[-1] - times[0]:.2f} s"


def _rows(times: Float[np.ndarray, " n"], host: _Host) -> Iterator[Row]:
    """Lists the frames of each picture, then those of the views of the last evaluation."""
    for seed in SEEDS:
        frames = host.train.draw_frames(times, np.random.default_rng(seed))
        yield row_of(times, f"training, seed {seed}", 0, frames)
    yield from rows_of(times, "evaluation", host.evaluation.protocol)
    config = host.train.config
    if config.views:
        yield from rows_of(times, config.views, config.last_protocol(DISPARITY_MAX))


def _stored(record: Record, kind: Kind) -> Picture:
    if kind == "video":
        clip = Clip(record.media)
        chosen = sheets.places(len(clip), sheets.FRAMES["samples"])
        frames = clip.frames(chosen, each=lambda f: sheets.thumbnails(f[None, None])[0, 0])
        return Picture("stored", frames, seconds=tuple(clip.times[chosen].tolist()))
    if kind == "rgbd":
        rgb, disparity = decode_rgbd(record)
        disparity = np.minimum(disparity, DISPARITY_MAX)[None, ..., None]
        return _picture("stored", rgb[None], disparity, label_map_of(record, rgb))
    rgb = decode_image(record.media, upright=record.label_map is None)
    return _picture("stored", rgb[None], None, label_map_of(record, rgb))


def _made(title: str, sample: Sample, seconds: Float[np.ndarray, " t"] | None) -> Picture:
    labels = None if isinstance(sample.label, int) else sample.label
    picture = _picture(title, sample.rgb, sample.disparity, labels)
    if seconds is None:
        return picture
    chosen = sheets.places(len(seconds), sheets.FRAMES["samples"])
    return picture._replace(seconds=tuple(seconds[chosen].tolist()))


def _picture(title: str, rgb: Any, disparity: Any, labels: Any = None) -> Picture:
    most = sheets.FRAMES["samples"]
    picture = Picture(title, sheets.thumbnails(sheets.some_frames(rgb[None], most))[0])
    if disparity is not None:
        picture = picture._replace(
            depth=sheets.thumbnails(sheets.false_colours(disparity[None]))[0],
            span=f"disparity {disparity.min():.3g} to {disparity.max():.3g}",
        )
    if labels is not None:
        painted = label_maps.paint(labels)[None, None]
        picture = picture._replace(labels=sheets.thumbnails(painted)[0])
    return picture
