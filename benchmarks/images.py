"""Measures how many pictures a second a core makes ready for training, ours against timm's.

    python -m benchmarks.images [FILE...] [--rounds=15] [--batch=64] [--json]

Both decode the same JPEGs, crop at random to 224 (bicubic, averaging), mirror, RandAugment
(rand-m9-mstd0.5-inc1) and stack bytes: `ours` by `TrainTransform` from prepared records, `timm` by
its `create_transform` in a DataLoader of PyTorch with num_workers=0; `timm_floats` standardises on
the host too, as DeiT does. One process and one thread, turn by turn. Without FILEs: 64 cuts of two
photographs, 500 x 375.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from benchmarks.spread import spread
from omnivore_jax.data.batches import stack
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import RecordDataset
from omnivore_jax.data.decode import use_one_thread
from omnivore_jax.data.manifest import Shard
from omnivore_jax.data.records import Record, RecordReader, pack
from omnivore_jax.data.transforms import TrainTransform
from tests.media import CHINA, FLOWER, jpeg
from tests.weights.torch.foreign import torchvision_models

MEAN = (0.485, 0.456, 0.406)
HEIGHT, WIDTH = 375, 500
"""The mean size of ImageNet's pictures, about."""


class Files(torch.utils.data.Dataset):
    """Pictures as PyTorch's loaders read them: Pillow, then a transform."""

    def __init__(self, paths: Sequence[Path], transform: Callable[[Image.Image], Any]):
        self._paths, self._transform = paths, transform

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        try:
            with Image.open(self._paths[index]) as picture:
                return self._transform(picture.convert("RGB")), index
        except ValueError:  # at level 10 timm asks for 0 bits, which Pillow 12 refuses
            return self[index]


def write_cuts(folder: Path) -> list[Path]:
    """Writes 64 cuts of two photographs as JPEG."""
    paths = []
    for number, picture in itertools.product(range(32), (CHINA, FLOWER)):
        top, left = number % 4 * 17, number // 4 * 20
        path = folder / f"{len(paths)}.jpg"
        path.write_bytes(jpeg(picture[top : top + HEIGHT, left : left + WIDTH]))
        paths.append(path)
    return paths


def ours(paths: Sequence[Path], folder: Path, batch: int) -> Iterator[Any]:
    """Batches from prepared records, without end."""
    writer = ArrayRecordWriter(str(folder / "0.arrayrecord"), "group_size:1,uncompressed")
    for number, path in enumerate(paths):
        writer.write(pack(Record(path.name, number, path.read_bytes(), "0" * 64)))
    writer.close()
    config = DatasetConfig("image", batch, interpolation="bicubic", rand_augment=True)
    reader = RecordReader(folder, [Shard("0.arrayrecord", len(paths), 0, "")])
    dataset = RecordDataset(reader, TrainTransform(config, 75.0))
    seeds = itertools.count()
    order = itertools.cycle(np.random.default_rng(0).permutation(len(paths)).tolist())
    while True:
        yield stack([dataset.load(next(order), next(seeds)) for _ in range(batch)])


def timms(paths: Sequence[Path], batch: int, *, floats: bool) -> Iterator[Any]:
    """Batches of timm's transform in PyTorch's loader, without end."""
    torchvision_models()  # declares the operators that timm's import asks for
    transform = import_module("timm.data").create_transform(
        224,
        is_training=True,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        mean=MEAN,
        use_prefetcher=not floats,
    )
    files = Files(list(paths) * max(1, batch // len(paths)), transform)
    collate = None if floats else lambda rows: np.stack([np.asarray(x) for x, _ in rows])
    loader = torch.utils.data.DataLoader(
        files, batch, shuffle=True, drop_last=True, num_workers=0, collate_fn=collate
    )
    while True:
        yield from loader


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Pictures a second of every side, and its ratio to ours round by round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = options.files or write_cuts(folder)
        sides = {
            "ours": ours(paths, folder, options.batch),
            "timm": timms(paths, options.batch, floats=False),
            "timm_floats": timms(paths, options.batch, floats=True),
        }
        seconds: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(options.rounds + 1):
            for side, batches in sides.items():
                began = time.perf_counter()
                next(batches)
                if number:  # the first round warms up
                    seconds[side].append(time.perf_counter() - began)
    figures: dict[str, Any] = {}
    for side, times in seconds.items():
        figures[f"{side}_pictures_per_second"] = options.batch / statistics.median(times)
        if side != "ours":
            ratios = [b / a for a, b in zip(seconds["ours"], times, strict=True)]
            figures[f"ratio_to_{side}"] = statistics.median(ratios)
            figures[f"spread_of_ratio_to_{side}"] = spread(ratios)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    use_one_thread()
    torch.set_num_threads(1)
    figures = measure(options)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):36} {value:10,.2f}")


if __name__ == "__main__":
    main()
