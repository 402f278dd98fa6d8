import io
import tarfile
from collections import Counter
from contextlib import contextmanager

import cv2
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import PUBLIC, open_dataset
from omnivore_jax.data.depth import Intrinsics
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.records import RecordReader
from omnivore_jax.data.transforms import EvalTransform
from omnivore_jax.ingest.layouts.base import DepthMap, Item, LayoutOptions, Listing, TarMember
from omnivore_jax.ingest.layouts.table import LAYOUTS
from omnivore_jax.ingest.preparation import Work, prepare
from tests.media import depth_map, jpeg, part, png


class Tars:
    """A layout of a tar for every class."""

    def __init__(self):
        self.items = []

    def list(self, source, options):
        archives, members = sorted(source.glob("*.tar")), {}
        for label, path in enumerate(archives):
            with tarfile.open(path) as tar:
                for entry in tar:
                    member = TarMember(path, entry.offset_data, entry.size)
                    members[f"{path.stem}/{entry.name}"] = label, member
        ids = [id for id in members if not id.endswith(".depth.png")]

        def item(id):
            self.items.append(id)
            label, media = members[id]
            _, depth = members.get(f"{id}.depth.png", (0, None))
            return Item(id, label, media, depth and DepthMap(depth, options.intrinsics))

        kind = "rgbd" if len(ids) < len(members) else "image"
        classes = tuple(path.stem for path in archives)
        return Listing(kind, classes, {"train": ids}, item, Counter())


@pytest.fixture
def tars(monkeypatch):
    layout = Tars()
    monkeypatch.setitem(LAYOUTS, "tars", layout)
    return layout


def pack(path, files):
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def run(source, out, machine=(0, 1), **options):
    steps = []

    @contextmanager
    def meter(total):
        yield lambda: steps.append(total)

    result = prepare(
        "tars", source, out, LayoutOptions(**options), Work(machine, 2, 2, False), meter
    )
    return result, steps


def test_a_layout_of_archives_is_prepared_as_files_are(tars, tmp_path):
    pictures = {f"{name}/{k}": jpeg(part(k)) for name in ("cat", "dog") for k in range(3)}
    for name in ("cat", "dog"):
        files = {id[4:]: data for id, data in pictures.items() if id.startswith(name)}
        pack(tmp_path / "src" / f"{name}.tar", files)
    result, steps = run(tmp_path / "src", tmp_path / "out")
    content = manifest.read(tmp_path / "out")
    reader = RecordReader(tmp_path / "out", content.splits["train"])
    records = [reader[k] for k in range(len(reader))]
    assert {record.id: record.media for record in records} == pictures
    assert [content.classes[record.label] for record in records] == 3 * ["cat"] + 3 * ["dog"]
    assert content.origin["by"] == "omnivore_jax.prepare tars" and steps == 6 * [6]
    assert result.inventory.class_counts() == {"train": {0: 3, 1: 3}}


def test_a_machine_makes_items_of_its_own_shards_only(tars, tmp_path):
    pack(tmp_path / "src" / "cat.tar", {str(k): jpeg(part(k)) for k in range(6)})
    result, steps = run(tmp_path / "src", tmp_path / "out", (1, 3))
    assert tars.items == ["cat/2", "cat/3"] and steps == [2, 2]
    assert len(result.plans) == 3 and len(result.inventory.reports) == 1


def test_depth_maps_of_any_layout_need_a_focal_length(tars, tmp_path):
    files = {"1": jpeg(part(1)), "1.depth.png": png(depth_map(80, 96))}
    pack(tmp_path / "src" / "office.tar", files)
    with pytest.raises(UserError, match=r"focal length of .*office.tar at byte \d+ is not known"):
        run(tmp_path / "src", tmp_path / "out")
    run(tmp_path / "src", tmp_path / "out", intrinsics=Intrinsics(518.86, 0.075, 0.001))
    splits = manifest.read(tmp_path / "out").splits
    record = RecordReader(tmp_path / "out", splits["train"])[0]
    assert (record.depth, record.fx) == (files["1.depth.png"], 518.86)


def test_opencv_leaves_the_threads_to_the_pool(tars, tmp_path):
    pack(tmp_path / "src" / "cat.tar", {"1": jpeg(part(1))})
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    try:
        run(tmp_path / "src", tmp_path / "out")
        assert cv2.getNumThreads() == 1
    finally:
        cv2.setNumThreads(before)


def test_a_depth_map_becomes_no_picture_without_a_word(tars, tmp_path):
    pack(tmp_path / "src/a.tar", {"1": jpeg(part(1)), "2": png(depth_map(80, 96))})
    result, _ = run(tmp_path / "src", tmp_path / "out")
    (bad,) = result.inventory.bad
    assert bad["id"] == "a/2" and "16-bit gray PNG is a depth map" in bad["reason"]


def test_every_public_dataset_is_a_layout():
    assert PUBLIC.keys() <= LAYOUTS.keys()


@pytest.mark.parametrize(("name", "layout"), [("imagenet", "imagenet"), ("mine", "folder")])
def test_a_missing_dataset_names_its_own_command(tmp_path, name, layout):
    config = DatasetConfig(kind="image", batch_size=1, num_train=1, num_val=1)
    with pytest.raises(UserError, match=f"omnivore_jax.prepare {layout} --src="):
        open_dataset(name, config, tmp_path, "train", EvalTransform("image", Protocol()))
