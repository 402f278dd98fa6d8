import json
import multiprocessing
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Batch
from omnivore_jax.data.bad_records import BadRecords
from omnivore_jax.data.demo import EmbeddedDataset
from omnivore_jax.data.loader import (
    ON_DEVICE,
    LoaderConfig,
    TrainLoader,
    eval_batches,
    host_cores,
    host_rows,
    on_devices,
)
from omnivore_jax.data.mixture import Mixture, Source
from omnivore_jax.data.sample import BadRecord, Sample

DATASETS = {
    "demo_image": EmbeddedDataset("demo_image", "train"),
    "demo_rgbd": EmbeddedDataset("demo_rgbd", "train"),
}


@dataclass(frozen=True)
class Broken:
    """Real pictures of which some cannot be read, or whose reader has a fault of its own."""

    bad: frozenset[int] = frozenset()
    faulty: frozenset[int] = frozenset()
    size: int = 100
    seconds: float = 0.0

    def __len__(self) -> int:
        return self.size

    def load(self, index: int, seed: int) -> Sample:
        time.sleep(self.seconds)
        if index in self.faulty:
            raise ZeroDivisionError(f"fault at {index}")
        if index in self.bad:
            raise BadRecord(f"broken/{index}", "truncated")
        return EmbeddedDataset("demo_image", "test").load(index, seed)


def mixture(batching="separate", **options) -> Mixture:
    sources = (Source("demo_image", 6000, 16), Source("demo_rgbd", 6000, 8))
    size = 25 if batching == "mixed" else 0  # 12 or 13 of each
    return Mixture(sources, steps=12, batching=batching, batch_size=size, **options)


def alone(size: int = 100, batch_size: int = 10, steps: int = 20) -> Mixture:
    return Mixture((Source("broken", size, batch_size),), steps=steps)


def read(plan, datasets=DATASETS, config=None, **options) -> list:
    with TrainLoader(plan, datasets, config or LoaderConfig(), **options) as loader:
        return list(loader)


def same(one, other) -> bool:
    leaves, structure = jax.tree.flatten(one)
    others, other_structure = jax.tree.flatten(other)
    return structure == other_structure and all(map(np.array_equal, leaves, others))


@pytest.mark.parametrize("batching", ["separate", "mixed"])
def test_a_step_holds_the_planned_samples(batching):
    plan = mixture(batching)
    steps = read(plan)
    assert [step.step for step in steps] == list(range(12))
    for step in steps:
        draws = plan.step(step.step)
        assert list(step.batches) == [draw.dataset for draw in draws]
        for draw in draws:
            batch = step.batches[draw.dataset]
            samples = [
                DATASETS[draw.dataset].load(int(i), int(s))
                for i, s in zip(draw.indices, draw.seeds, strict=True)
            ]
            real = len(samples)
            assert np.array_equal(batch.rgb[:real], np.stack([sample.rgb for sample in samples]))
            assert batch.label[:real].tolist() == [sample.label for sample in samples]
            assert batch.label.dtype == np.int32
            assert step.ids[draw.dataset] == [sample.id for sample in samples]
            assert len(batch.label) == plan.batch_sizes[draw.dataset]
            assert batch.mask[:real].all() and not batch.mask[real:].any()
            assert (batch.disparity is None) == (draw.dataset == "demo_image")


def test_a_host_beyond_the_samples_of_a_step_reads_padding_of_the_same_shape():
    rows = {"demo_image": np.arange(8, 16), "demo_rgbd": np.arange(16, 24)}
    whole, parts = read(mixture("mixed")), read(mixture("mixed"), rows=rows)
    for step, part in zip(whole, parts, strict=True):
        image, reliefs = part.batches["demo_image"], part.batches["demo_rgbd"]
        real = len(step.ids["demo_image"]) - 8
        assert real in (4, 5) and image.mask.tolist() == [i < real for i in range(8)]
        assert np.array_equal(image.rgb[:real], step.batches["demo_image"].rgb[8 : 8 + real])
        assert part.ids["demo_image"] == step.ids["demo_image"][8:]
        assert part.ids["demo_rgbd"] == [] and not reliefs.mask.any()
        assert reliefs.rgb.shape == (8, 1, 32, 32, 3) and not reliefs.disparity.any()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("prefetch", [1, 4])
