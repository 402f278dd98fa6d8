"""Published datasets from the form of their downloads to figures: prepare, verify, train, evaluate.

The miniatures are those of tests/ingest/layouts, the configs those of configs/, made small.
"""

import contextlib
import io
import json

import pytest

from omnivore_jax.data import manifest
from omnivore_jax.data.datasets import PUBLIC
from omnivore_jax.prepare import Options, prepare, verify
from tests.ingest.downloads import lay
from tests.rows import DOWNLOADS
from tests.whole_runs import assert_same_run, complete, last_step, start, training_rows

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("published")]
JOINT = ("imagenet", "kinetics400", "sunrgbd")
ALONE = [name for name in DOWNLOADS if name not in JOINT]
CONFIGS = {"imagenet21k": "configs/swin_b.py:in21k_alone"}
"""Where it is not that of the transfer."""
SMALL = {"size": 64, "batch_size": 2}
NARROW = {"nyu_seg": {"channels": 32, "auxiliary_channels": 16, "views": "whole"}}
"""What would take long, of a large head."""
STEPS = 3


@pytest.mark.parametrize("name", ALONE)
def test_a_download_is_prepared_verified_trained_on_and_evaluated(name, tmp_path):
    out, video = tmp_path / "data" / name, PUBLIC[name].kind == "video"
    options = Options(str(lay(tmp_path / "download", DOWNLOADS[name])), str(out), deep=True)
    with contextlib.redirect_stdout(io.StringIO()):
        prepare(name, options)
        verify(options)
    small = SMALL | NARROW.get(name, {})
    changes = {f"data.{name}.{key}": value for key, value in small.items()}
    changes |= {f"data.{name}.frames": 8} if video else {}
    changes |= {"model.name": "tiny", "train.steps": STEPS, "init_from": ""}
    changes |= {"data.root": out.parent}
    config = CONFIGS.get(name, f"configs/transfer.py:{name}")
    said, _ = complete(config, tmp_path / "run", changes, "--json")

    rows = training_rows(tmp_path / "run")
    assert [row["train"][name]["n"] for row in rows] == [SMALL["batch_size"]] * STEPS
    held_out = manifest.read(out).count("val")
    results = json.loads(said)
    figures = {figure["name"]: figure["n"] for figure in results["datasets"] + results["maps"]}
    assert figures == ({name: held_out} if held_out else {})
    assert not (tmp_path / "run" / "bad_records.jsonl").exists()


JOINT_STEPS = 50


@pytest.fixture(scope="module")
def joint_data(tmp_path_factory):
    """ImageNet's archives, a release of Kinetics-400 and SUN RGB-D, prepared under one root."""
    source, root = tmp_path_factory.mktemp("downloads"), tmp_path_factory.mktemp("data")
    with contextlib.redirect_stdout(io.StringIO()):
        for name in JOINT:
            files = lay(source / name, DOWNLOADS[name])
            prepare(name, Options(str(files), str(root / name)))
    return root


def test_joint_training_on_downloads_is_killed_once_and_ends_with_the_same_bits(
    joint_data, tmp_path
):
    changes = {f"data.{name}.{key}": size for name in JOINT for key, size in SMALL.items()}
    changes |= {"data.kinetics400.frames": 8, "data.root": joint_data, "mix.group": 2}
    changes |= {"model.name": "tiny", "train.steps": JOINT_STEPS, "checkpoint.every": 7}
    config = "configs/swin_t.py"
    complete(config, tmp_path / "whole", changes)
    run = start(config, tmp_path / "killed", changes)
    assert run.wait_for(lambda: last_step(tmp_path / "killed") > JOINT_STEPS // 2)
    run.process.kill()
    run.finish()
    assert last_step(tmp_path / "killed") < JOINT_STEPS
    complete(config, tmp_path / "killed", changes)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
    trained = [name for row in training_rows(tmp_path / "whole") for name in row["train"]]
    assert len(trained) == JOINT_STEPS and set(trained) == set(JOINT)
