"""Certificates where PyTorch is there.

They pass for every form of the model and fail for another model.
"""

import json

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from omnivore_jax.core.tree import flatten  # noqa: E402
from omnivore_jax.model.params import abstract_model, merge  # noqa: E402
from omnivore_jax.model.trunk import stage_names  # noqa: E402
from omnivore_jax.model.variants import model_config  # noqa: E402
from omnivore_jax.weights.lazy import lazy  # noqa: E402
from omnivore_jax.weights.torch.certificate import compare, lines, run_torch  # noqa: E402  (needs torch)
from omnivore_jax.weights.torch.hub.omnivore import Omnivore  # noqa: E402
from omnivore_jax.weights.torch.state_dict import torch_state  # noqa: E402
from tests.params import random_params  # noqa: E402

HEADS = {"video": 5, "image": 4, "birds_2": 3}
SMALL = {"embed_dim": 8, "num_heads": (1, 2, 2), "depths": (2, 2, 1), "window": (2, 3, 3)}
FORMS = {
    "factored": {"position_bias": "factored", "window_index": "geometric", "depth_embed": "summed"},
    "released": {
        "position_bias": "joint",
        "window_index": "released",
        "depth_embed": "shared",
        "patch": (1, 2, 3),
    },
}


def make(**changes):
    config = model_config("tiny", **SMALL | changes)
    return config, random_params(config, HEADS)


def state_of(params):
    return torch_state({path: lazy(np.asarray(leaf)) for path, leaf in flatten(params).items()})


def compared(config, params, state=None):
    expected = run_torch(config, HEADS, state_of(params) if state is None else state, "it")
    return compare(expected, config, HEADS, params)


def test_a_factored_bias_and_the_geometric_index_agree_and_the_released_index_is_measured():
    config, params = make(**FORMS["factored"])
    report = compared(config, params)
    assert report["status"] == "passed", report["over"]
    assert set(report["logits"]) == set(HEADS)
    assert set(report["stages"]) == {"embedding", "interim0", "interim1", "interim2"}
    assert set(report["inputs"]) == {"image", "video", "rgbd", "small"}
    assert 0 < report["features"] < 1e-5 and 0 < max(report["logits"].values()) < 1e-5
    assert report["as_released"]["small"] > 1e-2  # the window is clamped along its width
    assert report["inputs"]["rgbd"]["shape"][-1] == 4
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_a_joint_bias_the_released_index_and_shared_depth_agree():
    config, params = make(**FORMS["released"])
    report = compared(config, jax.device_put(params))
    assert report["status"] == "passed", report["over"]
    assert "as_released" not in report


def test_weights_that_differ_fail_with_the_place():
    config, params = make(**FORMS["factored"])
    state = state_of(params)
    name = "trunk.layers.1.blocks.1.attn.relative_position_bias_table"
    state[name] = state[name][
        ::-1
    ].copy()  # offsets the other way round: a mistake that no shape shows
    report = compared(config, params, state)
    assert report["status"] == "failed"
    assert report["stages"]["interim0"] < 2e-5 < report["stages"]["interim1"]
    places = [text.split(":")[0] for text in report["over"]]
    assert "stages.interim1 of image" in places and "logits.birds_2 of small" in places
    assert not any("interim0" in place for place in places)
    assert lines(report)[0].startswith(
        "certificate: failed (PyTorch ran it); largest differences: features 0."
    )
    assert lines(report)[1:11] == [f"  over its limit: {text}" for text in report["over"][:10]]
    assert lines(report)[11:] == [f"  and {len(places) - 10} more"]


def test_a_head_of_its_own_fails_alone():
    config, params = make(**FORMS["factored"])
    state = state_of(params)
    state["heads.video.1.bias"] = state["heads.video.1.bias"] + np.float32(1e-3)
    assert {place.split(" ")[0] for place in compared(config, params, state)["over"]} == {
        "logits.video"
    }


def test_values_that_are_no_numbers_fail_and_are_null():
    config, params = make(**FORMS["factored"])
    params["heads"]["image"]["bias"] = np.full(4, np.nan, np.float32)
    report = compared(config, params)
    assert (report["status"], report["logits"]["image"]) == ("failed", None)
    assert report["logits"]["video"] < 1e-5


@pytest.mark.parametrize("kind", ["summed", "separate", "shared", "none"])
def test_every_embedding_of_depth_is_the_same_in_pytorch(kind):
    config, params = make(depth_embed=kind, depths=(1,), num_heads=(1,))
    ours, theirs = both(config, params)
    for channels in (3,) if kind == "none" else (3, 4):
        x = np.random.default_rng(0).standard_normal((2, 3, 9, 10, channels), np.float32)
        found = theirs.trunk.embed(torch.from_numpy(x)).detach()
        np.testing.assert_allclose(found, ours.trunk.embed(jax.device_put(x)), rtol=0, atol=2e-6)
    with pytest.raises(
        ValueError, match=r"takes 3 \(RGB\)" + (", in" if kind == "none" else " or 4")
    ):
        theirs(torch.zeros(1, 5 - (kind == "none"), 1, 8, 8))


def test_maps_have_the_names_and_values_of_ours():
    config, params = make(**FORMS["released"])
    ours, theirs = both(config, params)
    x = np.random.default_rng(0).standard_normal((1, 1, 24, 36, 3), np.float32)
    expected = jax.jit(lambda x: ours.features(x, stage_names(config)))(x)
    with torch.no_grad():
        found = theirs.features(torch.from_numpy(x).movedim(-1, 1), stage_names(config))
    assert list(found) == stage_names(config)
    for name, value in found.items():
        np.testing.assert_allclose(
            value.movedim(1, -1), expected[name], rtol=0, atol=5e-5, err_msg=name
        )


def both(config, params):
    card = {"model": vars(config), "heads": HEADS}
    theirs = Omnivore(card).eval()
    theirs.load_state_dict(
        {name: torch.from_numpy(array.copy()) for name, array in state_of(params).items()}
    )
    return merge(abstract_model(config, HEADS)[0], jax.device_put(params)), theirs
