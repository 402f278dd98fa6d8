"""Measures how many random windows of clips a second are decoded, before and after --short_side.

    python -m benchmarks.clips FILE... [--short_side=256] [--seconds=2] [--windows=20] [--json]

Every window is what training reads: `--seconds` of a clip at a random place, 32 frames evenly over
it. `source` decodes the files as they are, each frame resized as it comes; `small` the same files
encoded at the short side. Both see the same windows in one process and one thread, turn by turn.
"""

import argparse
import json
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from omnivore_jax.data.clips import by_seconds
from omnivore_jax.data.decode import Clip, use_one_thread
from omnivore_jax.ingest.encode import Smaller
from omnivore_jax.ingest.layouts.base import FileBytes

FRAMES = 32


def resize(frame: np.ndarray, short_side: int) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    size = (round(width * scale), round(height * scale))
    return frame if scale == 1 else cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def decode(data: bytes, options: argparse.Namespace, where: float) -> float:
    """Seconds that a window takes, opening the file included."""
    began = time.perf_counter()
    clip = Clip(data)
    indices = by_seconds(clip.times, FRAMES, options.seconds, where)
    clip.frames(indices, partial(resize, short_side=options.short_side))
    return time.perf_counter() - began


def measure(files: Sequence[Path], options: argparse.Namespace) -> dict[str, float]:
    """Windows a second, bytes, and what encoding cost."""
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    small = [Smaller(FileBytes(path), "video", options.short_side).read() for path in files]
    encoding = time.perf_counter() - began
    ways = {"source": [path.read_bytes() for path in files], "small": small}
    seconds = dict.fromkeys(ways, 0.0)
    for _ in range(options.windows):
        number, where = int(rng.integers(len(files))), float(rng.random())
        for way, clips in ways.items():
            seconds[way] += decode(clips[number], options, where)
    rates = {f"{way}_windows_per_second": options.windows / spent for way, spent in seconds.items()}
    sizes = {f"{way}_bytes": float(sum(map(len, clips))) for way, clips in ways.items()}
    return rates | sizes | {"encoding_seconds": encoding}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--short_side", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    use_one_thread()
    figures = measure(options.files, options)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):28} {value:14,.1f}")


if __name__ == "__main__":
    main()
