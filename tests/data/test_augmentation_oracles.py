"""Timm and torchvision are the oracles of FACTS 3.3, on real photographs and with the same draws.

Requirements-torch.txt installs them, without it these are skipped.
"""

from functools import cache, partial
from importlib import import_module, util

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")
for package in ("torchvision", "timm"):
    if util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

import jax.numpy as jnp  # noqa: E402

from omnivore_jax.data import dataset_config, image_ops, transforms  # noqa: E402
from omnivore_jax.data.image_ops import PILLOW  # noqa: E402
from omnivore_jax.data.randaugment import (  # noqa: E402
    FILTERS,
    GEOMETRIC,
    OPERATIONS,
    Operation,
    apply,
)
from omnivore_jax.tasks.classification import ClassificationTask  # noqa: E402
from omnivore_jax.train import photometric  # noqa: E402
from omnivore_jax.train.mix import Blend, blend_pixels, cut_box, inside  # noqa: E402
from tests.media import CHINA, FLOWER  # noqa: E402
from tests.weights.torch.foreign import torchvision_models  # noqa: E402

PICTURES = {"china": CHINA, "flower": FLOWER[:300, :211]}
TIMM_NAMES = {
    "auto_contrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "PosterizeIncreasing",
    "solarize": "SolarizeIncreasing",
    "solarize_add": "SolarizeAdd",
    "color": "ColorIncreasing",
    "contrast": "ContrastIncreasing",
    "brightness": "BrightnessIncreasing",
    "sharpness": "SharpnessIncreasing",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateXRel",
    "translate_y": "TranslateYRel",
}
TOLERANCES = {
    # Largest difference. Host: levels of 255. Device: parts of 1.
    "operations of RandAugment": 0,  # both are Pillow's
    "crop and resize, bilinear": 10,  # swscale rounds its weights
    "crop and resize, bicubic": 12,  # swscale's coefficient is .6, Pillow's .5
    "resize without averaging, bilinear": 1,  # OpenCV's fixed point against floats, rounded
    "resize without averaging, bicubic": 1,
    "centre and mirror": 0,
    "brightness": 1e-6,
    "contrast": 1e-6,
    "saturation": 1e-6,
    "hue": 1e-5,  # divisions by small chroma
    "erasing": 0,
    "mix, pixels": 1e-6,
    "mix, targets": 1e-6,
}
MEANS = {
    # Mean difference in levels of 255; rounding alone makes .25. The border, where OpenCV blends
    # pixels with what comes in and Pillow does not, counts too.
    "crop and resize, bilinear": 0.3,
    "crop and resize, bicubic": 0.5,
    "moves of RandAugment, bilinear": 0.6,
    "moves of RandAugment, bicubic": 1.3,  # OpenCV's coefficient is .75, Pillow's 1 in a transform
}


@cache
def timm_augment():
    torchvision_models()  # declares the operators that timm's import asks for
    return import_module("timm.data.auto_augment")


@cache
def functional():
    torchvision_models()
    return import_module("torchvision.transforms.functional")


def check(what: str, ours, theirs) -> None:
    difference = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).max()
    assert difference <= TOLERANCES[what], (what, difference)


def check_mean(what: str, ours, theirs) -> None:
    difference = np.abs(np.asarray(ours, np.float64) - np.asarray(theirs, np.float64)).mean()
    assert difference <= MEANS[what], (what, difference)


def as_tensor(frames: np.ndarray):
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, -3)


def as_frames(tensor) -> np.ndarray:
    return tensor.movedim(-3, -1).numpy()


