"""Prepared datasets are read in place from Google's store; what its absence does is no damage."""

import contextlib
import io
import pickle

import pytest

from omnivore_jax.core import buckets
from omnivore_jax.core.buckets import place
from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.datasets import count_samples, data_root, description, open_dataset
from omnivore_jax.data.records import RecordReader
from omnivore_jax.data.sample import BadRecord
from omnivore_jax.data.transforms import EvalTransform
from omnivore_jax.prepare import Options, prepare
from tests.fake_store import BUCKET, serving
from tests.media import part, png
from tests.whole_runs import assert_same_run, complete

NAME, CLASSES = "demo_image", 10
ROW = DatasetConfig("image", 4, size=32, subset=0.5)
DATA = f"gs://{BUCKET}/data"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A prepared dataset on a disk."""
    source, root = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("root")
    for c in range(CLASSES):
        for k in range(6):
            file = source / f"{'val' if k < 2 else 'train'}/{c}/{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(part(k + c)))
    with contextlib.redirect_stdout(io.StringIO()):
        prepare("folder", Options(str(source), str(root / NAME), rows=15, threads=2))
    return root


@pytest.fixture(scope="module")
def bucket(root, tmp_path_factory):
    """The same dataset in a bucket; `place(DATA)`."""
    with serving("gs", tmp_path_factory.mktemp("store")):
        for file in buckets.files_below(root):
            (place(DATA) / file.relative_to(root)).upload(file)
        yield place(DATA)


def opened(root, split, row=ROW):
    return open_dataset(NAME, row, root, split, EvalTransform("image", row.protocol(75.0)))


def test_the_samples_are_those_of_the_disk(root, bucket):
    for split in ("train", "val"):
        disk, there = opened(root, split), opened(DATA, split)
        assert len(disk) == len(there) == (20 if split == "train" else 20)
        assert disk.classes == there.classes
        for k in range(len(disk)):
            one, other = disk.load(k, 0), there.load(k, 0)
            assert one.id == other.id and one.label == other.label
            assert one.rgb.tobytes() == other.rgb.tobytes()
    again = pickle.loads(pickle.dumps(there))  # as to a worker process
    assert again.load(3, 0).rgb.tobytes() == there.load(3, 0).rgb.tobytes()
    assert count_samples(NAME, ROW, DATA, "val") == 20
    assert description(NAME, ROW, DATA) == bucket / NAME / manifest.FILE


def test_a_shard_that_is_missing_or_cut_short_is_said_at_once(bucket):
    shards = manifest.read(bucket / NAME).splits["train"]
    path = bucket / NAME / shards[1].file
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=f"{path} is damaged: {len(whole) - 1} bytes"):
        opened(DATA, "train")
    path.unlink()
    with pytest.raises(UserError, match=f"{path} is missing"):
        opened(DATA, "train")
    path.write_bytes(whole)


def test_damage_is_of_the_record_and_a_store_that_fails_is_not(bucket):
    shards = manifest.read(bucket / NAME).splits["train"]
    path = bucket / NAME / shards[0].file
    whole = path.read_bytes()
    content = bytearray(whole)
    media = RecordReader(bucket / NAME, shards)[0].media
    content[content.index(media) + len(media) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(BadRecord):
        RecordReader(bucket / NAME, shards)[0]
    path.unlink()
    with pytest.raises(UserError, match=f"{path} cannot be read: .*may read the bucket"):
        RecordReader(bucket / NAME, shards)[0]
    path.write_bytes(whole)


def test_what_cannot_be_read_there_is_refused_with_what_to_do(bucket):
    with pytest.raises(UserError, match=r"disks and gs:// only; .*aws s3 sync s3://b/data data"):
        if not buckets.find_spec("s3fs"):
            pytest.skip("needs s3fs")
        data_root("s3://b/data")
    with pytest.raises(UserError, match=f"rsync -r data/birds {DATA}/birds"):
        open_dataset("birds", ROW, DATA, "val", EvalTransform("image", ROW.protocol(75.0)))
    tfds = DatasetConfig("image", 4, size=32, source="tfds")
    with pytest.raises(UserError, match="is read from disks only"):
        opened(DATA, "val", tfds)


@pytest.mark.slow
def test_a_run_reads_its_data_from_a_bucket_with_the_same_bits(root, bucket, tmp_path):
    few = {
        "train.steps": 6,
        "eval.retrieval": 0,
        "log.tensorboard": False,
        "data.demo_image.source": "records",
        "data.demo_image.crop": "random_resized",
        "data.demo_image.batch_size": 8,
        "data.workers": 1,
    }
    for name, where in (("disk", root), ("bucket", DATA)):
        complete("configs/demo.py:image", tmp_path / name, few | {"data.root": where})
    assert_same_run(tmp_path / "disk", tmp_path / "bucket")
