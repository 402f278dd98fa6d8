"""Sheets of pictures for the report.

What the model is given, and what it finds across modalities.
"""

from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import Float, Int, Int64, Integer, UInt8
from PIL import Image

from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.reporting import label_maps
from omnivore_jax.reporting.report import Kind, SampleSheet

LONGEST = 128
"""Pixels of the longer side of a stored picture."""
FRAMES = {"samples": 8, "retrieval": 4}
"""Of a clip, side by side on the page: more need not be stored."""
COLOURS = "viridis"
"""For disparity; perceptually uniform, also in print and for the colour-blind: bright is near."""


def sample_sheet(
    dataset: str,
    kind: Kind,
    x: Float[np.ndarray, "n t h w c"],
    labels: Integer[np.ndarray, "n *map"],
    classes: Sequence[str],
    preprocessing: Preprocessing,
) -> SampleSheet:
    """Shows samples as the model takes them, augmented, by undoing the standardising alone.

    `labels`: a class a sample, or a map of them.
    """
    maps = labels if labels.ndim > 1 else None
    caption = label_maps.caption if labels.ndim > 1 else lambda label, names: str(names[label])
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    rgb = np.clip(x[..., :3] * std + mean, 0, 1)
    dropped = (x[..., :3] == 0).all(axis=(1, 2, 3, 4))
    return SampleSheet(
        dataset,
        kind,
        names=tuple(caption(label, classes) for label in labels),
        notes=tuple("colours dropped" if hidden else "" for hidden in dropped),
        rgb=thumbnails(some_frames((rgb * 255 + 0.5).astype(np.uint8), FRAMES["samples"])),
        depth=thumbnails(some_frames(false_colours(x[..., 3:]), FRAMES["samples"]))
        if x.shape[-1] == 4
        else None,
        labels=None if maps is None else thumbnails(label_maps.paint(maps)[:, None]),
    )


def first_of_each(labels: Int[np.ndarray, " n"], most: int = 10) -> Int64[np.ndarray, " picked"]:
    """Picks the first sample of every class, of at most that many classes.

    No choice that could flatter.
    """
    return np.unique(labels, return_index=True)[1][:most]


def false_colours(disparity: Float[np.ndarray, "n t h w 1"]) -> UInt8[np.ndarray, "n t h w 3"]:
    """Paints disparity, from the 1st to the 99th percentile of each sample: bright is near."""
    low, high = np.percentile(disparity, (1, 99), axis=(1, 2, 3, 4), keepdims=True)
    scaled = (disparity - low) / np.maximum(high - low, 1e-6)
    return matplotlib.colormaps[COLOURS](np.clip(scaled[..., 0], 0, 1), bytes=True)[..., :3]


def some_frames(
    clips: UInt8[np.ndarray, "n t h w 3"], most: int
) -> UInt8[np.ndarray, "n t2 h w 3"]:
    """Takes frames at equal distances, the first and the last among them."""
    return clips[:, places(clips.shape[1], most)]


def places(n: int, most: int) -> Int64[np.ndarray, " picked"]:
    """Picks places at equal distances of `n`, the first and the last among them."""
    return np.linspace(0, n - 1, min(most, n)).round().astype(np.int64)


def thumbnails(
    pictures: UInt8[np.ndarray, "n t h w 3"], longest: int = LONGEST
) -> UInt8[np.ndarray, "n t h2 w2 3"]:
    """Shrinks pictures whose longer side has more pixels than that."""
    n, t, h, w, _ = pictures.shape
    scale = longest / max(h, w)
    if scale >= 1:
        return pictures
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    small = [
        np.asarray(Image.fromarray(p).resize(size, Image.Resampling.BOX))
        for p in pictures.reshape(-1, h, w, 3)
    ]
    return np.stack(small).reshape(n, t, size[1], size[0], 3)