def test_threads_and_the_step_of_a_resume_change_nothing(threads, prefetch):
    whole = read(mixture())
    resumed = read(mixture(), config=LoaderConfig(threads=threads, prefetch=prefetch), start=5)
    assert same(resumed, whole[5:])
    assert read(mixture(), start=12) == []


def test_hosts_read_parts_of_the_same_steps():
    whole = read(mixture("mixed"))
    halves = [
        read(
            mixture("mixed"),
            rows={
                n: np.array_split(np.arange(b), 2)[host]
                for n, b in mixture("mixed").batch_sizes.items()
            },
        )
        for host in (0, 1)
    ]
    for step, *parts in zip(whole, *halves, strict=True):
        for name, batch in step.batches.items():
            joined = jax.tree.map(
                lambda *x: np.concatenate(x), *(part.batches[name] for part in parts)
            )
            assert same(joined, batch)
            assert parts[0].ids[name] + parts[1].ids[name] == step.ids[name]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_worker_processes_change_nothing(workers):
    steps = read(mixture("mixed"), config=LoaderConfig(workers=workers, threads=2), start=3)
    assert same(steps, read(mixture("mixed"), start=3))


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_fault_in_the_reader_ends_the_run_and_stays(workers):
    plan = alone()
    at = next(i for i in range(20) if 33 in plan.step(i)[0].indices)
    with TrainLoader(
        plan, {"broken": Broken(faulty=frozenset({33}))}, LoaderConfig(workers=workers)
    ) as loader:
        for _ in range(at):
            next(loader)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError, match="fault at 33"):
                next(loader)


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run():
    with TrainLoader(
        alone(steps=10_000), {"broken": Broken(seconds=0.01)}, LoaderConfig(workers=1, threads=1)
    ) as loader:
        next(loader)
        for process in multiprocessing.active_children():
            process.kill()
        with pytest.raises(UserError, match=r"data\.workers=1 was killed"):
            for _ in loader:
                pass


def test_a_damaged_record_is_replaced_by_one_of_its_dataset_the_same_each_time():
    bad = frozenset({7, 50})
    steps = read(alone(), {"broken": Broken(bad)})
    assert same(steps, read(alone(), {"broken": Broken(bad)}, LoaderConfig(threads=1)))
    planned = [plan.indices.tolist() for i in range(20) for plan in alone().step(i)]
    ids = [[int(name.rpartition("/")[2]) for name in step.ids["broken"]] for step in steps]
    for planned_step, step in zip(planned, ids, strict=True):
        assert all(
            i == j or (i in bad and j not in bad) for i, j in zip(planned_step, step, strict=True)
        )
    assert (
        sum(i != j for i, j in zip(sum(planned, []), sum(ids, []), strict=True)) == 4
    )  # two passes


def test_damaged_records_are_listed_once_also_over_a_resume(tmp_path):
    datasets, path = {"broken": Broken(frozenset({7, 50}))}, tmp_path / "run" / "bad_records.jsonl"
    read(alone(steps=10), datasets, bad_records=BadRecords(path, {"broken": 100}, 0.02))
    first = next(i for i in range(10) if 7 in alone().step(i)[0].indices)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert {
        "dataset": "broken",
        "id": "broken/7",
        "reason": "truncated",
        "step": first,
    } in rows and len(rows) == 2
    path.write_text(path.read_text() + '{"dataset": "bro')  # what a kill may leave
    resumed = BadRecords(path, {"broken": 100}, 0.02)
    read(alone(steps=20), datasets, start=10, bad_records=resumed)
    assert [
        json.loads(line) for line in path.read_text().splitlines()
    ] == rows and resumed.counts() == {"broken": 2}