def test_the_operations_are_those_of_timms_increasing_set():
    assert list(TIMM_NAMES) == list(OPERATIONS)
    made = timm_augment().rand_augment_transform("rand-m9-mstd0.5-inc1", {})
    assert [op.name for op in made.ops] == list(TIMM_NAMES.values())
    assert made.num_layers == 2 and {op.prob for op in made.ops} == {0.5}
    assert {(op.magnitude, op.hparams["magnitude_std"]) for op in made.ops} == {(9, 0.5)}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_timms(monkeypatch, name, picture):
    timm = timm_augment()
    rng = np.random.default_rng(len(name))
    levels = [0.0, 7.5, 9.0, *np.clip(rng.normal(9, 0.5, 3), 0, 9.99)]
    for number, level in enumerate(levels):
        sign, resample = (1.0, -1.0)[number % 2], FILTERS[number // 2 % 2]
        monkeypatch.setattr(timm, "_randomly_negate", lambda value, sign=sign: sign * value)
        settings = {"img_mean": (128, 128, 128), "interpolation": PILLOW[resample]}
        theirs = timm.AugmentOp(TIMM_NAMES[name], 1.0, level, settings)
        ours = apply(Operation(name, float(level), sign, resample), PICTURES[picture][None])[0]
        expected = np.asarray(theirs(Image.fromarray(PICTURES[picture])))
        if name in GEOMETRIC:
            check_mean(f"moves of RandAugment, {resample}", ours, expected)
        else:
            check("operations of RandAugment", ours, expected)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_a_random_crop_of_a_picture_is_torchvisions(interpolation):
    row = dataset_config.DatasetConfig("image", 1, interpolation=interpolation)
    rng, mode = np.random.default_rng(0), functional().InterpolationMode(interpolation)
    for picture in PICTURES.values():
        for _ in range(6):
            box = image_ops.random_resized_box(rng, *picture.shape[:2])
            theirs = functional().resized_crop(Image.fromarray(picture), *box, [224, 224], mode)
            ours = transforms._resized_crop(picture[None], picture.shape[:2], box, row)
            check(f"crop and resize, {interpolation}", ours[0], theirs)
            check_mean(f"crop and resize, {interpolation}", ours[0], theirs)


def test_boxes_are_drawn_as_torchvision_draws_them():
    """Two generators: the quartiles of area, ratio and place agree."""
    crop = import_module("torchvision.transforms").RandomResizedCrop(224)
    rng, size = np.random.default_rng(0), (375, 500)
    image = Image.new("RGB", size[::-1])
    torch.manual_seed(0)
    theirs = np.array([crop.get_params(image, crop.scale, crop.ratio) for _ in range(4000)])
    ours = np.array([image_ops.random_resized_box(rng, *size) for _ in range(4000)])
    for boxes in (ours, theirs):
        assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= size).all()
    quartiles = partial(np.quantile, q=[0.1, 0.25, 0.5, 0.75, 0.9], axis=0)
    np.testing.assert_allclose(quartiles(ours), quartiles(theirs), atol=14)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_frames_are_resized_and_cropped_as_torchvision_does_to_tensors(interpolation):
    """FACTS 3.3: clips to a short side of 256, then one box for all frames; no averaging."""
    frames = np.stack([CHINA, FLOWER[: len(CHINA), : CHINA.shape[1]]])
    mode = functional().InterpolationMode(interpolation)
    height, width = image_ops.short_side(*frames.shape[1:3], 256)
    ours = image_ops.resize(frames, height, width, interpolation)
    theirs = functional().resize(as_tensor(frames).float(), [256], mode, antialias=False)
    what = f"resize without averaging, {interpolation}"
    check(what, ours, np.clip(np.round(as_frames(theirs)), 0, 255))
    box = image_ops.random_resized_box(np.random.default_rng(2), height, width)
    ours_cut = image_ops.resize(image_ops.crop(ours, box), 224, 224, interpolation)
    theirs_cut = functional().resized_crop(
        as_tensor(ours).float(), *box, [224, 224], mode, antialias=False
    )
    check(what, ours_cut, np.clip(np.round(as_frames(theirs_cut)), 0, 255))


@pytest.mark.parametrize("size", [(375, 500), (500, 375), (333, 333), (256, 257), (224, 335)])
def test_short_side_centre_and_mirror_are_torchvisions(size):
    picture = np.ascontiguousarray(np.resize(CHINA, (*size, 3)))
    resized = functional().resize(Image.fromarray(picture), [240])
    assert resized.size[::-1] == image_ops.short_side(*size, 240)
    ours = image_ops.crop(picture[None], image_ops.center_box(*size, 224))
    theirs = functional().center_crop(as_tensor(picture[None]), [224])
    check("centre and mirror", ours, as_frames(theirs))
    check("centre and mirror", image_ops.flip(ours), as_frames(functional().hflip(as_tensor(ours))))


