import dataclasses
import pickle

import numpy as np
import pytest

from configs.joint import MIXTURES
from configs.swin_l import get_config
from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.bad_records import BadRecords
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import PUBLIC, data_root, open_dataset
from omnivore_jax.data.loader import LoaderConfig, TrainLoader, eval_batches
from omnivore_jax.data.mixture import Mixture, Source
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.data.transforms import EvalTransform, TrainTransform, ViewsTransform
from omnivore_jax.prepare import Options, prepare
from tests.media import clip, depth_map, jpeg, part, png

FRAMES = 4
JOINT = MIXTURES["in21k"]
ROWS = {name: PUBLIC[name].config(size=48, batch_size=4) for name in JOINT}
ROWS["kinetics400"] = dataclasses.replace(ROWS["kinetics400"], frames=FRAMES)
ROWS["demo_image"] = DatasetConfig("image", 4, source="embedded", size=32, crop="shift")


def opened(name, root, split, row=None, transform=TrainTransform):
    row = row or ROWS[name]
    if transform is not TrainTransform:
        return open_dataset(name, row, root, split, transform(row.kind, row.protocol(75.0)))
    return open_dataset(name, row, root, split, TrainTransform(row, 75.0))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Miniatures of the paper's four datasets, far smaller and with fewer classes."""
    source, root = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("root")
    files = {f"imagenet/{c}/{k}.jpg": jpeg(part(k)) for c in ("cat", "dog") for k in range(6)}
    files |= {f"imagenet21k/{c}/{k}.png": png(part(k)) for c in ("a", "b", "c") for k in range(4)}
    files |= {f"kinetics400/{c}/{k}.mp4": clip(n=20 + k) for c in ("run", "jump") for k in range(3)}
    files |= {
        f"sunrgbd/{c}/{k}/image.jpg": jpeg(part(k)) for c in ("lab", "office") for k in range(4)
    }
    files |= {
        f"sunrgbd/{c}/{k}/depth.png": png(depth_map(80, 96))
        for c in ("lab", "office")
        for k in range(4)
    }
    for name, data in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    for name in JOINT:
        val = 0.0 if name == "imagenet21k" else 0.3
        folders = str(source / name), str(root / name)
        prepare("folder", Options(*folders, val=val, rows=5, threads=2, fx=518.86))
    return root


@pytest.mark.parametrize(
    ("name", "classes", "train", "val"),
    [
        ("imagenet", 1000, 1_281_167, 50_000),
        ("imagenet21k", 21_841, 14_197_122, 0),
        ("sunrgbd", 19, 4845, 4659),
    ],
)
def test_sizes_of_the_public_datasets_are_those_of_the_facts(name, classes, train, val):
    assert (PUBLIC[name].classes, PUBLIC[name].num_train, PUBLIC[name].num_val) == (
        classes,
        train,
        val,
    )


def test_the_papers_recipe_and_the_table_say_the_same():
    config = get_config().data
    for name in JOINT:
        row, public = config[name].to_dict(), PUBLIC[name]
        assert {key: row[key] for key in ("kind", "head", "classes")} == {
            key: getattr(public, key) for key in ("kind", "head", "classes")
        }
        ours = {
            key: value
            for key, value in row.items()
            if key in {field.name for field in dataclasses.fields(DatasetConfig)}
        }
        assert DatasetConfig(**ours) == public.config()


@pytest.mark.parametrize("name", JOINT)
def test_a_miniature_of_every_dataset_opens_loads_and_travels(root, name):
    dataset = opened(name, root, "train")
    assert dataset.kind == PUBLIC[name].kind and 2 <= len(dataset.classes) < PUBLIC[name].classes
    frames = FRAMES if name == "kinetics400" else 1
    for index in range(len(dataset)):
        sample = dataset.load(index, 5)
        assert (
            sample.rgb.shape == (frames, 48, 48, 3)
            and dataset.classes[sample.label] == sample.id.split("/")[0]
        )
        assert (sample.disparity is not None) == (name == "sunrgbd")
    again = pickle.loads(pickle.dumps(dataset)).load(0, 5)
    assert np.array_equal(again.rgb, dataset.load(0, 5).rgb)


def test_the_splits_are_read_with_and_without_augmentation(root):
    train = opened("imagenet", root, "train")
    val, plain = (opened("imagenet", root, s, transform=EvalTransform) for s in ("val", "train"))
    assert (len(train), len(val)) == (8, 4)
    assert not np.array_equal(train.load(0, 1).rgb, train.load(0, 2).rgb)
    for dataset in (val, plain):
        assert np.array_equal(dataset.load(0, 1).rgb, dataset.load(0, 2).rgb)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_own_files_train_beside_any_other_dataset_and_a_damaged_record_is_named(
    root, tmp_path, workers
):
    folder = tmp_path / "imagenet"
    folder.mkdir()
    for path in (root / "imagenet").glob("*.*"):
        (folder / path.name).write_bytes(path.read_bytes())
    shard = folder / "train-00000.arrayrecord"
    data = bytearray(shard.read_bytes())
    data[data.index(jpeg(part(1))[200:400])] ^= 1  # in one record, as a disk does it
    shard.write_bytes(data)
    (tmp_path / "kinetics400").symlink_to(root / "kinetics400")
    (tmp_path / "sunrgbd").symlink_to(root / "sunrgbd")
    names = ["imagenet", "kinetics400", "sunrgbd", "demo_image"]
    datasets = {name: opened(name, tmp_path, "train") for name in names}
    sources = tuple(
        Source(name, len(dataset), 4, min(1.0, 10 / len(dataset)))
        for name, dataset in datasets.items()
    )
    bad = BadRecords(
        tmp_path / "bad.jsonl", {name: len(dataset) for name, dataset in datasets.items()}, 1.0
    )
    plan = Mixture(sources, steps=3, batching="mixed", batch_size=32)
    with TrainLoader(plan, datasets, LoaderConfig(workers=workers), bad_records=bad) as loader:
        steps = list(loader)
    assert all(set(step.batches) == set(names) for step in steps)
    # padding keeps pairs whole where a share is odd; no dataset is padding alone
    assert all(b.mask.any() for step in steps for b in step.batches.values())
    sizes = [sum(int(b.mask.sum()) for b in step.batches.values()) for step in steps]
    assert all(28 <= size <= 32 for size in sizes)
    assert steps[0].batches["sunrgbd"].disparity is not None
    assert (
        bad.counts() == {"imagenet": 1}
        and "train-00000.arrayrecord[" in (tmp_path / "bad.jsonl").read_text()
    )