def test_too_many_damaged_records_end_the_run(tmp_path):
    path = tmp_path / "bad_records.jsonl"
    bad_records = BadRecords(path, {"broken": 100}, 0.02)
    with TrainLoader(
        alone(), {"broken": Broken(frozenset({1, 2, 3}))}, LoaderConfig(), bad_records=bad_records
    ) as steps:
        with pytest.raises(
            UserError,
            match=r"3 of 100 records of data.broken .* data.bad_budget=0.02 .*bad_records.jsonl",
        ):
            list(steps)
        with pytest.raises(UserError, match="3 of 100"):
            next(steps)
    assert len(path.read_text().splitlines()) == 3
    with pytest.raises(ValueError, match="data.bad_budget=2"):
        BadRecords(path, {}, 2.0)


def test_a_dataset_without_a_readable_record_is_named():
    with pytest.raises(
        UserError, match=r"data.broken: 20 records .* broken/\d+ \(truncated\); prepare"
    ):
        read(alone(), {"broken": Broken(frozenset(range(100)))})


@pytest.mark.parametrize(
    ("size", "batch_size", "shards"), [(100, 32, 1), (100, 16, 2), (97, 7, 3), (4, 2, 5)]
)
def test_evaluation_sees_every_sample_once_and_all_shards_have_equally_many_batches(
    size, batch_size, shards
):
    split, seen, lengths = Broken(size=size), [], set()
    for shard in range(shards):
        batches = list(eval_batches(split, batch_size, (shard, shards)))
        lengths.add(len(batches))
        for batch, ids in batches:
            assert batch.rgb.shape == (batch_size, 1, 32, 32, 3) and batch.mask.sum() == len(ids)
            assert not batch.rgb[~batch.mask].any()
            for row, name in zip(np.flatnonzero(batch.mask), ids, strict=True):
                sample = split.load(int(name.rpartition("/")[2]), 0)
                assert (
                    np.array_equal(batch.rgb[row], sample.rgb) and batch.label[row] == sample.label
                )
            seen += ids
    assert len(lengths) == 1
    assert sorted(seen) == sorted(f"demo_image/test/{i}" for i in range(size))


def test_a_damaged_record_of_an_evaluation_is_an_error_that_names_it():
    with pytest.raises(UserError, match=r"broken/12 cannot be read \(truncated\)"):
        list(eval_batches(Broken(frozenset({12})), 32))
    with pytest.raises(ValueError, match="the validation split is empty"):
        next(eval_batches(Broken(size=0), 32))
    with pytest.raises(ValueError, match="eval.batch_size=0"):
        next(eval_batches(Broken(), 0))


def test_steps_lie_on_the_devices_row_by_row():
    mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    plan, slots = mixture("mixed"), {"demo_image": 16, "demo_rgbd": 16}
    rows = {name: host_rows(sharding, size) for name, size in slots.items()}
    assert rows["demo_rgbd"].tolist() == list(range(16))
    with jax.transfer_guard("disallow"):
        steps = read(plan, rows=rows, place=on_devices(sharding, slots))
    for step, host in zip(steps, read(plan, rows=rows), strict=True):
        assert same(jax.device_get(step.batches), host.batches)
        batch = step.batches["demo_rgbd"]
        assert isinstance(batch, Batch) and batch.rgb.sharding.is_equivalent_to(sharding, 5)
        assert {shard.data.shape[0] for shard in batch.label.addressable_shards} == {2}
    with pytest.raises(ValueError, match="batch_size=12 does not divide over the mesh"):
        host_rows(sharding, 12)


LOADED: list[int] = []


@dataclass(frozen=True)
class Counting(Broken):
    """Notes what was read, in this process."""

    def load(self, index: int, seed: int) -> Sample:
        LOADED.append(index)
        return super().load(index, seed)


