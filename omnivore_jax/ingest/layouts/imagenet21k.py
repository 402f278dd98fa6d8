"""ImageNet-21K: all synsets, as they were published in fall 2011 or winter 2021; training only.

SRC/nXXXXXXXX/*.JPEG or SRC/nXXXXXXXX.tar       or both below winter21_whole/ or fall11_whole/
SRC/fall11_whole.tar                            as downloaded: a tar of tars
"""

from pathlib import Path

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.base import LayoutOptions, Listing
from omnivore_jax.ingest.layouts.checks import check_wishes, not_this
from omnivore_jax.ingest.layouts.synsets import (
    Synsets,
    find_packed_synsets,
    find_synsets,
    list_synsets,
)

RELEASES = ("winter21_whole", "fall11_whole")


class ImageNet21K:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        check_wishes(options, "imagenet21k", "image", has_val=False)
        # Two synsets of the hierarchy have no pictures: they are none of the 21,841.
        return list_synsets({"train": _find(source)}, source, val=options.val, skip_empty=True)


def _find(source: Path) -> Synsets:
    for release in RELEASES:
        if (source / f"{release}.tar").exists():
            return find_packed_synsets(source / f"{release}.tar")
    for folder in (*(source / release for release in RELEASES), source):
        synsets = find_synsets(folder)
        if synsets is not None:
            return synsets
    for release in RELEASES:
        if (source / f"{release}.tar.gz").exists():
            raise UserError(
                f"{source / release}.tar.gz is compressed, so that no picture of it can be read "
                "by itself; unpack it once: tar -xzf, the tars inside stay as they are"
            )
    raise not_this(source, "neither nXXXXXXXX/ nor nXXXXXXXX.tar nor fall11_whole.tar")
