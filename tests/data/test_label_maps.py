"""Label maps keep their place under the picture, and are never mixed."""

import io

import numpy as np
import pytest
from PIL import Image

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import IGNORE
from omnivore_jax.data import image_ops
from omnivore_jax.data.batches import stack
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.decode import decode_label_map
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.records import Record, pack, unpack
from omnivore_jax.data.sample import BadRecord
from omnivore_jax.data.transforms import EvalTransform, TrainTransform
from tests.media import depth_map, png

ROWS, COLUMNS = np.mgrid[:120, :160]
RAMP = np.stack([2 * ROWS, COLUMNS, 0 * ROWS], -1).astype(np.uint8)
LABELS = (ROWS // 10 * 16 + COLUMNS // 10).astype(np.uint8)  # squares of 10 pixels, 0 to 191
RECORD = Record("x", 0, png(RAMP), "", png(depth_map(120, 160)), 500.0, 0.1, 0.001)
RECORD = RECORD._replace(label_map=png(LABELS))


def config(**keys):
    return DatasetConfig(**{"kind": "rgbd", "batch_size": 2, "size": 64} | keys)


@pytest.mark.parametrize("crop", ["scaled", "random_resized", "center", "shift"])
def test_every_label_lies_on_its_part_of_the_picture(crop):
    for seed in range(12):
        sample = TrainTransform(config(crop=crop, flip=0.5), 75.0)(RECORD, seed)
        assert sample.label.shape == (64, 64) and sample.label.dtype == np.uint8
        known = sample.label != IGNORE
        assert set(np.unique(sample.label[known])) <= set(range(192)) and known.mean() > 0.2
        row, column = sample.rgb[0, ..., 0] / 2.0, sample.rgb[0, ..., 1].astype(float)
        # 1.5 pixels of the picture: what a bilinear resize mixes at the edge of a square
        for place, label in ((row, sample.label // 16), (column, sample.label % 16)):
            off = np.abs(place - (10.0 * label + 4.5))[known]
            assert np.quantile(off, 0.95) < 6.5
    assert TrainTransform(config(crop=crop), 75.0)(RECORD, 3).label.flags.c_contiguous


def test_a_scaled_crop_fills_up_with_nobodys_pixels_far_away():
    row = config(crop="scaled", size=260, flip=0.0)
    shapes = set()
    for seed in range(20):
        sample = TrainTransform(row, 75.0)(RECORD, seed)
        beside = sample.label == IGNORE
        assert beside.any() and (sample.rgb[0][beside] == (124, 116, 104)).all()
        assert (sample.disparity[0, ..., 0][beside] == np.float32(0.01)).all()
        shapes.add((int((~beside).any(1).sum()), int((~beside).any(0).sum())))
    every = {(round(120 * s), min(round(160 * s), 260)) for s in np.arange(0.5, 2.01, 0.25)}
    assert shapes <= every and len(shapes) > 4


def test_whole_pictures_and_their_labels_keep_their_size():
    protocol = config(views="whole_6x2").last_protocol(75.0)
    sample = EvalTransform("rgbd", protocol)(RECORD)
    np.testing.assert_array_equal(sample.rgb[0], RAMP)
    np.testing.assert_array_equal(sample.label, LABELS)
    assert sample.disparity.shape == (1, 120, 160, 1)
    words = protocol.describe()
    assert words.startswith(
        "1 x 1: the whole picture; at 0.5, 0.75, 1, 1.25, 1.5, 1.75 of its size"
    )
    assert "mirrored too; mean of the probabilities; missing depth is far" in words
    assert Protocol.from_json(protocol.to_json()) == protocol


def test_a_view_in_the_center_takes_the_nearest_label():
    sample = EvalTransform("rgbd", config().protocol(75.0))(RECORD)
    small = image_ops.resize(LABELS[None, ..., None], 64, 85, "nearest")
    np.testing.assert_array_equal(sample.label, small[0, :, 10:74, 0])


def test_batches_hold_maps_of_one_size():
    whole = EvalTransform("rgbd", config(views="whole").last_protocol(75.0))
    batch = stack([whole(RECORD), whole(RECORD)])
    assert batch.label.shape == (2, 120, 160) and batch.label.dtype == np.uint8
    wide = RECORD._replace(media=png(RAMP[:100]), depth=png(depth_map(100, 160)))
    wide = wide._replace(label_map=png(LABELS[:100]))
    with pytest.raises(UserError, match="160 x 100 and 160 x 120 pixels; score whole pictures"):
        stack([whole(RECORD), whole(wide)])


def test_records_keep_their_map_and_those_without_have_the_bytes_of_before():
    assert unpack(pack(RECORD)) == RECORD
    assert b"label_map" not in pack(RECORD._replace(label_map=None))


@pytest.mark.parametrize(
    ("label_map", "words"),
    [
        (png(LABELS[:90]), "label map has 160 x 90 pixels, the picture 160 x 120"),
        (png(RAMP), "8-bit gray or palette PNG, this is PNG of mode RGB"),
        (png(depth_map(120, 160)), "8-bit gray or palette PNG, this is PNG of mode I;16"),
        (png(LABELS)[:90], "OSError: "),
        (b"", "UnidentifiedImageError: "),
    ],
)
def test_a_map_that_does_not_fit_is_named(label_map, words):
    with pytest.raises(BadRecord) as error:
        TrainTransform(config(), 75.0)(RECORD._replace(label_map=label_map), 0)
    assert words in str(error.value)


def test_places_in_a_palette_are_labels():
    image = Image.fromarray(LABELS, "P")
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768).tolist())
    file = io.BytesIO()
    image.save(file, "PNG")
    np.testing.assert_array_equal(decode_label_map(file.getvalue()), LABELS)
