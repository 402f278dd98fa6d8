"""What does not fit is said with remedies that by the figures do; searches end at the largest."""

import importlib
import math
import threading
import time
from dataclasses import replace

import jax
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.experiment import fits
from omnivore_jax.experiment.ahead import (
    Figures,
    Program,
    make_plan,
    programs,
    too_large,
    train_program,
)
from omnivore_jax.experiment.fits import (
    GIB,
    candidates,
    examine,
    largest,
    remedy,
    render,
    summary,
    with_microbatch,
)
from omnivore_jax.experiment.settings import resolve
from omnivore_jax.experiment.topology import CHIPS, Machine
from omnivore_jax.train.collectives import Collective
from omnivore_jax.train.state import abstract_state

USABLE = 16 * GIB


def config_of(name, **changes):
    module, _, argument = name.partition(":")
    get_config = importlib.import_module(f"configs.{module}").get_config
    config = (get_config(argument) if argument else get_config()).to_dict()
    for key, value in changes.items():
        section, _, last = key.rpartition("__")
        part = config
        for step in section.split("__"):
            part = part[step]
        part[last] = value
    return config


def plan_of(name, **changes):
    return make_plan(resolve(config_of(name, **changes)), jax.devices())


def figures_of(program, *, arguments=1.0, temporaries=10.0):
    sizes = [int(size * GIB) for size in (arguments, 0, temporaries, 0)]
    collective = Collective("all-reduce", frozenset({"f32"}), 100, 400, 60, False)
    fits = sum(sizes) <= USABLE
    fields = (*sizes, sum(sizes), fits, 1e12, 1e11, (collective,), 2.0)
    return Figures(program.name, program.splits, *fields)


def test_a_run_compiles_its_state_its_steps_and_its_evaluations():
    assert [program.name for program in programs(plan_of("swin_l"))] == [
        *(f"init {number}" for number in range(1, 13)),
        "init state",
        *("train imagenet", "train imagenet21k", "train kinetics400", "train sunrgbd"),
        *("eval imagenet", "eval kinetics400", "eval kinetics400 4x3", "eval sunrgbd"),
    ]
    names = [program.name for program in programs(plan_of("demo:mixed"))]
    assert names[3:5] == ["init state", "train mixed"] and len(names) == 8


def test_what_waits_beside_a_step_are_two_more_batches_and_beside_an_evaluation_the_moments():
    plan = plan_of("demo:image")
    *_, train, evaluation = programs(plan)
    batch = plan.splits["demo_image"].local * (32 * 32 * 3 + 4 + 1)
    assert train.beside == 2 * batch
    settings = plan.settings
    state = abstract_state(settings.model, settings.heads, plan.mesh)
    numbers = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state))
    assert train.given == 4 * numbers + batch
    averages = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.ema))
    assert evaluation.beside == 4 * (numbers - averages)


def test_micro_batches_to_choose_from_pad_no_more_than_the_whole_batch():
    plan = plan_of("swin_b")  # 4,096 samples on 8 devices, in pairs
    assert candidates(plan, "imagenet") == [1, *(2**n for n in range(1, 10))]
    for micro in candidates(plan, "imagenet"):
        changed = replace(plan, settings=with_microbatch(plan.settings, "imagenet", micro))
        split = changed.splits["imagenet"]
        assert (split.micro, split.slots) == (micro, 4096)


@pytest.mark.parametrize("limit", range(8))
@pytest.mark.parametrize("start", [1, 4, 64])
def test_the_search_finds_the_largest_that_fits_and_asks_for_nothing_twice(limit, start):
    sizes, asked = [1, 2, 4, 8, 16, 32, 64], []
    found = largest(sizes, start, lambda size: asked.append(size) or size < 2**limit)
    assert found == max((size for size in sizes if size < 2**limit), default=None)
    assert len(set(asked)) == len(asked) <= 4 and asked[0] == start


def test_remedies_are_a_smaller_micro_batch_recomputation_and_a_division_of_what_lasts():
    plan = plan_of("swin_b")
    pictures, clips = (train_program(plan, [name]) for name in ("imagenet", "kinetics400"))
    # of 64: half of 20 GiB
    assert remedy(figures_of(pictures, temporaries=20.0), plan, USABLE) == {
        "data.imagenet.microbatch": 32,
        "data.imagenet.remat": "block",
    }
    given = remedy(figures_of(clips, arguments=14.0, temporaries=4.0), plan, USABLE)
    assert given == {"data.kinetics400.microbatch": 4, "mesh.fsdp": 2}
    given = remedy(figures_of(clips, arguments=40.0, temporaries=4.0), plan, USABLE)
    assert given == {"mesh.fsdp": 4}
    assert remedy(figures_of(clips, arguments=400.0), plan, USABLE) == {}


