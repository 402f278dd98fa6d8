"""The dry run says what a run would be from figures alone.

No data is opened, no device is asked for.
"""

import importlib
import json
import resource
import subprocess
import sys

import jax
import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.tree import flatten
from omnivore_jax.data import manifest
from omnivore_jax.data.manifest import Manifest, Shard
from omnivore_jax.experiment import dry
from omnivore_jax.experiment.settings import resolve
from omnivore_jax.model.params import abstract_model
from omnivore_jax.model.variants import model_config
from omnivore_jax.weights.card import make_card
from omnivore_jax.weights.lazy import lazy
from omnivore_jax.weights.safetensors import write_safetensors

TRUNKS = {
    "swin_t": 27_529_392,
    "swin_s": 48_849_456,
    "swin_b": 86_765_504,
    "swin_l": 195_019_872,
}  # FACTS 1.5
HEADS = {"swin_t": (768, 0), "swin_s": (768, 0), "swin_b": (1024, 0), "swin_l": (1536, 21_841)}
# image, RGB-D, 32 frames, without heads (findings/performance.md: products counted in the released
# code)
GMACS = {
    "swin_t": (4.51, 4.51, 87.8),
    "swin_s": (8.76, 8.76, 165.7),
    "swin_b": (15.45, 15.46, 320.4),
    "swin_l": (34.50, 34.52, 603.3),
}
DATASETS = ("imagenet", "sunrgbd", "kinetics400")


def config_of(name):
    return importlib.import_module(f"configs.{name}").get_config().to_dict()


@pytest.fixture(scope="module")
def plans():
    return {name: dry.plan(config_of(name)) for name in TRUNKS}


@pytest.mark.parametrize("name", TRUNKS)
def test_parameters_are_those_of_the_paper(name, plans):
    width, large = HEADS[name]
    counts = plans[name]["parameters"]
    classes = {"image": 1000, "video": 400, "rgbd": 19} | ({"image21k": large} if large else {})
    assert counts["trunk"] == TRUNKS[name]
    assert counts["heads"] == {head: (width + 1) * n for head, n in classes.items()}
    assert counts["total"] == counts["trunk"] + sum(counts["heads"].values())


@pytest.mark.parametrize("name", TRUNKS)
def test_arithmetic_is_within_a_hundredth_of_what_was_counted(name, plans):
    for dataset, gmacs in zip(DATASETS, GMACS[name], strict=True):
        assert plans[name]["datasets"][dataset]["gflops_forward"] == pytest.approx(
            2 * gmacs, rel=0.01
        )


def test_steps_follow_from_ratios_sizes_and_batches(plans):
    """One epoch: .1 x 14,197,122 + 1,281,167 + 240,000 + 10 x 4,845 samples in batches of 4,096."""
    expected = (1_419_712.2 + 1_281_167 + 240_000 + 48_450) / 4096
    assert plans["swin_l"]["steps_per_epoch"] == pytest.approx(expected, rel=1e-6)
    assert plans["swin_l"]["steps"] == pytest.approx(500 * expected, abs=4)
    for row in plans["swin_l"]["datasets"].values():
        assert row["steps"] == pytest.approx(500 * row["steps_per_epoch"], abs=1)
        assert row["samples"] == row["steps"] * 4096
        assert row["micro_batch"] * row["accumulation"] * 64 == 4096


def test_windows_and_shifts_are_those_of_the_paper(plans):
    """FACTS 1.4: a picture has windows (1, 7, 7), not shifted in stage 4.

    A clip of 32 frames is shifted in time.
    """
    image, clip = (
        plans["swin_l"]["datasets"][name]["stages"] for name in ("imagenet", "kinetics400")
    )
    assert [tuple(stage["size"]) for stage in clip] == [
        (16, 56, 56),
        (16, 28, 28),
        (16, 14, 14),
        (16, 7, 7),
    ]
    assert {tuple(stage["window"]) for stage in image} == {(1, 7, 7)}
    assert [tuple(stage["shift"]) for stage in image] == [(0, 3, 3)] * 3 + [(0, 0, 0)]
    assert [tuple(stage["shift"]) for stage in clip] == [(4, 3, 3)] * 3 + [(4, 0, 0)]
    wide = plans["swin_b"]["datasets"]["kinetics400"]["stages"]
    assert [tuple(stage["shift"]) for stage in wide] == [(0, 3, 3)] * 3 + [(0, 0, 0)]


@pytest.mark.parametrize("name", TRUNKS)
def test_the_micro_batches_of_the_configs_fit_the_memory_of_a_chip(name, plans):
    for row in plans[name]["datasets"].values():
        assert row["memory_gib"]["total"] <= 0.9 * plans[name]["hardware"]["memory_gib"]


def test_the_text_fits_a_terminal_and_says_how_its_figures_come_about(plans):
    for plan in plans.values():
        text = dry.render(plan)
        assert max(map(len, text.splitlines())) <= 120, max(text.splitlines(), key=len)
        assert (
            plan["hours_formula"].split(" = ")[0] in text
            and f"{plan['parameters']['total']:,}" in text
        )
        for name in plan["datasets"]:
            assert name in text


def test_no_device_is_asked_for(monkeypatch):
    def ask(*_, **__):
        raise AssertionError("a device was asked for")

    for name in (
        "devices",
        "local_devices",
        "device_count",
        "local_device_count",
        "process_index",
        "process_count",
    ):
        monkeypatch.setattr(jax, name, ask)
    assert dry.plan(config_of("swin_t"))["mesh"] == {"data": 64, "fsdp": 1, "tensor": 1}