@pytest.mark.parametrize("parts_ahead", [2, 5])
def test_a_host_holds_no_more_than_its_budget_and_the_part_that_it_places(parts_ahead):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    place = on_devices(NamedSharding(mesh, PartitionSpec("data")), {"broken": 32})
    part = 4 * 32 * 32 * 3
    config = LoaderConfig(threads=2, max_host_gib=(parts_ahead + 0.5) * part / 2**30)
    LOADED.clear()
    with TrainLoader(alone(100, 32), {"broken": Counting()}, config, place=place) as loader:
        step = next(loader)
        time.sleep(0.5)
        # one sample tells the size; the step in use and one that waits are on the devices
        assert 65 < len(LOADED) <= 1 + (1 + ON_DEVICE) * 32 + (parts_ahead + 1) * 4
        assert len(step.ids["broken"]) == 32


def test_rows_that_several_devices_hold_are_read_once():
    mesh = jax.make_mesh((4, 2), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    sharding = NamedSharding(mesh, PartitionSpec("data"))
    plan = alone(100, 8, steps=3)
    LOADED.clear()
    steps = read(plan, {"broken": Counting()}, place=on_devices(sharding, plan.batch_sizes))
    assert len(LOADED) == 1 + 3 * 8
    for step, host in zip(steps, read(plan, {"broken": Broken()}), strict=True):
        assert same(jax.device_get(step.batches), host.batches) and step.ids == host.ids
        assert len(step.batches["broken"].rgb.addressable_shards) == 8


PROCESS = """
import sys
import jax, numpy as np
jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]), coordinator_bind_address=sys.argv[1])
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from omnivore_jax.core.types import Batch
from omnivore_jax.data.loader import host_rows, on_devices
mesh = Mesh(np.array(jax.devices())[[0, 2, 1, 3]], ("data",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("data"))
rows = host_rows(sharding, 8)
assert rows.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]][jax.process_index()], rows
rgb = rows[:, None] * np.ones((1, 3), np.uint8)
local = Batch(rgb, None, rows.astype(np.int32), np.ones(4, bool))
batch = on_devices(sharding, {"a": 8})({"a": local})["a"]
assert batch.rgb.shape == (8, 3) and batch.label.shape == (8,)
for shard in batch.label.addressable_shards:
    assert np.array_equal(shard.data, np.arange(8)[shard.index]), shard
whole = NamedSharding(mesh, PartitionSpec())
weighted = jax.jit(lambda x: (x * np.arange(8)).sum(), out_shardings=whole)(batch.label)
assert int(weighted.addressable_data(0)) == 140
"""


@pytest.mark.slow
def test_two_hosts_whose_devices_alternate_in_the_mesh_hold_the_planned_rows():
    address = f"127.0.0.1:{_free_port()}"
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, address, str(i)]) for i in range(2)
    ]
    assert [process.wait(120) for process in processes] == [0, 0]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def test_the_time_that_a_run_waits_for_data_is_measured():
    with TrainLoader(
        alone(steps=6), {"broken": Broken(seconds=0.02)}, LoaderConfig(threads=1, prefetch=1)
    ) as loader:
        list(loader)
        assert 0.8 < loader.waited < 3  # 60 samples of 20 ms
    with TrainLoader(alone(steps=6), {"broken": Broken()}, LoaderConfig()) as loader:
        next(loader)
        first = loader.waited
        for _ in loader:
            time.sleep(0.05)
        assert loader.waited - first < 0.1


def test_the_loader_is_imported_without_grain():
    code = "import sys, omnivore_jax.data.loader; sys.exit('grain' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("wrong", [{"workers": -1}, {"threads": -1}, {"prefetch": 0}], ids=str)
def test_a_mistake_is_one_line_with_its_key(wrong):
    ((key, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{key}={value}; use"):
        LoaderConfig(**wrong)


def test_threads_follow_the_cores_of_the_host_unless_they_are_given():
    assert LoaderConfig().reading_threads() == min(host_cores(), 64)
    assert LoaderConfig(workers=10_000).reading_threads() == 1
    assert LoaderConfig(threads=3).reading_threads() == 3