@pytest.fixture
def compiler(monkeypatch):
    """A compiler of a machine of this process's devices, of 1 GiB a sample of a micro-batch."""

    def compile_program(program, usable, options):
        samples = sum(split.micro for split in program.splits.values())
        return figures_of(program, temporaries=samples)

    monkeypatch.setattr(fits, "compile_program", compile_program)
    machine = Machine("v5e:2x4", CHIPS["v5e"], jax.devices())
    monkeypatch.setattr(fits, "open_machine", lambda name: machine)
    monkeypatch.setattr(fits.log, "setup", lambda: None)


def test_the_report_says_what_does_not_fit_and_what_to_do(compiler):
    config = config_of("demo:image", data__demo_image__batch_size=8 * 32)
    report = examine(config, "v5e:2x4")
    assert report["mistakes"] == [
        "train demo_image takes 33.0 GiB of the 15.75 of a v5e; use "
        "data.demo_image.microbatch=8 in the config file, or data.demo_image.remat=block in the "
        "config file"
    ]
    config["data"]["demo_image"]["microbatch"] = 0
    (mistake,) = examine(config, "v5e:2x4")["mistakes"]
    assert "use --config.data.demo_image.microbatch=8, or data.demo_image.remat" in mistake
    text = render(report)
    assert max(map(len, text.splitlines())) <= 120
    assert "train demo_image: 1 all-reduce of f32, 0.0 MB" in text and " 32x1 " in text


def test_two_programs_compile_at_a_time_and_the_table_has_their_order(compiler, monkeypatch):
    together = threading.Barrier(2)

    def compile_program(program, usable, options):
        together.wait(timeout=20)  # breaks where one waits alone
        return figures_of(program)

    monkeypatch.setattr(fits, "compile_program", compile_program)
    report = examine(config_of("demo:image"), "v5e:2x4")
    names = ["init 1", "init 2", "init 3", "init state", "train demo_image", "eval demo_image"]
    assert [row["name"] for row in report["programs"]] == names


def test_what_has_not_begun_is_not_compiled_after_an_error(compiler, monkeypatch):
    begun = []

    def compile_program(program, usable, options):
        begun.append(program.name)
        time.sleep(0.2)
        raise UserError(f"{program.name} is wrong")

    monkeypatch.setattr(fits, "compile_program", compile_program)
    with pytest.raises(UserError, match="init 1 is wrong"):
        examine(config_of("demo:image"), "v5e:2x4")
    assert len(begun) < 6


def test_a_search_compiles_the_run_with_the_largest_micro_batches(compiler):
    config = config_of("demo:image", data__demo_image__batch_size=8 * 32)
    report = examine(config, "v5e:2x4", search=True)
    assert report["microbatches"] == {"demo_image": 8} and not report["mistakes"]
    assert render(report).endswith(" data.demo_image.microbatch=8")


@pytest.mark.parametrize(
    ("message", "gib"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (21.50G) exceeds available HBM (15.75G).",
            25.0,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 22.50G of 15.75G hbm. Exceeded hbm capacity by 6.75G.",
            23.0,
        ),
        ("INTERNAL: Used 22.50G of 15.75G", None),
    ],
)
def test_what_a_program_that_does_not_fit_takes_is_what_the_compiler_says(message, gib):
    program = Program("train x", lambda: None, {}, given=3 * GIB, beside=GIB // 2)
    figures = too_large(program, message, 1.0)
    assert (figures and figures.total / GIB) == gib


def test_a_mixed_step_of_many_datasets_fits_a_terminal_too(compiler):
    report = examine(config_of("swin_l", train__batching="mixed"), "v5e:2x4", only="train")
    text = render(report)
    assert max(map(len, text.splitlines())) <= 120, text
    (row,) = report["programs"]
    assert row["name"] == "train mixed" and len(row["splits"]) == 4
    assert report["mistakes"][0].count("microbatch") == 4


def test_programs_can_be_chosen_by_a_part_of_their_name(compiler):
    report = examine(config_of("demo:image"), "v5e:2x4", only="train")
    assert [row["name"] for row in report["programs"]] == ["train demo_image"]
    with pytest.raises(UserError, match="--only='trian' .*; they are init 1, .*, train demo"):
        examine(config_of("demo:image"), "v5e:2x4", only="trian")


def test_mistakes_are_said_before_anything_is_compiled():
    with pytest.raises(UserError, match="--topology=v5e:9x9 is not known"):
        examine(config_of("demo"), "v5e:9x9")


def test_collectives_are_counted_by_kind_type_and_loop():
    one = Collective("all-reduce", frozenset({"f32"}), 10, 40, 10, False)
    rows = summary([one, one, one._replace(in_loop=True)])
    assert [(row["count"], row["bytes"], row["in_loop"]) for row in rows] == [
        (2, 80, False),
        (1, 40, True),
    ]