def test_a_plan_without_the_number_of_samples_is_one_line(tmp_path):
    config = config_of("swin_t")
    config["data"]["imagenet"]["num_train"] = 0
    config["data"]["root"] = str(tmp_path)
    with pytest.raises(UserError, match="data.imagenet.num_train=0; .*manifest.json is not there"):
        dry.plan(config)


def test_numbers_that_the_config_leaves_to_prepared_datasets_are_those_of_the_manifest(tmp_path):
    config = config_of("swin_t")
    config["data"]["root"], config["data"]["imagenet"]["num_train"] = str(tmp_path), 0
    (tmp_path / "imagenet").mkdir()
    shards = (Shard("a", 1_000_000, 1, ""), Shard("b", 281_167, 1, ""))
    classes = tuple(f"n{i:08}" for i in range(1000))
    manifest.write(tmp_path / "imagenet", Manifest("image", classes, {"train": shards}, {}))
    plan = dry.plan(config)
    assert plan["datasets"] == dry.plan(config_of("swin_t"))["datasets"]


CONFIGS = [
    *("swin_t", "swin_s", "swin_b", "swin_b:in21k", "swin_l", "swin_l:in1k"),
    *("demo", "demo:mixed", "demo:image", "demo:video", "demo:rgbd"),
]


@pytest.mark.parametrize("batching", ["separate", "mixed"])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_runs_on_any_number_of_devices_with_the_same_samples(name, batching):
    file, _, argument = name.partition(":")
    module = importlib.import_module(f"configs.{file}")
    config = (module.get_config(argument) if argument else module.get_config()).to_dict()
    config["train"]["batching"] = batching
    training, samples = resolve(config).training, set()
    for chips in (1, 4, 8, 16, 60, 64, 128, 256, 512, 1024):
        config["hardware"]["chips"] = chips
        plan = dry.plan(config)
        samples.add((plan["steps"], *(row["samples"] for row in plan["datasets"].values())))
        for dataset, row in plan["datasets"].items():
            local, ours = row["micro_batch"] * row["accumulation"], training[dataset]
            assert row["slots"] == local * chips >= row["batch_size"]
            assert row["micro_batch"] <= (ours.recipe.microbatch or local)
            assert not ours.mixes or local % 2 == 0
            if batching == "separate" and row["batch_size"] % (2 * chips) == 0:
                assert row["slots"] == row["batch_size"]
    assert len(samples) == 1


@pytest.mark.parametrize("batching", ["separate", "mixed"])
@pytest.mark.parametrize("chips", [1, 256, 1024])
def test_a_plan_says_the_samples_of_a_run_and_the_padding_that_is_computed_too(batching, chips):
    config = config_of("swin_l")
    config["hardware"]["chips"], config["train"]["batching"] = chips, batching
    plan = dry.plan(config)
    passes = {"imagenet21k": 50, "imagenet": 500, "kinetics400": 500, "sunrgbd": 5000}
    seen = {name: row["samples"] / row["num_train"] for name, row in plan["datasets"].items()}
    assert seen == pytest.approx(passes, rel=1e-3)
    slots = {name: row["slots"] for name, row in plan["datasets"].items()}
    if batching == "separate":
        assert set(slots.values()) == {4096}
    elif chips > 1:  # by hand: 1,946, 1,756, 330 and 68 samples in pairs
        pairs = {256: (4, 4, 1, 1), 1024: (1, 1, 1, 1)}[chips]
        assert slots == {name: 2 * chips * n for name, n in zip(passes, pairs, strict=True)}
        assert f"{slots['sunrgbd']:,}" in dry.render(plan)


def test_swin_l_is_planned_within_ten_seconds_on_a_machine_without_devices(tmp_path):
    """JAX_PLATFORMS names a platform that is not there: whoever asks for a device, fails."""
    command = [
        sys.executable,
        "-m",
        "omnivore_jax.main",
        "--config=configs/swin_l.py",
        "--mode=dry",
        "--json",
    ]
    environment = {"JAX_PLATFORMS": "nowhere", "OMNIVORE_DATA": str(tmp_path)}
    before = _children()
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["name"] == "swin_l"
    assert _children() - before < 10
    assert list(tmp_path.iterdir()) == []


def _children():
    """Seconds of processor time of the processes that were started here."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_weights_to_start_from_decide_the_form_of_the_model_and_are_accounted_for(tmp_path):
    heads, whole = (
        {"video": 400},
        model_config("omnivore_swin_t", position_bias="joint", window_index="released"),
    )
    shapes = flatten(abstract_model(whole, heads)[1])
    arrays = {
        path: lazy(np.broadcast_to(np.float32(0), leaf.shape)) for path, leaf in shapes.items()
    }
    write_safetensors(tmp_path / "w.safetensors", arrays, make_card(whole, heads, {}))
    plan = dry.plan(config_of("swin_t") | {"init_from": str(tmp_path / "w.safetensors")})
    assert (plan["model"]["position_bias"], plan["model"]["window_index"]) == ("joint", "released")
    assert "joint position bias, released window index" in plan["init_from"][0]
    assert any("fresh" in line and "heads.image.kernel" in line for line in plan["init_from"])
    assert plan["init_from"][0] in dry.render(plan)
    plan = dry.plan(config_of("swin_t") | {"init_from": "/nowhere"})
    assert (
        plan["model"]["position_bias"] == "factored"
        and "/nowhere is not on this machine" in plan["init_from"][0]
    )
