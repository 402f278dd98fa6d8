"""iNaturalist 2018: 8,142 species; labels are the category ids.

SRC/train2018.json, val2018.json                images, annotations and categories, as COCO has them
SRC/train_val2018/GROUP/CATEGORY/NAME.jpg
SRC/categories.json                             where it is there: the names of the species, which
                                                the two others replace by numbers
"""

import json
from pathlib import Path
from typing import Any

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.annotations import Labels, label, list_pictures, name_classes
from omnivore_jax.ingest.layouts.base import LayoutOptions, Listing
from omnivore_jax.ingest.layouts.checks import check_media, check_wishes, not_this

LISTS = {"train": "train2018.json", "val": "val2018.json"}
NAMES, PICTURES = "categories.json", "train_val2018"


class INat2018:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        """Lists the splits whose list is there: one of the two is enough."""
        paths = {split: source / name for split, name in LISTS.items()}
        paths = {split: path for split, path in paths.items() if path.exists()}
        if not paths or not (source / PICTURES).is_dir():
            raise not_this(source, f"no {PICTURES}/, or neither train2018.json nor val2018.json")
        check_wishes(options, "inat2018", "image", has_val="val" in paths)
        splits: dict[str, Labels] = {}
        names: dict[int, str] = {}
        for split, path in paths.items():
            content = _read(path)
            splits[split] = _labels(content, path)
            names = _names(content.get("categories", ()), path)
            check_media(source, splits[split].ids, path)
        if (source / NAMES).exists():
            names = _names(_read(source / NAMES), source / NAMES)
        return list_pictures(source, name_classes(names, source), splits, source, options.val)


def _labels(content: Any, path: Path) -> Labels:
    try:
        files = {image["id"]: image["file_name"] for image in content["images"]}
        rows = [(files[row["image_id"]], int(row["category_id"])) for row in content["annotations"]]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not as published: {error} is missing in images or annotations; download it "
            "again"
        ) from error
    return label(rows, path)


def _names(categories: Any, path: Path) -> dict[int, str]:
    """The names of the categories; with their numbers where they do not tell them apart."""
    try:
        names = {int(row["id"]): str(row["name"]) for row in categories}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} is not as published: {error} is missing in the categories; download it again"
        ) from error
    if len(set(names.values())) == len(names):
        return names
    return {number: f"{number} {name}" for number, name in names.items()}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise UserError(f"{path} cannot be read ({error}); download it again") from error
