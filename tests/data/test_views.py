from dataclasses import replace

import numpy as np
import pytest
import scipy.special

from omnivore_jax.data.image_ops import Box
from omnivore_jax.data.protocol import PROTOCOLS, Protocol
from omnivore_jax.data.views import boxes, frames_of_clips, fuse, views

TIMES = np.arange(300) / 30


def test_views_come_clip_by_clip_and_in_each_from_left_to_right():
    twelve = views(TIMES, 224, 335, PROTOCOLS["4x3"])
    assert [view.box.left for view in twelve] == [0, 56, 111] * 4
    starts = [int(k * 299 / 159) for k in (0, 40, 80, 120)]
    assert [int(view.frames[0]) for view in twelve] == np.repeat(starts, 3).tolist()
    assert all(len(view.frames) == 32 and view.box[2:] == (224, 224) for view in twelve)


@pytest.mark.parametrize(
    ("protocol", "starts", "ends"),
    [
        (PROTOCOLS["4x3"], [0, 75, 150, 225], [58, 133, 208, 283]),
        (PROTOCOLS["4x3_video_swin"], [29, 88, 148, 207], [91, 150, 210, 269]),
        (PROTOCOLS["1x3"], [4], [294]),
        (PROTOCOLS["1x1"], [118], [180]),
        (Protocol(32, "seconds", seconds=2.0), [120], [179]),
        (Protocol(32, "seconds", seconds=2.0, clips=2), [60, 180], [119, 239]),
    ],
)
def test_clips_lie_where_their_protocol_says(protocol, starts, ends):
    clips = frames_of_clips(TIMES, protocol)
    assert [int(clip[0]) for clip in clips] == starts
    assert [int(clip[-1]) for clip in clips] == ends
    assert all(len(clip) == 32 for clip in clips) and len(clips) == protocol.clips


def test_a_picture_has_one_frame_and_one_box_in_the_center():
    (view,) = views(np.zeros(1), 224, 300, PROTOCOLS["center_224"])
    assert view.frames.tolist() == [0] and view.box == Box(0, 38, 224, 224)


def test_three_boxes_of_a_high_picture_go_from_top_to_bottom():
    protocol = replace(PROTOCOLS["1x3"], short_side=256)
    assert [(box.top, box.left) for box in boxes(340, 256, protocol)] == [
        (0, 16),
        (58, 16),
        (116, 16),
    ]


def test_scores_of_views_are_averaged_as_logits_or_as_probabilities():
    logits = np.random.default_rng(0).normal(0, 5, (6, 12, 7)).astype(np.float32)
    logits[0] += 1000  # as large as they may be
    probabilities = scipy.special.softmax(logits, axis=-1).mean(1)
    assert fuse(logits, "logits") == pytest.approx(logits.mean(1))
    assert fuse(logits, "probs") == pytest.approx(probabilities, rel=1e-5)
    # they do not always agree: one sure view outweighs many unsure ones, as logits only
    votes = np.array([[[30.0, 0.0], [0.0, 2.0], [0.0, 2.0]]])
    assert fuse(votes, "logits").argmax() == 0 and fuse(votes, "probs").argmax() == 1
