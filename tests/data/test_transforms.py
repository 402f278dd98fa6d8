import numpy as np
import pytest
from PIL import Image

from omnivore_jax.data.records import Record
from omnivore_jax.data.sample import BadRecord
from omnivore_jax.data.transforms import DatasetConfig, decode_rgbd, load_sample
from tests.media import CHINA, clip, depth_map, jpeg, png

PICTURE = CHINA[:200, :280]
IMAGE = Record("a/1.png", 4, png(PICTURE), "")
VIDEO = Record("a/1.mp4", 5, clip(), "")
RGBD = Record("a/1.png", 6, png(PICTURE), "", png(depth_map(200, 280)), 518.86, 0.075, 0.001)


def config(kind="image", **keys) -> DatasetConfig:
    return DatasetConfig(**{"kind": kind, "batch_size": 8, "size": 64} | keys)


def test_a_picture_for_validation_is_resized_by_its_short_side_and_cut_in_the_middle():
    sample = load_sample(IMAGE, config(interpolation="bicubic"), train=False, seed=3)
    resized = np.asarray(Image.fromarray(PICTURE).resize((89, 64), Image.Resampling.BICUBIC))
    assert (
        np.array_equal(sample.rgb, resized[None, :, 12:76]) and sample.disparity is None
    )  # 12.5 to even
    assert (sample.label, sample.id, sample.rgb.dtype, sample.rgb.flags.c_contiguous) == (
        4,
        "a/1.png",
        np.uint8,
        True,
    )


@pytest.mark.parametrize(
    ("record", "row"),
    [
        (IMAGE, config(rand_augment=True)),
        (IMAGE, config(crop="shift")),
        (VIDEO, config("video", frames=8)),
        (VIDEO, config("video", frames=5, clip="seconds", clip_seconds=1.0, crop="centre")),
        (VIDEO, config("video", frames=4, clip="segments", flip=0.0)),
        (RGBD, config("rgbd")),
    ],
)
def test_training_depends_on_the_seed_alone_and_validation_not_even_on_it(record, row):
    def load(seed, train):
        return load_sample(record, row, train=train, seed=seed)

    one, same, others = load(1, True), load(1, True), [load(seed, True).rgb for seed in range(2, 8)]
    assert one.rgb.shape == (row.frames, 64, 64, 3) and np.array_equal(one.rgb, same.rgb)
    assert any(not np.array_equal(one.rgb, other) for other in others)
    assert np.array_equal(load(1, False).rgb, load(2, False).rgb)


def test_a_clip_has_the_frames_of_its_protocol():
    def frames(train=False, seed=0, **keys):
        row = config("video", frames=8, size=96, crop="centre", flip=0.0, **keys)
        wide = load_sample(
            VIDEO, row, train=train, seed=seed
        ).rgb  # the middle 96 of 128 columns: bits 1 to 6
        return [
            sum((1 << b) * int(f[4:8, 16 * b - 12 : 16 * b - 4].mean() > 128) for b in range(1, 7))
            for f in wide
        ]

    even = [k & 126 for k in range(60)]
    assert frames(stride=2) == even[22:38:2]
    assert frames(clip="segments") == [even[k] for k in (3, 11, 18, 26, 33, 40, 48, 55)]
    assert frames(clip="seconds", clip_seconds=2.0) == [
        even[k] for k in (5, 12, 19, 26, 33, 40, 47, 54)
    ]
    starts = {frames(train=True, seed=seed, stride=2)[0] for seed in range(60)}
    assert starts <= set(even[:45]) and len(starts) > 15 and max(starts) > 40


