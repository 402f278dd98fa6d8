"""Places365-Standard: 365 scenes, in full size or with 256 pixels a side.

SRC/data_large/a/airfield/00000001.jpg          or data_256/
SRC/val_large/Places365_val_00000001.jpg        or val_256/
SRC/places365_train_standard.txt, places365_val.txt, categories_places365.txt
                                                or in filelist_places365-standard/
"""

from pathlib import Path

from omnivore_jax.ingest.layouts.annotations import (
    Labels,
    label,
    list_pictures,
    name_classes,
    read_rows,
)
from omnivore_jax.ingest.layouts.base import LayoutOptions, Listing
from omnivore_jax.ingest.layouts.checks import check_media, check_wishes, not_this

LISTS = "filelist_places365-standard"
CATEGORIES = "categories_places365.txt"
SPLITS = {
    "train": ("places365_train_standard.txt", ("data_large", "data_256", "data_256_standard")),
    "val": ("places365_val.txt", ("val_large", "val_256")),
}
"""The list of a split and its folder; of several the first, the larger pictures."""


class Places365:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        """Lists the splits whose pictures are there: one of the two is enough."""
        lists = source / LISTS if (source / LISTS / CATEGORIES).exists() else source
        splits: dict[str, Labels] = {}
        for split, (name, folders) in SPLITS.items():
            folder = next((folder for folder in folders if (source / folder).is_dir()), None)
            if folder is None:
                continue
            rows = read_rows(lists / name, "FILE NUMBER")
            # The training list begins with a slash: /a/airfield/00000001.jpg
            pairs = ((f"{folder}/{file.lstrip('/')}", int(number)) for file, number in rows)
            splits[split] = label(pairs, lists / name)
            check_media(source, splits[split].ids, lists / name)
        if not splits:
            raise not_this(source, "neither data_large/ nor data_256/, val_large/ nor val_256/")
        check_wishes(options, "places365", "image", has_val="val" in splits)
        categories = read_rows(lists / CATEGORIES, "NAME NUMBER")
        names = {int(number): name.removeprefix("/")[2:] for name, number in categories}
        classes = name_classes(names, lists / CATEGORIES)
        return list_pictures(source, classes, splits, lists, options.val)
