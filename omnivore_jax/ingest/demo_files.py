"""Validation samples of the demo as files, to try commands on: pictures, clips, RGB-D."""

import io
from pathlib import Path

import av
import cv2
import numpy as np
from jaxtyping import Float, UInt8

from omnivore_jax.core.files import write_bytes, write_json
from omnivore_jax.data import demo
from omnivore_jax.data.demo import Pictures

COUNT = 10
"""Of each kind, the first of the split: no choice that could flatter."""
RATE, REPEATS = 16, 2
"""Frames a second of the clips; each is there twice, as the model's protocol takes every second."""
FX, BASELINE, SCALE = 16.0, 0.075, 1e-4
"""Of an imagined sensor: its disparity is that of the demo's reliefs to a thousandth."""


def write_demo_files(folder: Path) -> list[Path]:
    """Writes NAME.png, NAME.mp4 and NAME.png + NAME.depth.png, named by number and class.

    Raises:
        UserError: the disk does not take them.

    """
    written = []
    for dataset, kind in (("demo_image", "picture"), ("demo_video", "clip"), ("demo_rgbd", "rgbd")):
        pictures, names = demo.draw(dataset, "test"), demo.class_names(dataset)
        for k in range(COUNT):
            name = f"{kind}_{k}_{names[int(pictures.label[k])].replace(' ', '_')}"
            written.append(_write(folder / kind, name, pictures, k))
    write_json(folder / "rgbd" / "depth.json", {"fx": FX, "baseline": BASELINE, "scale": SCALE})
    return written


def _write(folder: Path, name: str, pictures: Pictures, k: int) -> Path:
    rgb = pictures.rgb[k]
    if len(rgb) > 1:
        path = folder / f"{name}.mp4"
        write_bytes(path, _clip(rgb))
        return path
    path = folder / f"{name}.png"
    write_bytes(path, _png(rgb[0][..., ::-1]))
    if pictures.disparity is not None:
        write_bytes(folder / f"{name}.depth.png", _png(_depth(pictures.disparity[k, 0, ..., 0])))
    return path


def _png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", np.ascontiguousarray(picture))[1].tobytes()


def _depth(disparity: Float[np.ndarray, "h w"]) -> np.ndarray:
    return np.round(BASELINE * FX / disparity / SCALE).astype(np.uint16)


def _clip(frames: UInt8[np.ndarray, "t h w 3"]) -> bytes:
    """Encodes frames as H.264, almost without loss: a digit is a few pixels wide."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "6"})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p"
        for frame in frames.repeat(REPEATS, axis=0):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()
