"""Files of any kind that a person points at: which they are, and the depth maps beside them."""

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local
from omnivore_jax.core.types import Kind
from omnivore_jax.data.decode import sniff
from omnivore_jax.data.depth import Intrinsics, read_intrinsics
from omnivore_jax.data.records import Record
from omnivore_jax.inference.scenes import Cameras, Scene, find_scene
from omnivore_jax.ingest.layouts.depth_names import find_others, is_depth, pair
from omnivore_jax.ingest.layouts.folder import NO_MEDIA

PNG = b"\x89PNG\r\n\x1a\n"
GREY_16 = (16, 0)
"""Bits and colour type of a PNG that can only be a depth map."""

BELOW = "class/scene/"
"""Where names of depth maps expect files to lie; without classes any folder may be a scene."""


class Medium(NamedTuple):
    """A file to be classified."""

    path: Path
    kind: Kind
    depth: Path | None = None
    """Its depth map, of an RGB-D picture."""
    intrinsics: Intrinsics | None = None
    scene: Scene | None = None
    """Of a mesh or point cloud, which is RGB-D from several sides."""

    @property
    def pictures(self) -> int:
        """Counts the records."""
        return 1 if self.scene is None else self.scene.cameras.count

    def records(self) -> list[Record]:
        """Reads the bytes, of a scene those of a picture for every camera.

        Raises:
            OSError: a file is not there or may not be read.
            BadRecord: a scene is damaged.

        """
        return [self.record()] if self.scene is None else self.scene.records()

    def record(self) -> Record:
        """Reads the bytes, of a scene those of the first picture; raises as `records`."""
        if self.scene is not None:
            return self.scene.records()[0]
        media = self.path.read_bytes()
        if self.depth is None or self.intrinsics is None:
            return Record(str(self.path), 0, media, "")
        return Record(str(self.path), 0, media, "", self.depth.read_bytes(), *self.intrinsics)


class Media(NamedTuple):
    """What was found in the files and folders that were named."""

    items: list[Medium]
    others: list[tuple[Path, str]]
    """Files of the folders that are no media, and what they are instead."""


class Finder(NamedTuple):
    """How depth is found and read."""

    depth: Path | None
    """The map of the one picture that is named; None: what lies beside by the usual names."""
    defaults: Intrinsics
    """Where no file beside the maps says otherwise; fx 0: it has to say."""
    cameras: Cameras = Cameras()
    """That look at meshes and point clouds."""

    def find(self, paths: Sequence[Path], advance: Callable[[], None] = lambda: None) -> Media:
        """Lists the media of files and folders, in order, told by their content.

        Raises:
            UserError: a path is not there or no medium, a folder has none, or depth is not usable.

        """
        media = Media([], [])
        for path in paths:
            check_local(path, "FILE")
            if path.is_dir():
                found = self._in_folder(path)
                media.items.extend(found.items)
                media.others.extend(found.others)
            else:
                media.items.append(self._named(path))
            advance()
        if self.depth is not None and (len(media.items) != 1 or media.items[0].kind != "rgbd"):
            raise UserError(f"--depth={self.depth} belongs to one picture; name just that one")
        return media

    def _named(self, path: Path) -> Medium:
        scene = find_scene(path, self.cameras, self.defaults)
        if scene is not None and self.depth is not None:
            raise UserError(f"--depth={self.depth}: {path} is a scene with a shape of its own")
        if scene is not None:
            return Medium(path, "rgbd", scene=scene)
        kind, why = tell(path)
        if kind is None:
            raise UserError(f"{path} is {why}; name a picture, a clip or a folder of them")
        if kind == "image" and self.depth is not None:
            if not self.depth.is_file():
                raise UserError(f"--depth={self.depth} is not there; give the map of {path}")
            return self._with_depth(path, self.depth, self.depth.absolute().parent.parent)
        beside = _depth_beside(path) if kind == "image" else None
        if beside is not None:
            return self._with_depth(path, beside, path.absolute().parent)
        return Medium(path, kind)

    def _in_folder(self, folder: Path) -> Media:
        ids = [f"{BELOW}{file}" for file in sorted(_files(folder))]
        depth, extra = pair(ids), find_others(ids)
        media = Media([], [])
        for id in ids:
            path = folder / id.removeprefix(BELOW)
            if is_depth(id) or id in extra:
                if id not in depth.values():
                    media.others.append((path, extra.get(id, "a depth map without a picture")))
                continue
            scene = find_scene(path, self.cameras, self.defaults)
            if scene is not None:
                media.items.append(Medium(path, "rgbd", scene=scene))
                continue
            kind, why = tell(path)
            if kind is None:
                media.others.append((path, why))
            elif kind == "image" and id in depth:
                media.items.append(
                    self._with_depth(path, folder / depth[id].removeprefix(BELOW), folder)
                )
            else:
                media.items.append(Medium(path, kind))
        if not media.items:
            raise UserError(f"{folder} holds no picture and no clip; name a folder that does")
        return media

    def _with_depth(self, path: Path, depth: Path, top: Path) -> Medium:
        """Pairs a picture with its map; files that describe maps are looked for up to `top`."""
        intrinsics = read_intrinsics(top.absolute(), depth.absolute().parent, self.defaults)
        if intrinsics.fx <= 0:
            raise UserError(
                f"{depth}: its focal length is not known; give --fx=PIXELS, or write depth.json "
                'beside it, for example {"fx": 518.86, "baseline": 0.075, "scale": 0.001}'
            )
        return Medium(path, "rgbd", depth, intrinsics)


def tell(path: Path) -> tuple[Kind | None, str]:
    """Tells a file by its content: its kind, or None and what it is instead.

    Raises:
        UserError: it is not there or may not be read.

    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}; name a file that is there") from error
    if not data:
        return None, "an empty file"
    if is_grey_16(data):
        return None, "a 16-bit grey PNG, a depth map (--depth goes with its picture)"
    kind = sniff(data)
    if kind is None:
        return None, "neither a picture nor a clip, or damaged"
    return ("image" if kind == "still" else "video"), ""


def _depth_beside(path: Path) -> Path | None:
    """Finds the map of a picture in its own folder, by the usual names."""
    names = [name for name in os.listdir(path.parent) if is_depth(f"{BELOW}{name}")]
    depth = pair(f"{BELOW}{name}" for name in [path.name, *names]).get(f"{BELOW}{path.name}")
    return None if depth is None else path.parent / depth.removeprefix(BELOW)


def is_grey_16(data: bytes) -> bool:
    """Tells a PNG of one channel of 16 bits by its header."""
    return data[:8] == PNG and len(data) > 25 and struct.unpack("BB", data[24:26]) == GREY_16


def _files(folder: Path) -> Iterable[str]:
    """Paths below a folder, with slashes, but for hidden files and texts beside the media."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() not in NO_MEDIA:
                yield Path(root, name).relative_to(folder).as_posix()
