import json
from dataclasses import replace

import jax
import numpy as np
import pytest

import omnivore_jax as ov
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.tree import flatten
from omnivore_jax.data.protocol import PROTOCOLS
from omnivore_jax.model.params import abstract_model, init_params, merge
from omnivore_jax.model.variants import model_config
from omnivore_jax.weights.accounts import lines
from omnivore_jax.weights.card import make_card
from omnivore_jax.weights.conversion import convert
from omnivore_jax.weights.initial import plan_initial, read_initial
from omnivore_jax.weights.lazy import lazy
from omnivore_jax.weights.opening import open_weights
from omnivore_jax.weights.safetensors import write_safetensors
from tests.params import random_params
from tests.weights.torch import layout_files
from tests.weights.torch.layout_files import CONFIG, PLAIN, arrays, channels_last, golden, weights

TABLE = "trunk.layers.0.blocks.1.attn.relative_position_bias_table"


@pytest.fixture
def source(tmp_path):
    return layout_files.save(tmp_path / "source", layout_files.released())


def converted(source, name="w.safetensors", **request):
    return convert(source, source.with_name(name), replace(PLAIN, **request))


def counts(job):
    return {kind: job.count(kind) for kind in ("matched", "transformed", "fresh", "unused")}


def test_released_weights_score_as_the_released_code_does(source):
    job = converted(source)
    assert counts(job) == {"matched": 129, "transformed": 0, "fresh": 0, "unused": 0}
    model = ov.load(source.with_name("w.safetensors"))
    x, want = channels_last(golden.make_input("image112")), arrays("fanin")
    logits = model(x, "image")
    np.testing.assert_allclose(logits, want["image112/logits_image"], atol=1e-5)


def test_the_card_says_all_that_is_known(source, tmp_path):
    (tmp_path / "scenes.json").write_text(json.dumps({str(i): f"scene {i}" for i in range(19)}))
    (tmp_path / "actions.json").write_text(json.dumps({f'"action {i}"': i for i in range(400)}))
    (tmp_path / "things.json").write_text(
        json.dumps({str(i): [f"n{i}", f"thing {i}"] for i in range(1000)})
    )
    files = {"rgbd": "scenes", "video": "actions", "image": "things"}
    converted(
        source, classes={head: str(tmp_path / f"{name}.json") for head, name in files.items()}
    )
    card = ov.load(source.with_name("w.safetensors")).card
    assert dict(card) == json.loads(source.with_name("w.json").read_text()) == json.loads(str(card))
    assert card["heads"] == {"image": 1000, "rgbd": 19, "video": 400} and card["variant"] == "tiny"
    assert [card["classes"][h][7] for h in card["heads"]] == ["thing 7", "scene 7", "action 7"]
    assert card["model"]["position_bias"] == "joint" and card["model"]["window_index"] == "released"
    assert card["preprocessing"]["rgbd"]["disparity_mean"] == 0.0418
    assert card["licence"].endswith("if these are the released Omnivore weights or made from them")
    assert (
        "8 x metres" in card["inputs"]["rgbd"]["disparity"]["depth"]
        and card["inputs"]["video"]["protocol"] == PROTOCOLS["4x3"].to_json()
    )
    assert card["source"]["layout"] == "released Omnivore" and len(card["source"]["sha256"]) == 64
    assert card["licence"].startswith("CC-BY-NC 4.0") and any(
        "voxels" in limit for limit in card["limits"]
    )
    assert card["certificate"] == {"status": "not run"}
    again = converted(source.with_name("w.safetensors"), "v.safetensors", heads=["scenes=rgbd"])
    assert again.card["classes"] == {"scenes": [f"scene {i}" for i in range(19)]}
    assert (
        again.card["source"]["before"] == card["source"]
        and again.card["licence"] == card["licence"]
    )