def test_all_frames_are_cropped_and_flipped_alike():
    row = config("video", frames=4, stride=1, size=64)
    for seed in range(8):
        rgb = load_sample(VIDEO, row, train=True, seed=seed).rgb.astype(int)
        assert np.abs(np.diff(rgb, axis=0)).mean() < 40  # the camera moves by 3 pixels a frame
    plain = load_sample(VIDEO, config("video", frames=4, flip=0.0), train=True, seed=3).rgb
    assert np.array_equal(
        load_sample(VIDEO, config("video", frames=4, flip=1.0), train=True, seed=3).rgb,
        plain[:, :, ::-1],
    )


def test_depth_keeps_its_place_under_the_picture_through_crop_resize_and_flip():
    rows, columns = np.mgrid[:120, :160]
    ramp = np.stack([rows, columns, rows * 0], -1).astype(np.uint8)
    metres = (1000 + 40 * rows + 20 * columns).astype(np.uint16)
    record = Record("x", 0, png(ramp), "", png(metres), 500.0, 0.1, 0.001)
    for seed in range(10):
        sample = load_sample(record, config("rgbd", size=48), train=True, seed=seed)
        red, green = sample.rgb[0, ..., 0].astype(float), sample.rgb[0, ..., 1].astype(float)
        expected = 50 / (1 + 0.04 * red + 0.02 * green)
        assert sample.disparity.dtype == np.float32 and sample.disparity.shape == (1, 48, 48, 1)
        assert np.abs(sample.disparity[0, ..., 0] / expected - 1).max() < 0.06


def test_missing_depth_is_far_unless_the_config_says_near():
    blind = RGBD._replace(depth=png(depth_map(200, 280) * 0))
    far = load_sample(blind, config("rgbd"), train=False, seed=0).disparity
    near = load_sample(blind, config("rgbd", depth_missing="near"), train=False, seed=0).disparity
    assert far.max() == pytest.approx(0.075 * 518.86 / 50) and near.min() == pytest.approx(
        0.075 * 518.86 / 0.01
    )


def test_a_depth_map_of_half_the_size_is_brought_to_the_pictures():
    small = depth_map(100, 140)
    _, disparity = decode_rgbd(RGBD._replace(depth=png(small)))
    whole = np.repeat(np.repeat(small, 2, 0), 2, 1)
    assert np.allclose(disparity[50:], 0.075 * 518.86 / (whole[50:] / 1000), rtol=1e-5)


def test_the_exif_of_a_picture_with_depth_does_not_turn_it():
    exif = Image.Exif()
    exif[0x112] = 6
    rgb, disparity = decode_rgbd(RGBD._replace(media=jpeg(PICTURE, exif=exif)))
    assert rgb.shape[:2] == disparity.shape == (200, 280)


@pytest.mark.parametrize(
    ("record", "kind", "says"),
    [
        (IMAGE._replace(media=IMAGE.media[:500]), "image", "damaged"),
        (VIDEO._replace(media=VIDEO.media[:5000]), "video", "Invalid data"),
        (RGBD._replace(depth=RGBD.depth[:500]), "rgbd", "damaged"),
        (RGBD._replace(depth=None), "rgbd", "no depth map; prepare"),
        (
            RGBD._replace(depth=png(depth_map(200, 200))),
            "rgbd",
            "200 x 200 pixels, the picture 280 x 200",
        ),
    ],
)
def test_what_cannot_be_decoded_is_a_bad_record_with_its_name(record, kind, says):
    with pytest.raises(BadRecord, match=says) as error:
        load_sample(record, config(kind), train=True, seed=0)
    assert error.value.id == record.id


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"frames": 2}, "frames=2; a dataset of kind 'image' has 1"),
        ({"kind": "video", "rand_augment": True}, "pictures only"),
        ({"flip": 1.5}, "flip=1.5"),
        ({"size": 0}, "size=0"),
        ({"ratio": 0.0}, "ratio=0.0"),
        ({"num_val": -1}, "num_val=-1"),
        ({"short_side": 32}, "short_side=32 is below size=64"),
    ],
)
def test_settings_that_make_no_sense_are_named(keys, says):
    with pytest.raises(ValueError, match=says):
        config(**keys)
