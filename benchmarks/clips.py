"""Measures how many random windows of clips a second a core makes ready for training.

    python -m benchmarks.clips [FILE...] [--short_side=256] [--seconds=2] [--windows=20] [--json]

Every window is what training reads: `--seconds` of a clip at a random place, 32 frames evenly over
it, one random crop to 224 x 224. `source` reads the files as they are, each frame resized as it
comes; `small` the same files encoded at the short side as `prepare --short_side` does; `usual` as
such clips are spread (x264's own key frames, up to 250 frames apart, and B-frames), and
`whole_window` the same bytes as pytorchvideo does: seek, decode and convert every frame of the
window, then sample. All see the same windows in one process and one thread, turn by turn. Without
FILEs: 10 s of 1280 x 720, a camera that moves over a photograph.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.spread import spread
from omnivore_jax.data import image_ops
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.decode import Clip, use_one_thread
from omnivore_jax.data.records import Record
from omnivore_jax.data.transforms import TrainTransform
from omnivore_jax.ingest.encode import Smaller
from omnivore_jax.ingest.layouts.base import FileBytes
from tests.media import CHINA

FRAMES = 32


SIZE = 224
RATE = 30


def write(frames: Iterator[np.ndarray]) -> bytes:
    """Encodes frames as x264 does by itself."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "23"})
        stream.pix_fmt = "yuv420p"
        for number, pixels in enumerate(frames):
            if not number:
                stream.height, stream.width = pixels.shape[:2]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def film(seconds: int = 10) -> Iterator[np.ndarray]:
    """A camera that moves and zooms over a photograph, with the noise of a sensor."""
    rng = np.random.default_rng(0)
    for k in range(seconds * RATE):
        width = 420 + 100 * np.sin(k / 40)
        turn = 60 + 50 * np.cos(k / 25), 60 + 40 * np.sin(k / 33)
        scale = width / 1280
        matrix = np.float32([[scale, 0, turn[0]], [0, scale, turn[1]]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        view = cv2.warpAffine(CHINA, matrix, (1280, 720), flags=flags, borderMode=4)
        noise = rng.integers(-4, 5, (720, 1280, 1), np.int16)
        yield np.clip(view + noise, 0, 255).astype(np.uint8)


def shrunk(data: bytes, short_side: int) -> Iterator[np.ndarray]:
    """The frames of a clip at an even size of this short side."""
    clip = Clip(data)
    for _, frame in clip.each_frame(range(len(clip))):
        height, width = image_ops.short_side(*frame.shape[:2], short_side)
        size = width // 2 * 2, height // 2 * 2
        yield cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def ours(data: bytes, options: argparse.Namespace, seed: int) -> np.ndarray:
    """A sample as training makes it."""
    row = DatasetConfig(
        "video", 1, frames=FRAMES, size=SIZE, clip="seconds", clip_seconds=options.seconds
    )
    return TrainTransform(row, 75.0)(Record("", 0, data, ""), seed).rgb


def whole_window(data: bytes, options: argparse.Namespace, seed: int) -> np.ndarray:
    """A sample of pytorchvideo's EncodedVideoPyAV, then the crop that ours has."""
    rng = np.random.default_rng(seed)
    with av.open(io.BytesIO(data)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        length = float(stream.duration * stream.time_base)
        start = rng.random() * max(length - options.seconds, 0)
        container.seek(int(start / stream.time_base), stream=stream)
        frames = []
        for frame in container.decode(stream):
            if frame.time >= start + options.seconds:
                break
            if frame.time >= start:
                frames.append(frame.to_ndarray(format="rgb24"))
    taken = np.stack(frames)[np.linspace(0, len(frames) - 1, FRAMES).astype(int)]
    box = image_ops.random_resized_box(rng, *taken.shape[1:3])
    taken = image_ops.resize(image_ops.crop(taken, box), SIZE, SIZE)
    return np.ascontiguousarray(image_ops.flip(taken) if rng.random() < 0.5 else taken)


def measure(files: Sequence[Path], options: argparse.Namespace) -> dict[str, float]:
    """Windows a second, ratios window by window, bytes, and what encoding cost."""
    media = [FileBytes(path) for path in files]
    began = time.perf_counter()
    small = [Smaller(one, "video", options.short_side).read() for one in media]
    encoding = time.perf_counter() - began
    source = [one.read() for one in media]
    usual = [write(shrunk(data, options.short_side)) for data in source]
    clips = {"source": source, "small": small, "usual": usual, "whole_window": usual}
    seconds: dict[str, list[float]] = {way: [] for way in clips}
    rng = np.random.default_rng(0)
    for seed in range(options.windows):
        number = int(rng.integers(len(media)))
        for way, data in clips.items():
            read = whole_window if way == "whole_window" else ours
            began = time.perf_counter()
            read(data[number], options, seed)
            seconds[way].append(time.perf_counter() - began)
    figures = {f"{way}_windows_per_second": len(s) / sum(s) for way, s in seconds.items()}
    for slow, fast in (("source", "small"), ("whole_window", "usual"), ("whole_window", "small")):
        ratios = [a / b for a, b in zip(seconds[slow], seconds[fast], strict=True)]
        figures[f"{fast}_over_{slow}"] = statistics.median(ratios)
        figures[f"{fast}_over_{slow}_spread"] = spread(ratios)
    sizes = {f"{way}_bytes": float(sum(map(len, data))) for way, data in clips.items()}
    return figures | sizes | {"encoding_seconds": encoding}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--short_side", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--windows", type=int, default=20)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    use_one_thread()
    with tempfile.TemporaryDirectory() as folder:
        filmed = Path(folder) / "film.mp4"
        if not options.files:
            filmed.write_bytes(write(film()))
        figures = measure(options.files or [filmed], options)
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):34} {value:14,.2f}")


if __name__ == "__main__":
    main()