@pytest.mark.parametrize(
    ("change", "request_", "says"),
    [
        (
            lambda s: s.pop("trunk.norm.weight"),
            {},
            "lacks trunk.norm.scale; permit it by --allow-missing",
        ),
        (lambda s: [s.pop(k) for k in list(s)[::2]], {}, "is missing|lacks|trunk"),
        (
            lambda s: s.update(extra=np.zeros(1, np.float32)),
            {},
            "has, unused, extra; permit it by --allow-unused",
        ),
        (
            lambda s: s.update({"trunk.norm.weight": np.zeros(3, np.float32)}),
            {},
            r"has shape \[3\] where a tiny has",
        ),
        (
            lambda s: s.update({"trunk.norm.weight": np.zeros(192, np.int32)}),
            {},
            "is int32; weights are floating",
        ),
        (
            lambda s: s["trunk.norm.weight"].__setitem__(3, np.nan),
            {},
            "holds 1 values that are not finite",
        ),
        (lambda s: None, {"heads": ["nose"]}, "for a fresh one write nose:CLASSES"),
        (lambda s: None, {"heads": ["image:x"]}, "'x' is no number of classes"),
        (lambda s: None, {"heads": ["image", "image"]}, "name every head once"),
        (
            lambda s: None,
            {"heads": ["a.b=image"]},
            "--heads=a.b=image: head='a.b' is no name; use a letter",
        ),
        (lambda s: None, {"heads": ["=image"]}, "head='' is no name"),
        (
            lambda s: None,
            {"heads": ["image=video:7"]},
            "'video' has 400 classes; write image=video to rename it",
        ),
        (lambda s: None, {"keep_image": True}, "give both"),
        (lambda s: None, {"position_bias": "factored"}, "--allow-lossy for the nearest"),
        (lambda s: None, {"classes": {"image": "/nowhere"}}, "/nowhere cannot be read"),
        (lambda s: None, {"classes": {"nose": "timm"}}, "name one of them"),
        (
            lambda s: None,
            {"depth_embed": "separate"},
            "lacks trunk.depth_patch_embed.* permit it by --allow-missing",
        ),
        (
            lambda s: s.update({"heads.image.bias": np.zeros(999, np.float32)}),
            {},
            r"heads.image.bias has shape \[999\]",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(tmp_path, change, request_, says):
    state = {name: array.copy() for name, array in layout_files.released().items()}
    change(state)
    source = layout_files.save(tmp_path / "source", state)
    with pytest.raises(UserError, match=says) as failed:
        converted(source, **request_)
    assert "\n" not in str(failed.value) and list(tmp_path.iterdir()) == [source]


def test_what_is_permitted_is_drawn_afresh_or_left_out_and_said(tmp_path):
    state = {n: a for n, a in layout_files.released().items() if "depth_patch_embed" not in n}
    source = layout_files.save(tmp_path / "source", state | {"extra": np.zeros(1, np.float32)})
    permit = {
        "depth_embed": "summed",
        "allow_missing": ("trunk.depth_patch_embed.*",),
        "allow_unused": ("extra",),
    }
    job = converted(source, **permit, seed=3)
    assert counts(job) == {"matched": 125, "transformed": 0, "fresh": 4, "unused": 1}
    name = "trunk.depth_patch_embed.proj.kernel"
    drawn = jax.jit(lambda key: flatten(init_params(CONFIG, golden.HEADS, key))[name])(
        jax.random.key(3)
    )
    found = open_weights(tmp_path / "w.safetensors").arrays[name].read()
    np.testing.assert_array_equal(found, drawn)
    assert sum("fresh" in line for line in lines(job.rows)) == 4 and "extra" in lines(job.rows)[-1]


def test_heads_are_kept_renamed_dropped_and_made(source):
    job = converted(source, heads=["image", "clips=video", "scenes:7", "rgbd:19"])
    assert (
        job.heads == {"image": 1000, "clips": 400, "scenes": 7, "rgbd": 19}
        and job.count("fresh") == 2
    )
    held = open_weights(source.with_name("w.safetensors")).arrays
    golden_arrays = layout_files.golden_params()
    np.testing.assert_array_equal(
        held["heads.clips.kernel"].read(), golden_arrays["heads.video.kernel"]
    )
    assert converted(source, heads=[]).heads == {}


def test_half_precision_becomes_float32_by_rule(tmp_path):
    state = {name: array.astype(np.float16) for name, array in layout_files.released().items()}
    job = converted(layout_files.save(tmp_path / "source", state))
    assert counts(job)["transformed"] == 129 and "(from float16)" in lines(job.rows)[0]


@pytest.mark.parametrize("layout", ["microsoft", "timm", "torchvision2d"])
def test_a_2d_swin_is_inflated(tmp_path, layout):
    _, state = layout_files.files()[layout]
    job = converted(layout_files.save(tmp_path / "source", state))
    assert job.config == replace(CONFIG, depth_embed="none")
    assert counts(job) == {"matched": 112, "transformed": 9, "fresh": 0, "unused": 0}
    held, want = open_weights(tmp_path / "w.safetensors").arrays, layout_files.golden_params()
    middle = want[f"{TABLE}.joint"].reshape(7, 169, -1)[3]
    np.testing.assert_array_equal(held[f"{TABLE}.joint"].read(), np.tile(middle, (7, 1)))
    kernel = held["trunk.patch_embed.proj.kernel"].read()
    np.testing.assert_array_equal(
        kernel, np.repeat(want["trunk.patch_embed.proj.kernel"][:1] / 2, 2, axis=0)
    )


def test_the_factored_bias_becomes_joint_without_a_change_of_what_is_computed(tmp_path):
    config = replace(model_config("demo"), position_bias="factored", window_index="geometric")
    heads = {"image": 10}
    params = random_params(config, heads)
    source = tmp_path / "source"
    write_safetensors(
        source,
        {p: lazy(np.asarray(x)) for p, x in flatten(params).items()},
        make_card(config, heads, {}),
    )
    job = converted(source, position_bias="joint")
    assert job.config == replace(config, position_bias="joint")
    x = np.random.default_rng(0).standard_normal((1, 3, 40, 40, 3), np.float32)
    both = [ov.load(path) for path in (source, tmp_path / "w.safetensors")]
    one, other = (model(x) for model in both)
    np.testing.assert_array_equal(one, other)
    back = converted(
        tmp_path / "w.safetensors", "v.safetensors", position_bias="factored", allow_lossy=True
    )
    rules = [row.rule for row in back.rows if "joint to factored" in row.rule]
    assert rules == ["joint to factored: least squares, residual 0.00% of the table's norm"] * 8


def test_an_inflated_swin_is_factored_without_loss(tmp_path):
    _, state = layout_files.files()["microsoft"]
    job = converted(layout_files.save(tmp_path / "source", state), position_bias="factored")
    assert job.config.position_bias == "factored"
    held, joint = (
        open_weights(tmp_path / "w.safetensors").arrays,
        layout_files.golden_params()[f"{TABLE}.joint"],
    )
    np.testing.assert_array_equal(held[f"{TABLE}.spatial"].read(), joint.reshape(7, 169, -1)[3])
    assert not held[f"{TABLE}.temporal"].read().any()


def test_a_destination_keeps_what_is_not_ours(source):
    (source.parent / "mine.json").write_text('{"mine": 1}')
    with pytest.raises(UserError, match="mine.json, where the card goes, holds something else"):
        converted(source, "mine.safetensors")
    assert (source.parent / "mine.json").read_text() == '{"mine": 1}' and len(
        list(source.parent.iterdir())
    ) == 2
    converted(source)
    converted(source)  # a card of ours is replaced
    ours = source.with_name("w.safetensors")
    with pytest.raises(UserError, match="is the source or holds it, which would be lost"):
        convert(ours, ours, replace(PLAIN, heads=[]))


def test_values_that_are_not_finite_are_counted_where_they_are_permitted(tmp_path):
    state = {name: array.copy() for name, array in layout_files.released().items()}
    state["trunk.norm.weight"][[3, 5]] = np.nan
    source = layout_files.save(tmp_path / "source", state)
    job = converted(source, allow_nonfinite=True, certificate=True)
    assert job.card["certificate"]["not_finite"] == {"trunk.norm.scale": 2}
    assert "  not finite       2  values of trunk.norm.scale" in job.text()
    assert "certificate: not run: the weights hold values that are not finite" in job.text()
    with pytest.raises(
        UserError,
        match="is not certified: not run: the weights hold values that are not finite; noth",
    ):
        converted(source, "v.safetensors", allow_nonfinite=True, certify=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"heads": {"image": "x"}}, "has 'x' classes"),
        ({"heads": {"image": -5}}, "has -5 classes"),
        ({"heads": {"a.b": 5}}, "head='a.b' is no name"),
        ({"classes": {"image": ["one"]}}, "classes of 'image' are no list of 1000 names"),
        ({"classes": "x"}, "classes is 'x', no section"),
        ({"certificate": "passed"}, "certificate is 'passed', no section"),
    ],
)
def test_a_card_that_lies_is_one_line(source, change, says):
    card = dict(converted(source).card) | change
    path = source.with_name("v.safetensors")
    write_safetensors(path, open_weights(source.with_name("w.safetensors")).arrays, card)
    for use in (open_weights, ov.load):
        with pytest.raises(UserError, match=says):
            use(path)


