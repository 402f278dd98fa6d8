from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from omnivore_jax.core.config import build
from omnivore_jax.data import image_ops
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.decode import Clip
from omnivore_jax.data.protocol import PROTOCOLS, DepthConvention, Protocol
from omnivore_jax.data.randaugment import (
    GEOMETRIC,
    RandAugmentConfig,
    draw_operations,
    rand_augment,
)
from omnivore_jax.data.records import Record
from omnivore_jax.data.sample import BadRecord
from omnivore_jax.data.stills import decode_rgbd
from omnivore_jax.data.transforms import EvalTransform, TrainTransform, ViewsTransform
from tests.media import CHINA, clip, depth_map, jpeg, number, png

PICTURE = CHINA[:200, :280]
IMAGE = Record("a/1.png", 4, png(PICTURE), "")
VIDEO = Record("a/1.mp4", 5, clip(), "")
RGBD = Record("a/1.png", 6, png(PICTURE), "", png(depth_map(200, 280)), 518.86, 0.075, 0.001)


def config(kind="image", **keys) -> DatasetConfig:
    return DatasetConfig(**{"kind": kind, "batch_size": 8, "size": 64} | keys)


def train(record, row, seed, disparity_max=75.0):
    return TrainTransform(row, disparity_max)(record, seed)


def evaluate(record, row, seed=0, disparity_max=75.0):
    return EvalTransform(row.kind, row.protocol(disparity_max))(record, seed)


def test_a_picture_for_validation_is_resized_by_its_short_side_and_cut_in_the_middle():
    sample = evaluate(IMAGE, config(interpolation="bicubic"), seed=3)
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
        (VIDEO, config("video", frames=5, clip="seconds", clip_seconds=1.0, crop="center")),
        (VIDEO, config("video", frames=4, clip="segments", flip=0.0, rand_augment=True)),
        (RGBD, config("rgbd", rand_augment=True)),
    ],
)
def test_training_depends_on_the_seed_alone_and_validation_not_even_on_it(record, row):
    one, same = train(record, row, 1), train(record, row, 1)
    others = [train(record, row, seed).rgb for seed in range(2, 8)]
    assert one.rgb.shape == (row.frames, 64, 64, 3) and np.array_equal(one.rgb, same.rgb)
    assert any(not np.array_equal(one.rgb, other) for other in others)
    assert np.array_equal(evaluate(record, row, 1).rgb, evaluate(record, row, 2).rgb)


def test_a_clip_has_the_frames_of_its_protocol():
    def frames(load=evaluate, seed=0, **keys):
        row = config("video", frames=8, size=96, crop="center", flip=0.0, **keys)
        wide = load(VIDEO, row, seed).rgb  # the middle 96 of 128 columns: bits 1 to 6
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
    starts = {frames(train, seed, stride=2)[0] for seed in range(60)}
    assert starts <= set(even[:45]) and len(starts) > 15 and max(starts) > 40


def test_all_frames_are_cropped_and_flipped_alike():
    row = config("video", frames=4, stride=1, size=64)
    for seed in range(8):
        rgb = train(VIDEO, row, seed).rgb.astype(int)
        assert np.abs(np.diff(rgb, axis=0)).mean() < 40  # the camera moves by 3 pixels a frame
    plain = train(VIDEO, config("video", frames=4, flip=0.0), 3).rgb
    assert np.array_equal(
        train(VIDEO, config("video", frames=4, flip=1.0), 3).rgb,
        plain[:, :, ::-1],
    )


def test_depth_keeps_its_place_under_the_picture_through_crop_resize_and_flip():
    rows, columns = np.mgrid[:120, :160]
    ramp = np.stack([rows, columns, rows * 0], -1).astype(np.uint8)
    metres = (1000 + 40 * rows + 20 * columns).astype(np.uint16)
    record = Record("x", 0, png(ramp), "", png(metres), 500.0, 0.1, 0.001)
    for seed in range(10):
        sample = train(record, config("rgbd", size=48), seed)
        red, green = sample.rgb[0, ..., 0].astype(float), sample.rgb[0, ..., 1].astype(float)
        expected = 50 / (1 + 0.04 * red + 0.02 * green)
        assert sample.disparity.dtype == np.float32 and sample.disparity.shape == (1, 48, 48, 1)
        assert np.abs(sample.disparity[0, ..., 0] / expected - 1).max() < 0.06


