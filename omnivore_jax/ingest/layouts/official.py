"""How many samples and classes the published datasets have, to notice what a download lacks.

By the names of the table of layouts, and for every release by its classes.
"""

from collections.abc import Mapping
from typing import NamedTuple


class Release(NamedTuple):
    """The published size of a dataset."""

    classes: int
    splits: Mapping[str, int]
    """Samples. A split that is not here is not published, or nobody says its size."""


OFFICIAL: Mapping[str, tuple[Release, ...]] = {
    # Russakovsky et al. 2015, table 2
    "imagenet": (Release(1000, {"train": 1_281_167, "val": 50_000}),),
    # image-net.org: fall 2011, and winter 2021, of which the number of pictures is not published
    "imagenet21k": (Release(21_841, {"train": 14_197_122}), Release(19_167, {})),
    # github.com/visipedia/inat_comp, 2018
    "inat2018": (Release(8142, {"train": 437_513, "val": 24_426}),),
    # robots.ox.ac.uk/~vgg/data/pets: the lists trainval and test
    "pets": (Release(37, {"train": 3680, "val": 3669}),),
    # Song et al. 2015 and allsplit.mat: the 19 types of scene
    "sunrgbd": (Release(19, {"train": 4845, "val": 4659}),),
    # Silberman et al. 2012, splits.mat
    "nyu_scenes": (Release(10, {"train": 795, "val": 654}),),
    "nyu_seg": (Release(40, {"train": 795, "val": 654}),),
    # Zhou et al. 2017 and the lists of Places365-Standard
    "places365": (Release(365, {"train": 1_803_460, "val": 36_500}),),
}


def differences(dataset: str, classes: int, counts: Mapping[str, int]) -> list[str]:
    """Says how a prepared dataset differs from the published one, a sentence for each difference.

    `dataset`: a name of the table of layouts; one that is not published differs in nothing.
    `counts`: samples of every split; what was held out of the training split counts as training.
    """
    releases = OFFICIAL.get(dataset)
    if releases is None:
        return []
    said = []
    release = next((release for release in releases if release.classes == classes), None)
    if release is None:
        expected = " or ".join(f"{release.classes:,}" for release in releases)
        said.append(f"{dataset} has {classes:,} of the official {expected} classes")
        release = releases[0]
    if "val" not in release.splits:
        counts = {"train": sum(counts.values())}
    for split, expected in release.splits.items():
        if counts.get(split, 0) != expected:
            said.append(f"{split} has {counts.get(split, 0):,} of the official {expected:,}")
    return said