def test_every_validation_sample_comes_once(root):
    val = opened("sunrgbd", root, "val", transform=EvalTransform)
    batches = list(eval_batches(val, 3))
    assert sorted(id for _, ids in batches for id in ids) == sorted(
        val.load(k, 0).id for k in range(len(val))
    )


def test_an_evaluation_of_several_views_gets_them_all_of_every_sample(root):
    protocol = Protocol(FRAMES, clips=2, crops=3, short_side=48, size=48)
    row, transform = ROWS["kinetics400"], ViewsTransform("video", protocol)
    val = open_dataset("kinetics400", row, root, "val", transform)
    batches = list(eval_batches(val, 3))
    assert sum(len(ids) for _, ids in batches) == len(val) == 2
    assert batches[0][0].rgb.shape == (3, 6, FRAMES, 48, 48, 3)
    center = opened("kinetics400", root, "val", transform=EvalTransform).load(0, 0)
    assert center.rgb.shape == (FRAMES, 48, 48, 3)


def test_the_embedded_datasets_have_one_view_which_the_axis_of_views_holds():
    row = ROWS["demo_image"]
    plain = opened("demo_image", "", "train", transform=EvalTransform).load(3, 8)
    views = opened("demo_image", "", "train", transform=ViewsTransform).load(3, 9)
    assert np.array_equal(views.rgb, plain.rgb[None]) and views.disparity is None
    assert not np.array_equal(opened("demo_image", "", "train").load(3, 8).rgb, plain.rgb)
    for wrong, says in (({"crops": 3}, "has one view a sample"), ({"frames": 2}, "frames=2")):
        protocol = dataclasses.replace(row.protocol(75.0), **wrong)
        with pytest.raises(UserError, match=says):
            open_dataset("demo_image", row, "", "val", ViewsTransform("image", protocol))


def test_a_dataset_that_is_not_there_is_one_line_with_the_folder_and_the_command(tmp_path):
    with pytest.raises(UserError) as error:
        opened("imagenet", tmp_path, "train")
    command = f"python -m omnivore_jax.prepare imagenet --src=... --out={tmp_path}/imagenet"
    assert (
        str(error.value)
        == f"dataset 'imagenet' is not in {tmp_path}/imagenet; make it with: {command}"
    )


def test_a_dataset_that_was_begun_says_so(root, tmp_path):
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "plan.json").write_text("{}")
    with pytest.raises(
        UserError, match="was begun but not ended; run the same prepare command again"
    ):
        opened("imagenet", tmp_path, "train")


@pytest.mark.parametrize(
    ("name", "row", "split", "says"),
    [
        ("kinetics400", "imagenet", "train", "data.kinetics400.kind='image', but .* holds 'video'"),
        ("imagenet21k", "imagenet21k", "val", r"no 'val' samples, only train \(12\).*--val=0.1"),
        ("demo_image", "imagenet", "train", "is not in"),
    ],
)
def test_a_dataset_that_does_not_fit_its_config_is_explained(root, name, row, split, says):
    with pytest.raises(UserError, match=says) as error:
        opened(name, root, split, ROWS[row])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("key", "value"), [("size", 64), ("kind", "rgbd")])
def test_an_embedded_dataset_that_does_not_fit_its_config_is_explained(key, value):
    with pytest.raises(UserError, match=f"data.demo_image.{key}="):
        opened("demo_image", "", "val", dataclasses.replace(ROWS["demo_image"], **{key: value}))


def test_a_shard_that_was_cut_short_is_found_before_the_run_begins(root, tmp_path):
    content = manifest.read(root / "imagenet21k")
    (tmp_path / "imagenet21k").mkdir()
    manifest.write(tmp_path / "imagenet21k", content)
    for shard in content.splits["train"]:
        (tmp_path / "imagenet21k" / shard.file).write_bytes(
            (root / "imagenet21k" / shard.file).read_bytes()[:-1]
        )
    with pytest.raises(UserError, match="train-00000.arrayrecord is damaged"):
        opened("imagenet21k", tmp_path, "train")


def test_the_root_is_the_config_key_else_the_environment_else_data(monkeypatch):
    monkeypatch.setenv("OMNIVORE_DATA", "/big/disk")
    assert [str(data_root("/mine")), str(data_root())] == ["/mine", "/big/disk"]
    monkeypatch.delenv("OMNIVORE_DATA")
    assert str(data_root()) == "data"


def test_a_url_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("OMNIVORE_DATA", "https://host/data")
    with pytest.raises(UserError, match="OMNIVORE_DATA=https://host/data is a URL"):
        data_root()
