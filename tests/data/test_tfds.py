"""Datasets of TFDS, made by its own builder in a form of its own, read in place."""

import json
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import datasets
from omnivore_jax.data.dataset_config import DatasetConfig
from omnivore_jax.data.decode import decode_image
from omnivore_jax.data.sample import BadRecord
from omnivore_jax.data.tfds import open_split
from omnivore_jax.data.transforms import TrainTransform
from tests.media import jpeg, part, png
from tests.whole_runs import complete, training_rows

BUILDER = """
import io, pathlib, sys
import tensorflow_datasets as tfds

FILES = pathlib.Path(sys.argv[1])
NAMES = ["abyssinian", "beagle"]


class OxfordIiitPet(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version(sys.argv[3])

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=NAMES),
            "species": tfds.features.ClassLabel(names=["Cat", "Dog"]),
            "file_name": tfds.features.Text(),
            "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, manager):
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split):
        for path in sorted((FILES / split).iterdir()):
            label = NAMES.index(path.stem.rsplit("_", 1)[0])
            yield path.name, {
                "image": io.BytesIO(path.read_bytes()),
                "label": label,
                "species": label,
                "file_name": path.name,
                "segmentation_mask": io.BytesIO((FILES / "mask.png").read_bytes()),
            }


OxfordIiitPet(data_dir=sys.argv[2], file_format="array_record").download_and_prepare()
assert "tensorflow" not in sys.modules
"""
CONFIG = DatasetConfig("image", batch_size=4, source="tfds", size=32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Pets as `tfds build` leaves it: TFDS's name and features, real photographs."""
    source, root = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("tfds")
    (source / "mask.png").write_bytes(png(part(0)[..., 0]))
    for split, pictures in {"train": range(4), "test": range(4, 6)}.items():
        (source / split).mkdir()
        for k in pictures:
            for name, encode in (("abyssinian", jpeg), ("beagle", png)):
                (source / split / f"{name}_{k}.jpg").write_bytes(encode(part(k)))
    program = [sys.executable, "-c", BUILDER, str(source), str(root), "4.0.0"]
    subprocess.run(program, check=True, capture_output=True)
    return root


def test_pictures_have_their_labels_names_and_bytes(root):
    reader, classes = open_split("pets", "", root, "val")
    assert classes == ("abyssinian", "beagle") and len(reader) == 4
    records = {record.id: record for record in (reader[i] for i in range(4))}
    assert {id: classes[record.label] for id, record in records.items()} == {
        f"{name}_{k}.jpg": name for name in classes for k in (4, 5)
    }
    np.testing.assert_array_equal(decode_image(records["beagle_5.jpg"].media), part(5))
    assert pickle.loads(pickle.dumps(reader))[2] == reader[2]


def test_they_are_opened_as_any_dataset_is(root):
    transform = TrainTransform(CONFIG, 75.0)
    dataset = datasets.open_dataset("pets", CONFIG, root, "train", transform)
    assert len(dataset) == 8 and dataset.classes == ("abyssinian", "beagle")
    sample = dataset.load(3, seed=1)
    assert sample.rgb.shape == (1, 32, 32, 3) and sample.rgb.std() > 5
    assert datasets.count_samples("pets", CONFIG, root, "val") == 4
    assert datasets.description("pets", CONFIG, root) == (
        root / "oxford_iiit_pet" / "4.0.0" / "dataset_info.json"
    )


def test_the_newest_version_is_read_unless_another_is_asked_for(root, tmp_path):
    shutil.copytree(root, tmp_path / "tfds")
    versions = tmp_path / "tfds" / "oxford_iiit_pet"
    shutil.copytree(versions / "4.0.0", versions / "10.0.0")
    newest, _ = open_split("pets", "", tmp_path / "tfds", "train")
    older, _ = open_split("mine", "oxford_iiit_pet:4.0.0", tmp_path / "tfds", "train")
    assert (newest.folder.name, older.folder.name) == ("10.0.0", "4.0.0")


def test_a_damaged_record_is_named(root, tmp_path):
    shutil.copytree(root, tmp_path / "tfds")
    (shard,) = (tmp_path / "tfds" / "oxford_iiit_pet" / "4.0.0").glob("*-train.array_record*")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    reader, _ = open_split("pets", "", tmp_path / "tfds", "train")
    with pytest.raises(BadRecord, match="oxford_iiit_pet/train/"):
        [reader[i] for i in range(len(reader))]


def test_what_cannot_be_read_is_one_line_with_the_remedy(root, tmp_path):
    with pytest.raises(UserError, match=r"tfds build imagenet2012 --file_format=array_record"):
        open_split("imagenet", "", root, "train")
    with pytest.raises(UserError, match="holds no version 1.0.0 that TFDS has prepared"):
        open_split("pets", "oxford_iiit_pet:1.0.0", root, "train")
    shutil.copytree(root, tmp_path / "tfds")
    info = tmp_path / "tfds" / "oxford_iiit_pet" / "4.0.0" / "dataset_info.json"
    content = json.loads(info.read_text())
    info.write_text(json.dumps(content | {"fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match=r"convert_format .*--out_file_format=array_record") as said:
        open_split("pets", "", tmp_path / "tfds", "train")
    assert "\n" not in str(said.value) and "needs TensorFlow" in str(said.value)
    train = [split for split in content["splits"] if split["name"] == "train"]
    info.write_text(json.dumps(content | {"splits": train}))
    with pytest.raises(UserError, match="has no split validation or val or test, only train"):
        open_split("pets", "", tmp_path / "tfds", "val")


@pytest.mark.parametrize(
    ("keys", "says"),
    [({"source": "records", "tfds": "mnist"}, "use source='tfds'"), ({"kind": "video"}, "prepare")],
)
def test_keys_that_do_not_go_together_are_named(keys, says):
    with pytest.raises(ValueError, match=says):
        DatasetConfig(**{"kind": "image", "batch_size": 4, "source": "tfds"} | keys)


RUN = """
from ml_collections import ConfigDict
from configs.demo import get_config as demo

def get_config():
    config = demo("image")
    pets = {"kind": "image", "source": "tfds", "head": "pets", "classes": 2, "size": 32}
    config.data = ConfigDict({"root": "", "workers": 2, "pets": pets | {"batch_size": 4}})
    return config
"""


@pytest.mark.slow
def test_a_config_trains_from_it_and_is_evaluated(root, tmp_path):
    (tmp_path / "pets.py").write_text(RUN)
    changes = {"data.root": root, "train.steps": 4, "eval.retrieval": 0, "log.tensorboard": False}
    out, _ = complete(tmp_path / "pets.py", tmp_path / "run", changes, "--json")
    assert [row["train"]["pets"]["n"] for row in training_rows(tmp_path / "run")] == [4] * 4
    (result,) = json.loads(out)["datasets"]
    assert (result["name"], result["n"]) == ("pets", 4)
