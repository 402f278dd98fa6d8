"""Which pictures are depth maps by their names, and which picture each belongs to.

NAME.jpg + NAME.depth.png or NAME_depth.png     side by side
image.jpg + depth.png                           a folder for every scene
rgb_0.jpg + sync_depth_0.png                    NYU-Depth V2's raw frames after its toolbox
frame-000000.color.png + frame-000000.depth.png 7-Scenes
X_crop.png + X_depthcrop.png (X_maskcrop.png)   the RGB-D Object Dataset of Washington
SCENE/{image,rgb,color}/* + SCENE/depth/*.png   SUN RGB-D (or depth_bfx/, its maps with the holes
                                                filled, and fullres/), ScanNet; SCENE may be the
                                                class itself
"""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

PICTURES = frozenset({".jpg", ".jpeg", ".png"})
DEPTH_FOLDERS = ("depth_bfx", "depth")
"""Those that are taken first come first."""
PICTURE_FOLDERS = ("image", "rgb", "color")
DEPTH_ENDS = (".depth.png", "_depth.png", "_depthcrop.png")
MASKS = {"_maskcrop.png": "_depthcrop.png", "_mask.png": "_depth.png"}
"""The end of a mask's name, and of the depth map's beside it."""
SYNC_DEPTH = re.compile(r"sync_depth_\d+\.png")


def is_depth(id: str) -> bool:
    """Whether a file is a depth map, by its name or by the folder that it is in below its class."""
    *folders, name = id.lower().split("/")
    return (
        name == "depth.png"
        or name.endswith(DEPTH_ENDS)
        or SYNC_DEPTH.fullmatch(name) is not None
        or (len(folders) > 2 and folders[-1] in DEPTH_FOLDERS and name.endswith(".png"))
    )


def in_scenes(files: Sequence[str], has_splits: bool) -> list[str]:
    """Puts files where the names above expect them: in a scene below a class.

    Without splits a class may hold its folders of pictures and depth itself, CLASS/rgb and
    CLASS/depth; such a class becomes a scene.
    """
    if has_splits:
        return list(files)
    folders: dict[str, set[str]] = defaultdict(set)
    for id in files:
        name, *below = id.lower().split("/")
        if len(below) == 2:
            folders[name].add(below[0])
    scenes = {
        name
        for name, inside in folders.items()
        if inside & set(PICTURE_FOLDERS) and inside & set(DEPTH_FOLDERS)
    }
    return [f"all/{id}" if id.lower().split("/")[0] in scenes else id for id in files]


def find_others(files: Iterable[str]) -> dict[str, str]:
    """Finds pictures that belong to others with depth, masks and SUN's fullres/, and names them."""
    lower = {id.lower() for id in files if is_depth(id)}
    scenes = {id.rpartition("/")[0].rpartition("/")[0] for id in lower}
    others = {}
    for id in files:
        folder, _, name = id.lower().rpartition("/")
        scene, _, last = folder.rpartition("/")
        for end, depth in MASKS.items():
            if name.endswith(end) and id.lower().removesuffix(end) + depth in lower:
                others[id] = "mask"
        if last == "fullres" and scene in scenes and os.path.splitext(name)[1] in PICTURES:
            others[id] = "fullres"
    return others


def pair(files: Iterable[str]) -> dict[str, str]:
    """Finds the depth map of every picture that has one."""
    maps: dict[str, dict[str, str]] = defaultdict(dict)
    pictures = []
    for id in files:
        if is_depth(id):
            folder, _, name = id.rpartition("/")
            maps[folder][name.lower()] = id
        elif os.path.splitext(id)[1].lower() in PICTURES:
            pictures.append(id)
    return {id: depth for id in pictures if (depth := _depth_of(id, maps))}


def _depth_of(id: str, maps: dict[str, dict[str, str]]) -> str | None:
    folder, _, name = id.rpartition("/")
    stem = os.path.splitext(name)[0].lower()
    beside = maps.get(folder, {})
    for candidate in _candidates(stem):
        if candidate in beside:
            return beside[candidate]
    scene, _, last = folder.rpartition("/")
    if last.lower() not in PICTURE_FOLDERS:
        return None
    for depth in DEPTH_FOLDERS:
        there = maps.get(f"{scene}/{depth}") or maps.get(f"{scene}/{depth.capitalize()}", {})
        if f"{stem}.png" in there:
            return there[f"{stem}.png"]
        if len(there) == 1:  # of several, none is taken by chance
            return next(iter(there.values()))
    return None


def _candidates(stem: str) -> list[str]:
    names = [f"{stem}.depth.png", f"{stem}_depth.png"]
    if stem in ("image", "rgb", "color"):
        names.append("depth.png")
    if stem.endswith(".color"):
        names.append(f"{stem.removesuffix('.color')}.depth.png")
    if stem.endswith("_crop"):
        names.append(f"{stem.removesuffix('_crop')}_depthcrop.png")
    if stem.startswith("rgb_"):
        names.append(f"sync_depth_{stem.removeprefix('rgb_')}.png")
    return names
