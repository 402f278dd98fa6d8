from collections import Counter
from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omnivore_jax.data.mixture import Mixture, Source

PAPER = (
    Source("imagenet21k", 14_197_122, 4096, 0.1),
    Source("imagenet", 1_281_167, 4096, 1.0),
    Source("kinetics400", 240_000, 4096, 1.0),
    Source("sunrgbd", 4_845, 4096, 10.0),
)

RATIOS = st.sampled_from([0.1, 0.3, 0.6, 1.0, 1.7, 10.0])
SOURCES = st.lists(
    st.tuples(st.integers(1, 40), st.integers(3, 25), RATIOS), min_size=1, max_size=4
).map(lambda rows: tuple(Source(f"d{i}", *row) for i, row in enumerate(rows)))
ALIKE = st.lists(
    st.tuples(st.integers(9, 40), st.integers(3, 25), st.sampled_from([0.6, 1.0, 1.7])),
    min_size=1,
    max_size=4,
).map(lambda rows: tuple(Source(f"d{i}", *row) for i, row in enumerate(rows)))
LENGTHS = st.sampled_from([{"epochs": 0.5}, {"epochs": 1.0}, {"epochs": 2.3}, {"steps": 83}])


@st.composite
def plans(draw, mixed: bool | None = None) -> dict:
    """The arguments of a mixture."""
    plan = draw(LENGTHS) | {"sources": draw(SOURCES), "seed": draw(st.integers(0, 3))}
    if draw(st.booleans()) if mixed is None else mixed:
        quantum = draw(st.integers(1, 3))
        plan["sources"] = draw(ALIKE)  # a mixed step has samples of the smallest too
        shares = [source.samples_per_epoch for source in plan["sources"]]
        least = ceil(quantum * sum(shares) / min(shares))
        size = least + draw(st.integers(0, 12))
        plan |= {"batching": "mixed", "batch_size": size, "quantum": quantum}
    return plan


def mixture_of(plan: dict) -> Mixture:
    try:
        return Mixture(**plan)
    except ValueError:  # not one step
        return Mixture(**plan | {"epochs": 0.0, "steps": 20})


def streams(mixture: Mixture) -> dict[str, list[tuple[int, int]]]:
    """(pass, index) of every dataset, in the order of the run."""
    streams: dict[str, list[tuple[int, int]]] = {source.name: [] for source in mixture.sources}
    for step in range(mixture.total_steps):
        for draw in mixture.step(step):
            streams[draw.dataset] += zip(draw.passes.tolist(), draw.indices.tolist(), strict=True)
    return streams