def test_missing_depth_is_far_unless_the_config_says_near():
    blind = RGBD._replace(depth=png(depth_map(200, 280) * 0))
    far = evaluate(blind, config("rgbd")).disparity
    near = evaluate(blind, config("rgbd", depth_missing="near")).disparity
    assert far.max() == pytest.approx(0.075 * 518.86 / 50)
    assert near.min() == 75  # the nearest there is


@pytest.mark.parametrize("load", [train, evaluate])
def test_disparity_is_clamped_before_it_is_resized(load):
    metres = np.full((128, 128), 4000, np.uint16)
    metres[:, ::2] = 10  # a centimetre: 5,000 in disparity, where 20 is the most
    black = png(np.zeros((128, 128, 3), np.uint8))
    record = Record("x", 0, black, "", png(metres), 500.0, 0.1, 0.001)
    row = config("rgbd", size=64, crop="center", flip=0.0)
    disparity = load(record, row, 0, disparity_max=20.0).disparity
    # a pixel is the mean of a near and a far one; clamped afterwards it would be 20
    assert disparity == pytest.approx((20 + 12.5) / 2, rel=1e-6)


def test_rand_augment_moves_depth_with_its_picture_and_never_recolours_it():
    rows, columns = np.mgrid[:64, :64]
    metres = (1000 + 30 * rows + 20 * columns).astype(np.uint16)
    picture = np.full((64, 64, 3), (metres // 16)[..., None]).astype(np.uint8)
    record = Record("x", 0, png(picture), "", png(metres), 500.0, 0.1, 1e-3)
    row = config("rgbd", crop="center", flip=0.0, rand_augment=RandAugmentConfig(probability=1.0))
    plain, moves = evaluate(record, row).disparity, 0
    for seed in range(40):
        sample = train(record, row, seed)
        rng = np.random.default_rng(seed)
        rng.random()  # the flip
        names = {operation.name for operation in draw_operations(row.rand_augment, rng)}
        if not names & GEOMETRIC:
            assert np.array_equal(sample.disparity, plain)
        elif names <= GEOMETRIC:
            moves += 1
            # the picture has the depth of every pixel, so it says where each has come from
            inside = np.abs(sample.rgb[0, ..., 0].astype(float) - 128) > 12
            expected = 50_000 / (16.0 * sample.rgb[0, ..., 0] + 8)
            assert np.abs(sample.disparity[0, ..., 0] / expected - 1)[inside].mean() < 0.02
    assert moves > 2


def test_rand_augment_does_the_same_to_all_frames_of_a_clip():
    keys = {"frames": 4, "crop": "center", "flip": 0.0, "size": 64}
    operations = RandAugmentConfig(ops=3, probability=1.0)
    for seed in range(6):
        plain = train(VIDEO, config("video", **keys), seed).rgb
        rgb = train(VIDEO, config("video", rand_augment=operations, **keys), seed).rgb
        for frame, before in zip(rgb, plain, strict=True):
            rng = np.random.default_rng(seed)
            rng.random(2)  # where the clip lies, the flip
            assert np.array_equal(frame[None], rand_augment(before[None], None, operations, rng)[0])


def test_all_views_of_a_clip_are_its_clips_by_its_crops():
    protocol = Protocol(8, "stride", 2, clips=3, crops=3, short_side=96, size=96)
    sample = ViewsTransform("video", protocol)(VIDEO)
    assert sample.rgb.shape == (9, 8, 96, 96, 3) and sample.label == 5
    frames = Clip(VIDEO.media).frames(np.arange(60))  # 96 x 128
    for view, rgb in enumerate(sample.rgb):
        start, left = (7, 22, 37)[view // 3], (0, 16, 32)[view % 3]  # int((k + .5) * 45 / 3)
        assert np.array_equal(rgb, frames[start : start + 16 : 2, :, left : left + 96])


def test_the_papers_views_of_a_clip_cover_it_whole():
    sample = ViewsTransform("video", replace(PROTOCOLS["4x3"], short_side=96, size=96))(VIDEO)
    assert sample.rgb.shape == (12, 32, 96, 96, 3)
    # frame k carries k in 8 squares of 16 pixels: six in the first crop, the last two in the third
    first, third = sample.rgb[0::3], sample.rgb[2::3]
    for clip_number in range(4):
        picked = [
            number(np.concatenate([a, b[:, 64:]], 1))
            for a, b in zip(first[clip_number], third[clip_number], strict=True)
        ]
        start = (0, 40, 80, 120)[clip_number]
        assert picked == [int(k * 59 / 159) for k in range(start, start + 32)]


def test_one_view_is_the_first_of_all_views_and_depth_comes_with_it():
    protocol = replace(PROTOCOLS["center_224_depth"], short_side=64, size=48)
    one, every = EvalTransform("rgbd", protocol)(RGBD), ViewsTransform("rgbd", protocol)(RGBD)
    assert every.rgb.shape == (1, 1, 48, 48, 3) and every.disparity.shape == (1, 1, 48, 48, 1)
    assert np.array_equal(one.rgb, every.rgb[0]) and np.array_equal(
        one.disparity, every.disparity[0]
    )


def test_transforms_that_make_no_sense_are_named():
    with pytest.raises(ValueError, match="12 views a sample; make a ViewsTransform"):
        EvalTransform("video", PROTOCOLS["4x3"])
    for transform in (EvalTransform, ViewsTransform):
        with pytest.raises(ValueError, match="'rgbd' has a depth convention"):
            transform("rgbd", PROTOCOLS["center_224"])


def test_the_spelling_of_older_configs_is_read():
    assert config(crop="centre") == config(crop="center")
    row = {"kind": "image", "batch_size": 8, "crop": "centre"}
    assert build(DatasetConfig, row, "data.mine").crop == "center"


def test_a_run_validates_with_one_view_in_the_center():
    row = config("rgbd", depth_missing="near", interpolation="bicubic")
    assert row.protocol(1.5) == Protocol(
        short_side=64,
        size=64,
        interpolation="bicubic",
        depth=DepthConvention("near", disparity_max=1.5),
    )
    assert config().protocol(75.0) == Protocol(short_side=64, size=64, antialias=True)


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
        train(record, config(kind), 0)
    assert error.value.id == record.id
    with pytest.raises(BadRecord, match=says):
        evaluate(record, config(kind))


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"frames": 2}, "frames=2; a dataset of kind 'image' has 1"),
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


@pytest.mark.parametrize("crop", ["random_resized", "center", "shift"])
@pytest.mark.parametrize("kind", ["image", "rgbd"])
@pytest.mark.parametrize("shape", [(2, 9000), (9000, 2), (1, 3000)])
def test_a_very_long_picture_costs_no_more_than_others(monkeypatch, shape, kind, crop):
    areas = []
    resize = image_ops.resize

    def measured(frames, height, width, *args, **keys):
        areas.append(height * width)
        return resize(frames, height, width, *args, **keys)

    monkeypatch.setattr(image_ops, "resize", measured)
    depth = png(np.full(shape, 900, np.uint16)) if kind == "rgbd" else None
    record = Record("x", 0, png(np.full((*shape, 3), 90, np.uint8)), "", depth, 500.0, 0.1, 0.001)
    for load in (train, evaluate):
        assert load(record, config(kind, crop=crop), 0).rgb.shape == (1, 64, 64, 3)
    assert max(areas) <= 18 * 64 * 64


def test_what_the_crop_sees_of_a_very_long_picture_is_what_it_saw_uncut(monkeypatch):
    record = Record("x", 0, png(np.ascontiguousarray(CHINA[200:220])), "")  # 20 x 640
    row = config(interpolation="bicubic", size=32)
    view = evaluate(record, row).rgb.astype(int)
    monkeypatch.setattr(image_ops, "MAX_ASPECT", 100)
    assert np.abs(view - evaluate(record, row).rgb).mean() < 1


@pytest.mark.parametrize("load", [train, evaluate])
def test_a_clip_that_cannot_be_read_is_a_bad_record_with_its_reason(load):
    broken = Path(__file__).parent / "cases" / "ts_joined_raw_same.ts"
    record = Record("a/7.ts", 0, broken.read_bytes(), "")
    with pytest.raises(BadRecord, match="a/7.ts: data are missing at packet 48"):
        load(record, config("video", frames=4), 0)
