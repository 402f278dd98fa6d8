"""Every config resolves; every key that no library knows is an error that names it."""

import importlib
import math
from fractions import Fraction
from pathlib import Path

import jax
import pytest

from configs.ablation.ratios import ROWS
from configs.specific import DATASETS as BASELINES
from configs.transfer import ROWS as TRANSFERS
from omnivore_jax.core.errors import UserError
from omnivore_jax.experiment.settings import SECTIONS, resolve
from omnivore_jax.model.params import abstract_model
from omnivore_jax.train.mesh import MeshConfig, make_mesh
from omnivore_jax.train.state import abstract_state

ARGUMENTS = {
    "demo": ("", "joint", "mixed", "image", "video", "rgbd", "maps"),
    "swin_t": ("",),
    "swin_s": ("",),
    "swin_b": ("", "in1k", "in21k", "in21k_alone"),
    "swin_l": ("", "in1k", "in21k", "in21k_alone"),
    "ablation.baseline": ("",),
    "ablation.ratios": ROWS,
    "ablation.batching": ("",),
    "ablation.patch_embedding": ("",),
    "ablation.finetuned": ("",),
    "transfer": (*TRANSFERS, "pets+swin_l+384+in21k", "places365+1pct", "ucf101+fold3+specific"),
    "specific": [f"{model}_{size}" for model in BASELINES for size in "tsbl"],
}
LIBRARIES = {"joint", "ablation.base"}
"""Files in configs/ that others import."""
FACTORED = {  # trunk + 3 heads (FACTS 1.5)
    "swin_t": 28_620_603,
    "swin_s": 49_940_667,
    "swin_b": 88_219_979,
    "swin_l": 197_200_875,
}
IN21K = 21_841


def config_of(name, argument=""):
    get = importlib.import_module(f"configs.{name}").get_config
    return (get(argument) if argument else get()).to_dict()


def test_no_config_is_left_out():
    files = [path for path in Path("configs").rglob("*.py") if path.stem != "__init__"]
    names = {".".join(path.relative_to("configs").with_suffix("").parts) for path in files}
    assert names == ARGUMENTS.keys() | LIBRARIES


@pytest.mark.parametrize(
    ("name", "argument"), [(name, a) for name, rest in ARGUMENTS.items() for a in rest]
)
def test_every_config_resolves_and_so_does_its_model(name, argument):
    settings = resolve(config_of(name, argument))
    _, params = abstract_model(settings.model, settings.heads)
    assert params["heads"].keys() == settings.heads.keys()
    if name in FACTORED and argument != "in21k_alone":
        large = settings.heads.get("image21k", 0)
        assert large in (0, IN21K)
        count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
        assert count == FACTORED[name] + (large and large * (settings.model.feature_dim + 1))
    state = abstract_state(settings.model, settings.heads, make_mesh(MeshConfig()))
    assert jax.tree.map(lambda leaf: leaf.shape, state.ema) == jax.tree.map(
        lambda leaf: leaf.shape, params
    )


def test_names_of_runs_differ_so_that_their_workdirs_do():
    names = [
        config_of(name, a)["name"]
        for name, rest in ARGUMENTS.items()
        for a in rest
        if a not in ("joint",)
    ]
    assert (
        len(set(names)) == len(names) - 2
    )  # swin_b:in1k and swin_l:in21k are what swin_b and swin_l are