@settings(max_examples=25, deadline=None)
@given(plans())
def test_every_sample_of_a_pass_comes_exactly_once_and_passes_follow_each_other(plan):
    mixture = mixture_of(plan)
    given = streams(mixture)
    for source in mixture.sources:
        stream = given[source.name]
        assert [p for p, _ in stream] == [i // source.size for i in range(len(stream))]
        for start in range(0, len(stream) - source.size + 1, source.size):
            assert {i for _, i in stream[start : start + source.size]} == set(range(source.size))
        assert len(set(stream)) == len(stream)


@settings(max_examples=25, deadline=None)
@given(SOURCES, st.sampled_from([0.5, 1.0, 3.7]))
def test_a_run_by_epochs_gives_every_dataset_its_exact_number_of_steps(sources, epochs):
    exact = {
        s.name: floor(Fraction(str(epochs)) * Fraction(str(s.ratio)) * s.size / s.batch_size)
        for s in sources
    }
    if not sum(exact.values()):
        with pytest.raises(ValueError, match="not one step"):
            Mixture(sources, epochs=epochs)
        return
    mixture = Mixture(sources, epochs=epochs)
    seen = Counter(mixture.step(i)[0].dataset for i in range(mixture.total_steps))
    assert dict(seen) == {name: n for name, n in exact.items() if n}
    assert mixture.total_steps == sum(exact.values())
    assert mixture.batches_before(mixture.total_steps) == exact
    assert mixture.epoch_at(mixture.total_steps) == pytest.approx(epochs)


@settings(max_examples=25, deadline=None)
@given(plans(), st.data())
def test_the_plan_is_the_same_in_any_order_and_for_any_order_of_the_sources(plan, data):
    mixture = mixture_of(plan)
    again = mixture_of(plan | {"sources": tuple(data.draw(st.permutations(plan["sources"])))})
    for step in data.draw(
        st.lists(st.integers(0, mixture.total_steps - 1), min_size=1, max_size=9)
    ):
        for one, other in zip(mixture.step(step), again.step(step), strict=True):
            assert one.dataset == other.dataset and all(map(np.array_equal, one[1:], other[1:]))
    step = data.draw(st.integers(0, min(100, mixture.total_steps)))
    counted = Counter(draw.dataset for i in range(step) for draw in again.step(i))
    assert {k: n for k, n in again.batches_before(step).items() if n} == dict(counted)


@settings(max_examples=30, deadline=None)
@given(plans(), st.integers(1, 5), st.data())
def test_the_rows_of_all_hosts_together_are_the_batch(plan, hosts, data):
    mixture = mixture_of(plan)
    for draw in mixture.step(data.draw(st.integers(0, mixture.total_steps - 1))):
        parts = [draw.rows(rows) for rows in np.array_split(np.arange(len(draw.indices)), hosts)]
        for field in ("passes", "indices", "seeds"):
            assert np.array_equal(
                np.concatenate([getattr(part, field) for part in parts]), getattr(draw, field)
            )


def test_epochs_hold_the_paper_s_steps():
    """4,096 a step (FACTS 3.1): SUN RGB-D has 11 or 12 steps an epoch.

    Ten epochs at 0.1 see IN21K once.
    """
    mixture = Mixture(PAPER, epochs=500.0)
    assert mixture.steps_per_epoch == pytest.approx(
        (1_419_712.2 + 1_281_167 + 240_000 + 48_450) / 4096
    )
    assert mixture.total_steps == 173_304 + 156_392 + 29_296 + 5_914
    assert mixture.batches_before(mixture.total_steps)["sunrgbd"] == 500 * 48_450 // 4096
    starts = [next(i for i in range(0, 800) if mixture.epoch_at(i) >= e) for e in (0, 1)]
    assert starts[1] == 346 + 312 + 58 + 11
    epoch = Counter(mixture.step(i)[0].dataset for i in range(starts[1]))
    assert epoch == {"imagenet21k": 346, "imagenet": 312, "kinetics400": 58, "sunrgbd": 11}
    assert mixture.passes_before(10 * 730)["imagenet21k"] == pytest.approx(1, abs=0.01)


def test_the_slots_of_an_epoch_are_shuffled_and_differently_in_every_epoch_and_for_every_seed():
    sources = (Source("a", 100, 1), Source("b", 100, 1))
    first = [Mixture(sources, epochs=2.0, seed=seed) for seed in (0, 1)]
    order = ["".join(m.step(i)[0].dataset for i in range(400)) for m in first]
    assert order[0] != order[1] and order[0][:200] != order[0][200:]
    changes = sum(x != y for x, y in zip(order[0], order[0][1:], strict=False))
    assert 150 < changes < 250  # 200 of 399 on average


def test_a_random_step_of_a_long_run_costs_no_walk_through_it():
    mixture = Mixture(PAPER, steps=10**12)
    draw = mixture.step(10**12 - 1)[0]
    assert len(set(draw.indices.tolist())) > 0 and mixture.epoch_at(10**12) == pytest.approx(
        10**12 / 729.8167, rel=1e-6
    )


def test_steps_win_over_epochs_and_cut_the_same_sequence():
    by_epochs, by_steps = Mixture(PAPER, epochs=3.0), Mixture(PAPER, epochs=3.0, steps=1000)
    assert by_steps.total_steps == 1000
    for step in (0, 999):
        assert np.array_equal(by_epochs.step(step)[0].seeds, by_steps.step(step)[0].seeds)
    with pytest.raises(IndexError, match="step 1000"):
        by_steps.step(1000)


def test_seeds_and_orders_of_passes_differ():
    mixture = Mixture((Source("a", 1000, 1000), Source("b", 1000, 1000)), epochs=2.0)
    draws = [mixture.step(i)[0] for i in range(4)]
    assert len(np.unique(np.concatenate([draw.seeds for draw in draws]))) == 4000
    assert len({tuple(draw.indices.tolist()) for draw in draws}) == 4


@pytest.mark.parametrize(
    ("size", "quantum", "most"),
    [
        (4096, 2, [1946, 1756, 330, 68]),
        (4096, 1, [1946, 1756, 329, 67]),
        (255, 1, [122, 110, 21, 5]),
    ],
)
def test_mixed_steps_share_a_batch_in_proportion(size, quantum, most):
    """By hand: 1,419,712.2, 1,281,167, 240,000 and 48,450 samples an epoch."""
    mixture = Mixture(PAPER, epochs=1.0, batching="mixed", batch_size=size, quantum=quantum)
    assert [mixture.batch_sizes[source.name] for source in PAPER] == most
    assert mixture.total_steps == floor((1_419_712.2 + 1_281_167 + 240_000 + 48_450) / size)
    for step in (0, 1, mixture.total_steps - 1):
        draws = {draw.dataset: len(draw.indices) for draw in mixture.step(step)}
        assert list(draws) == sorted(draws) and len(draws) == 4
        for name, samples in draws.items():
            assert mixture.batch_sizes[name] - samples in (0, quantum) and samples % quantum == 0


@settings(max_examples=25, deadline=None)
@given(plans(mixed=True), st.data())
def test_over_a_run_of_mixed_steps_the_shares_are_exact(plan, data):
    mixture, total = mixture_of(plan), plan["batch_size"]
    step = data.draw(st.integers(0, min(60, mixture.total_steps)))
    counted = Counter()
    for draw in (draw for i in range(step) for draw in mixture.step(i)):
        counted[draw.dataset] += len(draw.indices)
        assert 0 < len(draw.indices) <= mixture.batch_sizes[draw.dataset]
    epoch = sum(source.samples_per_epoch for source in mixture.sources)
    for source in mixture.sources:
        exact = step * total * source.samples_per_epoch / epoch
        assert 0 <= exact - counted[source.name] < plan["quantum"]
        assert mixture.samples_before(step)[source.name] == counted[source.name]
        assert mixture.passes_before(step)[source.name] == counted[source.name] / source.size
    assert mixture.epoch_at(step) == pytest.approx(float(step * total / epoch))


def test_replacements_differ_by_slot_and_attempt_and_stay_in_the_dataset():
    mixture = Mixture((Source("a", 1000, 50),), epochs=1.0)
    draw = mixture.step(3)[0]
    chosen = [
        mixture.replacement(draw, slot, attempt) for slot in range(50) for attempt in range(4)
    ]
    assert len(set(chosen)) > 150 and max(chosen) < 1000
    host = draw.rows(np.arange(25, 50))
    assert mixture.replacement(host, 0, 2) == mixture.replacement(draw, 25, 2)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Source("a", 0, 4), "data.a has 0 samples; prepare it"),
        (lambda: Source("a", 4, 0), "data.a.batch_size=0; use a positive"),
        (lambda: Source("a", 4, 4, 0.0), "data.a.ratio=0.0; use a positive"),
        (lambda: Source("a", 4, 4, float("nan")), "data.a.ratio=nan"),
        (lambda: Mixture((), epochs=1.0), "name at least one"),
        (lambda: Mixture((Source("a", 4, 4), Source("a", 5, 4)), epochs=1.0), "each once"),
        (lambda: Mixture((Source("a", 4, 4),)), "train.epochs=0.0, train.steps=0; make one"),
        (lambda: Mixture((Source("a", 4, 4),), epochs=0.5), "train.epochs=0.5 is not one step"),
        (
            lambda: Mixture(PAPER, epochs=1.0, batching="mixed", batch_size=100, quantum=2),
            "train.batch_size=100 of mixed steps has 1.6 samples of data.sunrgbd; use 124 or more",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_key(wrong, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")) as error:
        wrong()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("step", "dataset", "first", "seed"),
    [
        (0, "imagenet21k", [332140, 2852831, 1894], 1927882796436008999),
        (123456, "imagenet", [871585, 156322, 570456], 12467750775041640167),
    ],
)
def test_the_plan_of_a_run_is_the_same_in_every_version(step, dataset, first, seed):
    """Written down once.

    A run that an older version started must resume with the samples that it would have had.
    """
    draw = Mixture(PAPER, epochs=500.0).step(step)[0]
    assert (draw.dataset, draw.indices[:3].tolist(), int(draw.seeds[0])) == (dataset, first, seed)


def test_the_plan_of_mixed_steps_of_even_shares_is_the_same_in_every_version():
    demo = (
        Source("demo_image", 6000, 64),
        Source("demo_video", 6000, 32, 0.65),
        Source("demo_rgbd", 6000, 64),
    )
    draws = Mixture(demo, epochs=17.5, batching="mixed", batch_size=159).step(777)
    assert [len(draw.indices) for draw in draws] == [60, 60, 39]
    assert draws[2].indices[:3].tolist() == [1048, 3997, 1205]
    assert int(draws[2].seeds[0]) == 17402072768078294044