@pytest.mark.parametrize(
    "field", [{"num_heads": [0, 0, 0, 0]}, {"depths": [2, 2, 10**7, 2]}, {"embed_dim": -24}]
)
def test_a_card_of_an_impossible_model_is_one_line(source, field):
    card = dict(converted(source).card)
    path = source.with_name("v.safetensors")
    write_safetensors(path, {}, card | {"model": card["model"] | field})
    with pytest.raises(
        UserError, match="its card describes no model .*use numbers of 1 or more, and up to"
    ):
        open_weights(path)


def test_training_starts_from_other_peoples_weights(source):
    config = model_config("tiny")
    plan = plan_initial(source, config, {"image": 1000, "video": 7, "mine": 3})
    params, found, rows = read_initial(plan), plan.config, plan.rows
    assert found == replace(config, position_bias="joint", window_index="released")
    shapes = flatten(abstract_model(found, {"image": 1000, "video": 7, "mine": 3})[1])
    assert {p: x.shape for p, x in flatten(params).items()} == {
        p: x.shape for p, x in shapes.items()
    }
    np.testing.assert_array_equal(
        flatten(params)["trunk.norm.scale"], layout_files.golden_params()["trunk.norm.scale"]
    )
    assert {row.path for row in rows if row.kind == "fresh"} == {
        f"heads.{head}.{leaf}" for head in ("video", "mine") for leaf in ("kernel", "bias")
    }
    merge(abstract_model(found, {"image": 1000, "video": 7, "mine": 3})[0], params)


