"""Oxford-IIIT Pets: 37 breeds; trained on trainval, validated on test.

SRC/images/NAME.jpg                             some of them are PNG or GIF inside
SRC/annotations/{trainval,test}.txt             NAME CLASS SPECIES BREED, classes from 1
"""

from pathlib import Path

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.annotations import (
    label,
    list_pictures,
    name_classes,
    read_rows,
)
from omnivore_jax.ingest.layouts.base import LayoutOptions, Listing
from omnivore_jax.ingest.layouts.checks import check_media, check_wishes, not_this

LISTS = {"train": "trainval.txt", "val": "test.txt"}
FORM = "NAME NUMBER NUMBER NUMBER"


class Pets:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        annotations = source / "annotations"
        if not annotations.is_dir() or not (source / "images").is_dir():
            raise not_this(
                source, "no images/ or no annotations/ (of images.tar.gz and annotations.tar.gz)"
            )
        check_wishes(options, "pets", "image", has_val=True)
        breeds: dict[int, str] = {}
        splits = {}
        for split, name in LISTS.items():
            rows = []
            for picture, number, *_ in read_rows(annotations / name, FORM):
                breed = picture.rpartition("_")[0]
                if breeds.setdefault(int(number) - 1, breed) != breed:
                    raise UserError(
                        f"{annotations / name}: class {number} is {breeds[int(number) - 1]} and, "
                        f"by {picture}, {breed} too; download it again"
                    )
                rows.append((f"images/{picture}.jpg", int(number) - 1))
            splits[split] = label(rows, annotations / name)
            check_media(source, splits[split].ids, annotations / name)
        return list_pictures(source, name_classes(breeds, annotations), splits, annotations)
