"""A head that is no linear classifier lives in cards and files as any other does."""

import json

import numpy as np
import pytest

import omnivore_jax as ov
from omnivore_jax import convert
from omnivore_jax.convert import Options
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.tree import flatten
from omnivore_jax.model import heads as kinds
from omnivore_jax.model.variants import model_config
from omnivore_jax.weights.card import make_card, read_card
from omnivore_jax.weights.initial import plan_initial, read_initial
from omnivore_jax.weights.lazy import lazy
from omnivore_jax.weights.opening import open_weights
from omnivore_jax.weights.safetensors import write_safetensors
from tests.params import random_params
from tests.tasks.test_another_task import MapSpec

CONFIG = model_config("demo", depths=(1, 1), num_heads=(1, 1))
HEADS = {"image": 4, "map": MapSpec(3)}
PLAIN = Options(certificate=False, json=True)
SAID = {"kind": "MapSpec", "classes": 3}


@pytest.fixture(scope="module")
def params():
    return flatten(random_params(CONFIG, HEADS))


@pytest.fixture
def file(tmp_path, params, monkeypatch):
    monkeypatch.setitem(kinds.HEAD_KINDS, "MapSpec", MapSpec)
    card = make_card(CONFIG, HEADS, {}, classes={"map": ["sky", "sea", "land"]})
    write_safetensors(tmp_path / "f", {path: lazy(x) for path, x in params.items()}, card)
    return tmp_path / "f"


def answer(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_card_says_its_kind_and_fields_and_is_read_back(file):
    card = json.loads(str(ov.load(file).card))
    assert card["heads"] == {"image": 4, "map": SAID}
    assert read_card(card).heads == open_weights(file).heads == HEADS


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"kind": "Nose"}, "head 'map' is of kind 'Nose'; this version knows linear"),
        ({"kind": ["MapSpec"]}, "its card describes no model"),
        ({"kind": "MapSpec", "noses": 3}, "heads.map.noses is not a known key"),
        ({"kind": "MapSpec", "classes": "x"}, "heads.map.classes"),
        ({"classes": 3}, "head 'map' has {'classes': 3} classes"),
    ],
)
def test_a_kind_that_is_not_known_is_one_line(file, params, tmp_path, said, says):
    card = make_card(CONFIG, HEADS, {}) | {"heads": {"image": 4, "map": said}}
    write_safetensors(tmp_path / "g", {path: lazy(x) for path, x in params.items()}, card)
    with pytest.raises(UserError, match=says) as failed:
        open_weights(tmp_path / "g")
    assert "\n" not in str(failed.value)


def test_without_the_table_the_kind_is_not_known(file, monkeypatch):
    monkeypatch.delitem(kinds.HEAD_KINDS, "MapSpec")
    with pytest.raises(UserError, match="this version knows linear classifiers, UPerNetSpec"):
        ov.load(file)


def test_it_is_inspected_and_compared(file, tmp_path, params, capsys):
    convert.inspect(PLAIN, file)
    content = answer(capsys)
    assert content["heads"] == {"image": 4, "map": SAID} and content["fits"] is None
    convert.inspect(Options(), file)
    assert "image (4 classes), map (MapSpec)\n" in capsys.readouterr().out
    changed = {path: x + ("heads.map.near" in path) for path, x in params.items()}
    card = make_card(CONFIG, HEADS, {})
    write_safetensors(tmp_path / "g", {path: lazy(x) for path, x in changed.items()}, card)
    assert convert.diff(PLAIN, file, tmp_path / "g") == 1
    differing = {r["path"] for r in answer(capsys)["tensors"] if r["verdict"] == "differs"}
    assert differing == {"heads.map.near.kernel", "heads.map.near.bias"}


def test_it_is_kept_renamed_dropped_or_replaced(file, tmp_path, params, capsys):
    target = tmp_path / "w.safetensors"
    options = Options(heads=["pixels=map", "map:7"], json=True)  # with a certificate
    assert convert.from_torch(options, file, target) == 0
    done = answer(capsys)
    assert done["card"]["heads"] == {"pixels": SAID, "map": 7}
    assert done["card"]["classes"] == {"pixels": ["sky", "sea", "land"]}
    assert done["card"]["certificate"]["status"] in ("passed", "not run: torch missing")
    source = open_weights(target)
    assert source.heads == {"pixels": MapSpec(3), "map": 7}
    np.testing.assert_array_equal(
        source.arrays["heads.pixels.near.kernel"].read(), params["heads.map.near.kernel"]
    )
    fresh = {row["path"] for row in done["table"] if row["kind"] == "fresh"}
    assert fresh == {"heads.map.kernel", "heads.map.bias"}
    for request, says in (
        ({"heads": ["a=map:7"]}, "'map' is a MapSpec; write a=map to rename it"),
        ({"classes": {"map": "timm"}}, "head 'map' is no linear classifier"),
    ):
        with pytest.raises(UserError, match=says):
            convert.from_torch(Options(certificate=False, **request), file, target)


def test_it_cannot_go_to_pytorch_and_the_rest_can(file, tmp_path):
    pytest.importorskip("torch")
    with pytest.raises(UserError, match="head 'map' is a MapSpec, and PyTorch's models"):
        convert.to_torch(PLAIN, file, tmp_path / "w.pt")
    assert convert.to_torch(Options(certify=True, heads=["image"]), file, tmp_path / "w.pt") == 0


def test_training_starts_from_it_where_the_task_has_the_same(file, params):
    plan = plan_initial(file, CONFIG, {"map": MapSpec(3), "image": 5})
    assert {row.path for row in plan.rows if row.kind == "fresh"} == {
        "heads.image.kernel",
        "heads.image.bias",
    }
    taken = flatten(read_initial(plan))["heads.map.auxiliary.kernel"]
    np.testing.assert_array_equal(taken, params["heads.map.auxiliary.kernel"])
    other = plan_initial(file, CONFIG, {"map": MapSpec(4)})
    assert {row.path.split(".")[1] for row in other.rows if row.kind == "fresh"} == {"map"}