@pytest.mark.parametrize("section", ["", *SECTIONS, "model", "attention", "data", "data.demo_rgbd"])
def test_a_key_that_nobody_knows_is_named_in_one_line(section):
    config = config_of("demo")
    inner = config
    for key in filter(None, section.split(".")):
        inner = inner[key]
    inner["sede"] = 1
    where = f"{section or 'config'}.sede"
    with pytest.raises(
        UserError, match=rf"^{where} is not a known (key|section); (known|did you mean)"
    ) as mistake:
        resolve(config)
    assert "\n" not in str(mistake.value)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("optimizer.peak", "fast", "optimizer.peak='fast' is a str; use a float"),
        ("train.steps", 2.5, "train.steps=2.5 is a float; use a int"),
        ("train.batching", "both", "train.batching='both'; use one of 'separate', 'mixed'"),
        ("checkpoint.every", 0, "checkpoint.every=0; use at least 1"),
        ("eval.batch_size", 0, "eval.batch_size=0; use 1 or more"),
        ("log.every", 0, "log.every=0; use 1 or more"),
        ("data.workers", -1, "data.workers=-1; use 0 or more"),
        ("data.demo_image", 3, "data.demo_image"),
        ("data.demo_image.frames", 8, "data.demo_image.frames=8; a dataset of kind 'image' has 1"),
        ("data.demo_image.classes", 0, "data.demo_image.classes=0; use 1 or more"),
        ("model.name", "swin_xl", "model 'swin_xl' is not known"),
        ("name", "", "config.name is missing; name the run"),
        ("data", {"root": "", "workers": 0}, "data names no dataset; add one"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_remedy(path, value, says):
    config = config_of("demo")
    *outer, last = path.split(".")
    inner = config
    for key in outer:
        inner = inner[key]
    inner[last] = value
    with pytest.raises(UserError) as mistake:
        resolve(config)
    assert str(mistake.value).startswith(says) and "\n" not in str(mistake.value)


def test_auto_is_the_papers_two_tables_until_a_checkpoint_says_otherwise():
    assert config_of("swin_l")["model"]["position_bias"] == "auto"
    assert resolve(config_of("swin_l")).model.position_bias == "factored"


def test_the_plan_of_swin_l_takes_the_paper_at_its_word():
    """Ratios .1 : 1 : 1 : 10 of the sizes, batches of 4,096, 500 epochs (paper, section 4)."""
    settings = resolve(config_of("swin_l"))
    sizes = {name: dataset.num_train for name, dataset in settings.datasets.items()}
    mixture = settings.mixture(sizes)
    passes = mixture.passes_before(mixture.total_steps)
    wanted = {"imagenet21k": 50, "imagenet": 500, "kinetics400": 500, "sunrgbd": 5000}
    assert passes == pytest.approx(wanted, rel=1e-3)


def test_the_folder_of_compiled_programs_is_no_url():
    config = config_of("demo")
    config["log"]["compile_cache"] = "gs://bucket/cache"
    with pytest.raises(UserError, match=r"^log.compile_cache=gs://bucket/cache is a URL"):
        resolve(config)


@pytest.mark.parametrize(
    ("name", "argument", "epochs", "ratios"),
    [
        ("ablation.baseline", "", 300, (0.1, 1, 1, 50)),
        *(("ablation.ratios", row, 300, tuple(map(float, row.split("-")))) for row in ROWS),
        ("ablation.batching", "", 300, (0.1, 1, 1, 50)),
        ("ablation.patch_embedding", "", 300, (0.1, 1, 1, 50)),
        ("ablation.finetuned", "", 100, (0, 1, 1, 50)),
        ("swin_b", "in21k_alone", 90, (1, 0, 0, 0)),
    ],
)
def test_ablations_have_exactly_the_steps_of_their_ratios(name, argument, epochs, ratios):
    """Table 8: samples an epoch by hand, in batches of 4,096."""
    settings = resolve(config_of(name, argument))
    sizes = {name: dataset.num_train for name, dataset in settings.datasets.items()}
    every = (14_197_122, 1_281_167, 240_000, 4_845)
    samples = [
        Fraction(str(ratio)) * size * epochs for ratio, size in zip(ratios, every, strict=True)
    ]
    steps = settings.mixture(sizes).total_steps
    if settings.train.batching == "mixed":
        assert steps == sum(samples) // 4096
    else:
        assert steps == sum(part // 4096 for part in samples)
    assert settings.model.name == "omnivore_swin_b"
    separate = name == "ablation.patch_embedding"
    assert settings.model.depth_embed == ("separate" if separate else "summed")


@pytest.mark.parametrize(
    ("name", "samples", "batch", "peak", "trunk"),
    [
        ("inat2018", 437_513 * 100, 512, 0.1, 1.0),
        ("pets", 3680 * 100, 512, 0.1, 1.0),
        ("places365", 1_803_460 * 100, 512, 0.1, 1.0),
        ("nyu_scenes", 795 * 200, 512, 5e-3, 1.0),
        ("ssv2", 168_913 * 60, 256, 6e-3, 0.1),
        ("ssv2_table6", 168_913 * 150, 256, 1.2e-3, 0.1),
        ("epic100", 67_217 * 150, 256, 2e-3, 0.1),
        ("epic100_table6", 67_217 * 100, 256, 4e-4, 1.0),
    ],
)
def test_transfers_have_the_steps_and_rates_of_the_appendix(name, samples, batch, peak, trunk):
    settings = resolve(config_of("transfer", name))
    ((dataset, row),) = settings.datasets.items()
    assert settings.mixture({dataset: row.num_train}).total_steps == samples // batch
    optimizer = settings.optimizer
    assert (optimizer.peak, optimizer.trunk_rate, optimizer.cooldown_start) == (peak, trunk, 1.0)
    assert optimizer.rule == ("adamw" if row.kind == "video" else "sgd")
    assert (row.clip == "segments") == (row.kind == "video") and row.ratio == 1


def test_clips_whose_classes_have_a_direction_are_never_mirrored():
    assert resolve(config_of("transfer", "ssv2")).datasets["ssv2"].flip == 0


def test_options_of_a_transfer_change_size_pixels_window_share_and_start():
    large = resolve(config_of("transfer", "pets+swin_l+384+in21k"))
    assert (large.model.name, large.model.window, large.datasets["pets"].size) == (
        "omnivore_swin_l",
        (8, 12, 12),
        384,
    )
    assert large.init_from == "runs/swin_l"
    few = resolve(config_of("transfer", "places365+1pct+swin_t+specific"))
    assert few.datasets["places365"].subset == 0.01 and few.init_from == "runs/image_swin_t"
    fold = resolve(config_of("transfer", "ucf101+fold2"))
    assert list(fold.datasets) == ["ucf101_fold2"] and fold.heads == {"ucf101": 101}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("dogs", "the transfer 'dogs' is not known"),
        ("pets+big", "'big' in 'pets\\+big' is not known; use swin_t"),
        ("ssv2+384", "the paper has it for pictures alone"),
        ("pets+fold2", "UCF101 has folds, pets has none"),
    ],
)
def test_options_that_mean_nothing_are_refused(name, says):
    with pytest.raises(ValueError, match=says):
        config_of("transfer", name)


def test_a_baseline_sees_one_dataset_and_starts_from_the_pictures():
    for name, dataset in BASELINES.items():
        settings = resolve(config_of("specific", f"{name}_s"))
        assert list(settings.datasets) == [dataset]
        assert settings.init_from == ("" if name == "image_swin" else "runs/image_swin_s")
    with pytest.raises(ValueError, match="the baseline 'swin' is not known"):
        config_of("specific", "swin")
