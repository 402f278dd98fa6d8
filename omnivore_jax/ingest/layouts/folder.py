"""Class folders of people's own files.

Which samples there are, and which depth map belongs to which picture.

SRC/CLASS/.../NAME.jpg                       pictures or clips, at any depth below the class
SRC/{train,val,test}/CLASS/...               the same, already split (more names: split_folders.py)

SRC/CLASS/NAME.jpg + NAME.depth.png          RGB-D: side by side (or NAME_depth.png),
SRC/CLASS/SCENE/image.jpg + depth.png        or a folder for every scene,
SRC/CLASS/SCENE/image/*.jpg + depth/*.png    or one folder for each of the two (depth_names.py)
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import cast

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.depth import Intrinsics, read_intrinsics
from omnivore_jax.data.manifest import Kind
from omnivore_jax.ingest.layouts.base import DepthMap, FileBytes, Item, LayoutOptions, Listing
from omnivore_jax.ingest.layouts.checks import shown
from omnivore_jax.ingest.layouts.depth_names import PICTURES, find_others, in_scenes, is_depth, pair
from omnivore_jax.ingest.layouts.holdout import hold_out
from omnivore_jax.ingest.layouts.split_folders import check_loose, find_splits, read_annotations

CLIPS = frozenset(
    (
        ".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .m2ts .mts .flv .wmv .asf .3gp .3g2 .ogv "
        ".gif"
    ).split()
)
NO_MEDIA = frozenset(
    (
        ".txt .json .jsonl .csv .tsv .md .xml .yaml .yml .html .npy .npz .mat .pdf .zip .tar .gz"
    ).split()
)


class ClassFolders:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        names = list_names(source, options.kind, options.val)
        item = _maker(source, names, options.intrinsics)
        return Listing(names.kind, names.classes, names.splits, item, names.ignored)


@dataclass(frozen=True)
class Names:
    """The files of a folder; the id of a sample is its path below the folder, with slashes."""

    kind: Kind
    classes: tuple[str, ...]
    splits: dict[str, list[str]]
    depth: dict[str, str]
    """The depth map of every RGB-D picture."""
    has_splits: bool
    """Whether the first part of an id is the split, and the class the second."""
    ignored: Counter[str]
    """Files that are no samples, by suffix."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """The class of every sample that a table names."""

    def class_of(self, id: str) -> str:
        return self.labels.get(id) or id.split("/")[int(self.has_splits)]


def list_names(source: Path, asked: str = "auto", val: float = 0.0) -> Names:
    """Lists the class folders of a source.

    `asked`: the kind of file to take, "auto" for what there is. `val`: the share of every class
    that becomes the validation split, chosen by hash.

    Raises:
        UserError: there are no classes, an empty class, no media, several kinds of them, or
        pictures without depth.

    """
    if not source.is_dir():
        raise UserError(
            f"--src={source} is not a folder; give the folder that holds the class folders"
        )
    top = _folders(source)
    found = find_splits(top, source)
    has_splits = bool(found)
    if has_splits and val:
        raise UserError(
            f"--val={val}, but {source} has splits of its own ({', '.join(top)}); leave --val out"
        )
    roots = {split: f"{folder}/" for split, folder in found.items()} or {"train": ""}
    for folder in found.values():
        check_loose(source / folder, PICTURES | CLIPS)
    labels = read_annotations(source, found["val"]) if "val" in found else {}
    unlabeled = Counter[str]()
    if labels and "test" in found and _folders(source / found["test"]) == ["images"]:
        root = roots.pop("test")  # Tiny-ImageNet keeps the labels of its test split to itself
        unlabeled[f"{root}images (no labels)"] = len(_files(source, root))
    files = {split: _files(source, root) for split, root in roots.items()}
    every = [id for ids in files.values() for id in ids]
    scenes = {
        as_scene: id for as_scene, id in zip(in_scenes(every, has_splits), every, strict=True)
    }
    maps = {id for as_scene, id in scenes.items() if is_depth(as_scene)}
    kind = _kind(every, maps, source) if asked == "auto" else cast(Kind, asked)
    pairs = pair(scenes) if kind == "rgbd" else {}
    depth = {scenes[picture]: scenes[its_map] for picture, its_map in pairs.items()}
    extra = {scenes[as_scene]: what for as_scene, what in find_others(scenes).items()}

    def is_sample(id: str) -> bool:
        return _is_sample(id, kind) and id not in extra and (kind == "video" or id not in maps)

    others = [id for id in every if not is_sample(id)]
    ignored = Counter(extra.get(id) or _suffix(id) or id.rpartition("/")[2] for id in others)
    ignored -= Counter(map(_suffix, depth.values()))
    splits = {split: list(filter(is_sample, ids)) for split, ids in files.items()}
    named = {
        name
        for split, root in roots.items()
        for name in _folders(source / root)
        if not (labels and split == "val" and name == "images")
    }
    classes = tuple(sorted(named | set(labels.values())))
    names = Names(kind, classes, splits, depth, has_splits, ignored + unlabeled, labels)
    _check(names, source)
    if not val:
        return names
    return replace(names, splits=hold_out(splits["train"], names.class_of, val))


def _maker(source: Path, names: Names, defaults: Intrinsics) -> Callable[[str], Item]:
    labels = {name: label for label, name in enumerate(names.classes)}
    # Of a folder, not of a picture: files are looked for on every level up to the source.
    intrinsics = cache(lambda folder: read_intrinsics(source, folder, defaults))

    def item(id: str) -> Item:
        media, depth = source / id, None
        if names.kind == "rgbd":
            depth = DepthMap(FileBytes(source / names.depth[id]), intrinsics(media.parent))
        return Item(id, labels[names.class_of(id)], FileBytes(media), depth)

    return item


def _check(names: Names, source: Path) -> None:
    for name in names.classes:
        if shown(name) != name:
            raise UserError(f"--src={source}: class {shown(name)} is not UTF-8; rename it")
    if not names.classes:
        raise UserError(
            f"--src={source} has no class folders; put the files of every class into a folder of "
            "its name"
        )
    filled = {names.class_of(id) for ids in names.splits.values() for id in ids}
    if not filled:
        raise UserError(
            f"--src={source} has no files of kind {names.kind!r} in its class folders; see --help"
        )
    empty = set(names.classes) - filled
    if empty:
        raise UserError(
            f"--src={source} has {len(empty)} folders without files of kind {names.kind!r}, one "
            f"is {min(empty)}: "
            "every folder is a class; fill or remove them"
        )
    stray = [id for id in chain(*names.splits.values()) if names.class_of(id) not in names.classes]
    if stray:
        raise UserError(
            f"--src={source} has {len(stray)} pictures that the table of their split does not "
            f"name, one is {stray[0]}; remove them or add their rows"
        )
    untrained = set(names.classes) - {names.class_of(id) for id in names.splits["train"]}
    if untrained:
        raise UserError(
            f"--src={source} has {len(untrained)} classes without training samples, one is "
            f"{min(untrained)}; add some to the training split, or remove the class from the others"
        )
    alone = [id for ids in names.splits.values() for id in ids if id not in names.depth]
    if names.kind == "rgbd" and alone:
        raise UserError(
            f"{len(alone)} pictures have no depth map, the first is {alone[0]}; put it at "
            f"{os.path.splitext(alone[0])[0]}.depth.png (more ways in docs/data.md), or leave "
            "depth out: --kind=image"
        )


def _files(source: Path, root: str) -> list[str]:
    """All files of a split, class by class."""
    return [id for name in _folders(source / root) for id in _walk(source, root + name)]


def _folders(folder: Path) -> list[str]:
    return sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.is_dir() and not entry.name.startswith(".")
    )


def _walk(source: Path, below: str) -> Iterator[str]:
    """All files below a class folder, in a fixed order; hidden ones are no one's data."""
    for folder, folders, files in os.walk(source / below, onerror=_refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        prefix = Path(folder).relative_to(source).as_posix()
        yield from (f"{prefix}/{name}" for name in sorted(files) if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise error  # os.walk would leave the folder out without a word


def _suffix(id: str) -> str:
    return os.path.splitext(id)[1].lower()


def _is_sample(id: str, kind: str) -> bool:
    suffix = _suffix(id)
    if kind == "video":
        return suffix not in PICTURES and suffix not in NO_MEDIA
    return suffix in PICTURES


def _kind(files: list[str], maps: set[str], source: Path) -> Kind:
    """Tells what the files are; `maps` are those that can only be depth maps."""
    pictures = [id for id in files if _suffix(id) in PICTURES]
    clips = [id for id in files if _suffix(id) in CLIPS]
    if pictures and clips:
        raise UserError(
            f"--src={source} mixes kinds: {len(pictures)} pictures (as {pictures[0]}) and "
            f"{len(clips)} clips (as "
            f"{clips[0]}); give --kind=image or --kind=video to take one of them"
        )
    if files and not pictures and not clips:
        raise UserError(
            f"--src={source} has no pictures and no clips in its class folders; see --help"
        )
    if clips:
        return "video"
    return "rgbd" if maps else "image"
