import json
import subprocess
import sys

import pytest

from omnivore_jax.core.config import ConfigError
from omnivore_jax.data.protocol import PROTOCOLS, DepthConvention, Protocol, from_prose

PICTURE = {
    "frames": 1,
    "size": [224, 224],
    "resize": "short side 224",
    "crop": "centre 224",
    "interpolation": "bicubic",
    "views": "1",
}
CLIP = PICTURE | {"modality": "video", "frames": 32, "interpolation": "bilinear"}
INPUTS = {
    "image": PICTURE | {"modality": "image"},
    "rgbd": PICTURE | {"modality": "rgbd", "disparity": {"missing": "0 is the nearest value"}},
    "video": CLIP
    | {
        "views": "4 x 3: 160 frames evenly over the first 10 s, 32 consecutive from 0, 40, 80, "
        "120; 3 crops of 224 along the longer side; mean of the logits"
    },
    "epic": CLIP | {"views": "1 x 3: the middle frames of 32 equal segments; 3 crops of 224"},
}
"""What cards said before they had protocols."""
WIDE = {"size": [384, 384], "resize": "short side 384", "crop": "centre 384"}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_protocol_survives_json(name):
    text = json.dumps(PROTOCOLS[name].to_json())
    assert Protocol.from_json(json.loads(text)) == PROTOCOLS[name]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("1x1", "1 x 1: 32 frames at stride 2 in the middle; short side 224, bilinear; center 224"),
        (
            "4x3",
            "4 x 3: 160 frames evenly over the first 10 s, 32 consecutive from 0, 40, 80, 120; "
            "short side 224, bilinear; 3 crops of 224 along the longer side; mean of the logits",
        ),
        (
            "4x3_video_swin",
            "4 x 3: 32 frames at stride 2 from 4 equal parts; short side 224, bilinear; "
            "3 crops of 224 along the longer side; mean of the probabilities",
        ),
        (
            "1x3",
            "1 x 3: the middle frames of 32 equal segments; short side 224, bilinear; "
            "3 crops of 224 along the longer side; mean of the logits",
        ),
        ("slide", "1 x 1: windows of 224 over the whole picture, one every 149"),
        ("center_384", "1 x 1: short side 384, bicubic, antialiased; center 384"),
        (
            "center_224_depth",
            "1 x 1: short side 224, bicubic; center 224; missing depth is near, disparity clamped "
            "to 0.01 .. 75",
        ),
    ],
)
def test_a_protocol_is_said_in_one_line_of_words(name, says):
    assert PROTOCOLS[name].describe() == says


def test_seconds_are_said_too():
    words = Protocol(32, "seconds", seconds=2.0).describe()
    assert words.startswith("1 x 1: 32 frames evenly over 2 s in the middle;")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"frames": 0}, "frames=0; use 1 or more"),
        ({"seconds": 0.0}, "seconds=0.0"),
        ({"short_side": 200}, "short_side=200 is below size=224"),
        ({"clip": "segments", "clips": 2}, "clips=2; clip='segments' has 1"),
        (
            {"clip": "paper", "clips": 4, "frames": 41},
            "frames=41; 4 clips of clip='paper' have",
        ),
        ({"crops": 2}, "crops=2; use one of 1, 3"),
        ({"colour": 1}, "protocol.colour is not a known key"),
    ],
)
def test_a_protocol_that_makes_no_sense_is_named(keys, says):
    with pytest.raises(ConfigError, match=says):
        Protocol.from_json(keys)


def test_a_depth_convention_that_makes_no_sense_is_named():
    with pytest.raises(ValueError, match="disparity_max=0.0; use 0 or more, and a larger one"):
        DepthConvention(disparity_max=0.0)


@pytest.mark.parametrize(
    ("head", "name"),
    [("image", "center_224"), ("rgbd", "center_224_depth"), ("video", "4x3"), ("epic", "1x3")],
)
def test_cards_of_released_weights_in_words_mean_the_named_protocols(head, name):
    assert from_prose(INPUTS[head]) == PROTOCOLS[name]


def test_cards_of_wide_models_and_of_runs_in_words_are_read():
    assert from_prose(INPUTS["image"] | WIDE) == PROTOCOLS["center_384"]
    run = {
        "modality": "rgbd",
        "frames": 1,
        "size": [32, 32],
        "resize": "short side 32",
        "crop": "centre 32",
        "interpolation": "bilinear",
        "views": "1",
    }
    depth = DepthConvention("far", disparity_max=1.5)
    assert from_prose(run, 1.5) == Protocol(short_side=32, size=32, depth=depth)
    clips = run | {"modality": "video", "frames": 8}
    assert from_prose(clips) == Protocol(8, "stride", 2, short_side=32, size=32)


@pytest.mark.parametrize(
    "inputs",
    [
        {"modality": "image"},
        INPUTS["image"] | {"views": "as you like"},
        INPUTS["image"] | {"size": None},
        INPUTS["image"] | {"views": 3},
        INPUTS["image"] | {"resize": "none"},
    ],
)
def test_what_is_no_protocol_is_none(inputs):
    assert from_prose(inputs) is None


def test_cards_are_read_without_a_decoder_or_an_image_library():
    code = (
        "import sys, omnivore_jax.data.protocol; "
        "assert not {'cv2', 'PIL', 'av', 'jax', 'grain'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
