"""Rows of the paper (docs/reproduce.md), each run from its config on miniatures of its datasets."""

import contextlib
import importlib.util
import io
import json
import re
from pathlib import Path

import pytest

from omnivore_jax.prepare import Options, prepare
from tests.ingest.downloads import lay
from tests.ingest.layouts import (
    test_epic,
    test_imagenet,
    test_imagenet21k,
    test_inat2018,
    test_kinetics,
    test_nyu,
    test_pets,
    test_places365,
    test_ssv2,
    test_sunrgbd,
    test_ucf101,
)
from tests.whole_runs import complete

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reproduce.md").read_text()
CONFIGS = re.findall(r"--config=(configs/\S+)", TEXT)
DOWNLOADS = {
    "imagenet": test_imagenet.packed(),
    "imagenet21k": test_imagenet21k.FORMS["a tar of tars"],
    "kinetics400": test_kinetics.RELEASE,
    "kinetics600": test_kinetics.RELEASE,
    "sunrgbd": test_sunrgbd.download(),
    "inat2018": test_inat2018.download(),
    "pets": test_pets.download(),
    "places365": test_places365.pictures() | test_places365.LISTS,
    "nyu_scenes": test_nyu.download(),
    "nyu_seg": test_nyu.segmentation_download(),
    "ssv2": test_ssv2.download(),
    "epic100": test_epic.VIDEOS | test_epic.ANNOTATIONS,
    "ucf101": test_ucf101.CLIPS | test_ucf101.LISTS,
}
"""In exactly the form of the real ones; without ImageNet's and SUN's they are few files."""
SMALL = {"size": 64, "batch_size": 2, "microbatch": 0, "remat": "none"}
SHORT = {
    "train": {"steps": 2},
    "mix": {"group": 2},
    "eval": {"retrieval": 0},
    "log": {"tensorboard": False},
}
MIXED = {"ratio": 1.0}
"""Shares of a batch of mixed steps, of which a small one has room for few."""
NARROW = {"channels": 32, "auxiliary_channels": 16, "views": "whole"}
"""Of a head of label maps, what would take long."""


def load(text):
    """The config that a command line names, FILE.py[:ARGUMENT]."""
    path, _, argument = text.partition(":")
    spec = importlib.util.spec_from_file_location("config_of_a_row", ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument) if argument else module.get_config()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder of the prepared datasets."""
    source, root = tmp_path_factory.mktemp("downloads"), tmp_path_factory.mktemp("data")
    with contextlib.redirect_stdout(io.StringIO()):
        for name, files in DOWNLOADS.items():
            prepare(name, Options(str(lay(source / name, files)), str(root / name)))
    for fold in (2, 3):
        (root / f"ucf101_fold{fold}").symlink_to(root / "ucf101")
    return root


def run_row(text, root, workdir):
    """Trains two steps of a row's config with a tiny model and evaluates it; gives the figures."""
    config = load(text).to_dict()
    config["model"]["name"], config["init_from"] = "tiny", ""
    config["data"]["root"] = str(root)
    for section, changes in SHORT.items():
        config[section] |= changes
    mixed = config["train"].get("batching") == "mixed"
    if mixed:
        config["train"]["batch_size"] = 16
    for name, dataset in config["data"].items():
        if isinstance(dataset, dict):
            dataset |= SMALL | ({"frames": 8} if dataset["kind"] == "video" else {})
            dataset |= NARROW if name.startswith("nyu_seg") else {}
            dataset |= MIXED if mixed else {}
            dataset |= {"size": 96} if "384" in text else {}  # windows of 12
    file = workdir.with_suffix(".py")
    file.write_text(
        f"from ml_collections import ConfigDict\n\nROW = {config!r}\n\n\n"
        "def get_config():\n    return ConfigDict(ROW)\n"
    )
    said, _ = complete(file, workdir, {}, "--json")
    return json.loads(said)