@pytest.mark.parametrize("factor", [0.6, 0.93, 1.0, 1.4])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colours_change_as_torchvisions(name, factor):
    names = ["brightness", "contrast", "saturation"]
    factors = jnp.ones(3).at[names.index(name)].set(factor)
    jitter = photometric.Jitter(factors, jnp.float32(0), jnp.arange(3), jnp.int32(3))
    for picture in PICTURES.values():
        rgb = np.float32(picture[None]) / 255
        theirs = getattr(functional(), f"adjust_{name}")(as_tensor(rgb), factor)
        ours = photometric._blend(jnp.asarray(rgb), jitter, names.index(name))
        check(name, ours, as_frames(theirs))


@pytest.mark.parametrize("turn", [-0.4, -0.05, 0.0, 0.2, 0.4])
def test_the_hue_turns_as_torchvisions(turn):
    for picture in PICTURES.values():
        rgb = np.float32(picture[None]) / 255
        theirs = functional().adjust_hue(as_tensor(rgb), turn)
        check("hue", photometric.turn_hue(jnp.asarray(rgb), jnp.float32(turn)), as_frames(theirs))


def test_a_box_is_erased_as_torchvisions_erase_does():
    rgb = np.float32(CHINA[None, :224, :224]) / 255
    for top, left, height, width in [(0, 0, 10, 224), (30, 50, 101, 60), (200, 210, 24, 14)]:
        box = jnp.array([[top, left, top + height, left + width]])
        ours = jnp.where(inside(box, (224, 224))[..., None], 0.0, rgb)
        theirs = functional().erase(as_tensor(rgb), top, left, height, width, torch.tensor(0.0))
        check("erasing", ours, as_frames(theirs))


@pytest.mark.parametrize("seed", range(6))
def test_mixed_pixels_and_targets_are_timms_batch_mode(seed):
    """Partners are those of a reversed batch here, as timm has them; ours are neighbours."""
    torchvision_models()
    timm = import_module("timm.data.mixup")
    mixup = timm.Mixup(0.8, 1.0, prob=1.0, label_smoothing=0.1, num_classes=10)
    # one box for all frames of a clip: time is folded into the channels (FACTS 3.3)
    cuts = [CHINA[10 * k : 10 * k + 64, 20 * k : 20 * k + 95] for k in range(8)]
    x = np.float32(np.stack(cuts)).reshape(4, 2, 64, 95, 3) / 255
    labels = np.array([3, 1, 7, 3])
    folded = torch.from_numpy(x).permute(0, 4, 1, 2, 3).reshape(4, 6, 64, 95).clone()
    np.random.seed(seed)
    mixed, targets = mixup(folded, torch.from_numpy(labels))
    np.random.seed(seed)
    share, cut = mixup._params_per_batch()
    box, own = timm.cutmix_bbox_and_lam(folded.shape, share) if cut else ((0, 0, 0, 0), share)
    top, bottom, left, right = box
    blend = Blend(
        jnp.full(4, own, jnp.float32),
        jnp.tile(jnp.array([[top, left, bottom, right]]), (4, 1)),
        jnp.full(4, bool(cut)),
    )
    ours = blend_pixels(jnp.asarray(x), jnp.asarray(x[::-1]), blend)
    check("mix, pixels", ours, mixed.reshape(4, 3, 2, 64, 95).permute(0, 2, 3, 4, 1).numpy())
    task, other = ClassificationTask("image", 10), labels[::-1].copy()
    check("mix, targets", task.targets(jnp.asarray(labels), jnp.asarray(other), blend.own), targets)


@pytest.mark.parametrize("share", [0.0, 0.21, 0.5, 0.9])
def test_boxes_of_cutmix_are_timms_but_for_the_odd_pixel(share):
    """Since 1.0.8 timm keeps the odd row and column, which the released recipe cuts off."""
    torchvision_models()
    timm = import_module("timm.data.mixup")
    for seed in range(10):
        np.random.seed(seed)
        top, bottom, left, right = timm.rand_bbox((3, 96, 127), share)
        np.random.seed(seed)
        centre = np.random.randint(0, 96), np.random.randint(0, 127)
        ours = np.asarray(cut_box(jnp.float32(share), jnp.array(centre), (96, 127)))
        difference = np.array([top, left, bottom, right]) - ours
        assert (difference[:2] == 0).all() and set(difference[2:].tolist()) <= {0, 1}