def test_training_starts_from_a_2d_swin_with_depth_and_another_window(tmp_path):
    _, state = layout_files.files()["microsoft"]
    config = replace(model_config("tiny"), window=(2, 4, 4))
    plan = plan_initial(layout_files.save(tmp_path / "source", state), config, {"rgbd": 19})
    found, rows = plan.config, plan.rows
    assert (found.window, found.depth_embed, found.position_bias) == ((2, 4, 4), "summed", "joint")
    assert {row.path.split(".")[1] for row in rows if row.kind == "fresh"} == {
        "depth_patch_embed",
        "rgbd",
    }
    assert any(
        "bicubic over space: window 7 x 7 to 4 x 4; inflated over time: window 1 to 2" in r.rule
        for r in rows
    )


def test_training_refuses_what_does_not_fit(source):
    with pytest.raises(UserError, match="embed_dim=24, the model omnivore_swin_t has 96"):
        plan_initial(source, model_config("omnivore_swin_t"), {})
    with pytest.raises(
        UserError, match="init_from: .* has joint .*in a config 'auto'.*convert from-torch"
    ):
        plan_initial(source, model_config("tiny"), {}, position_bias="factored")


def test_a_file_of_pytorchs_is_loaded_as_its_conversion(source):
    converted(source)
    ours, theirs = ov.load(source.with_name("w.safetensors")), ov.load(source)
    assert ours.config == theirs.config and ours.heads == theirs.heads
    x = np.random.default_rng(0).standard_normal((2, 1, 32, 32, 3)).astype(np.float32)
    for head in ours.heads:
        np.testing.assert_array_equal(ours(x, head), theirs(x, head))
    assert ours.card["inputs"] == theirs.card["inputs"]


def test_a_file_that_its_card_does_not_describe_is_refused(source):
    converted(source)
    path = source.with_name("w.safetensors")
    content = path.read_bytes()
    path.write_bytes(content.replace(b'\\"embed_dim\\": 24', b'\\"embed_dim\\": 48'))
    with pytest.raises(UserError, match="where the card says"):
        ov.load(path)


def test_the_golden_weights_are_what_the_files_of_these_tests_hold():
    assert set(layout_files.golden_params()) == set(flatten(weights("fanin")))


@pytest.mark.parametrize(
    ("shape", "key"),
    [
        ((24 * 4, 0), "trunk.layers.0.blocks.0.mlp.fc1.weight"),
        ((0, 24), "trunk.layers.0.blocks.0.mlp.fc1.weight"),
        ((1183, 5), "trunk.layers.0.blocks.0.attn.relative_position_bias_table"),
        ((1183, 0), "trunk.layers.0.blocks.0.attn.relative_position_bias_table"),
        ((24, 3, 2, 0, 4), "trunk.patch_embed.proj.weight"),
    ],
)
def test_shapes_of_no_model_are_one_line(tmp_path, shape, key):
    state = layout_files.released() | {key: np.zeros(shape, np.float32)}
    with pytest.raises(UserError, match="has shapes that are of no Swin"):
        open_weights(layout_files.save(tmp_path / "source", state))


def test_a_head_without_a_usable_name_is_renamed(tmp_path):
    state = layout_files.renamed(layout_files.released(), (r"^heads\.image\.", "heads.my head."))
    source = layout_files.save(tmp_path / "source", state)
    with pytest.raises(
        UserError, match="head='my head' is no name.*rename it by --heads=NEW=my head"
    ):
        converted(source)
    assert converted(source, heads=["norm=my head"]).heads == {"norm": 1000}


def test_a_fresh_head_is_fed_as_the_others_are(source):
    converted(source)
    job = converted(source.with_name("w.safetensors"), "v.safetensors", heads=["image", "scenes:7"])
    assert job.card["preprocessing"]["scenes"] == job.card["preprocessing"]["image"]
    assert "assumed: inputs of head scenes standardised as those of another" in job.text()
