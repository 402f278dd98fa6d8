"""UCF101, in one of its three splits (`--fold=1`, 2 or 3).

SRC/UCF-101/CLASS/v_CLASS_gXX_cYY.avi                      or all clips in one folder
SRC/ucfTrainTestlist/{classInd,trainlist01,testlist01}.txt or in SRC

The test list becomes the split `val`. Classes are those of classInd.txt, in its order.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from omnivore_jax.core.errors import UserError
from omnivore_jax.ingest.layouts.base import LayoutOptions, Listing
from omnivore_jax.ingest.layouts.lists import (
    Entry,
    check_options,
    clip_listing,
    find_list,
    reading,
    stem,
)

FOLDERS = ("ucfTrainTestlist", "", "UCF101TrainTestSplits-RecognitionTask/ucfTrainTestlist")
FOLDS = (1, 2, 3)


class Ucf101:
    """The layout that this module describes (base.Layout)."""

    def list(self, source: Path, options: LayoutOptions) -> Listing:
        check_options(options, "UCF101")
        if options.fold not in FOLDS:
            raise UserError(f"--fold={options.fold}; UCF101 has the splits 1, 2 and 3")
        names = ("classInd", f"trainlist{options.fold:02d}", f"testlist{options.fold:02d}")
        classes, train, test = (
            find_list(source, (f"{name}.txt",), FOLDERS, "a list of the train/test splits")
            for name in names
        )
        labels = _labels(classes)
        entries = {"train": _entries(train, labels), "val": _entries(test, labels)}
        return clip_listing(source, list(labels), entries, options)


def _labels(path: Path) -> dict[str, int]:
    # 1 ApplyEyeMakeup
    with reading(path):
        numbers = {int(number): name for number, name in map(str.split, _lines(path))}
    return {numbers[number]: label for label, number in enumerate(sorted(numbers))}


def _entries(path: Path, labels: Mapping[str, int]) -> Iterator[Entry]:
    # CLASS/v_CLASS_g01_c01.avi, in training followed by the number of the class
    with reading(path):
        for line in _lines(path):
            file = line.split()[0]
            yield Entry(stem(file), labels[file.partition("/")[0]])


def _lines(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8-sig") as file:
        yield from (line for line in file if line.strip())
