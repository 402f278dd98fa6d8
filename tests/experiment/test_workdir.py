"""A workdir remembers the config of its run.

Only what cannot change a result may change between two starts.
"""

import errno
import json
import os
import sys

import pytest

from configs.demo import get_config
from omnivore_jax.core import dist
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.mirror import Mirror
from omnivore_jax.experiment.workdir import PACKAGES, config_differences, open_workdir

CONFIG = get_config().to_dict()


def changed(path, value, config=CONFIG):
    """A copy of the config with one key set."""
    key, _, rest = path.partition(".")
    return {**config, key: changed(rest, value, config.get(key, {})) if rest else value}


def opened(workdir, config=CONFIG, allow=False):
    open_workdir(Mirror(workdir), config, allow)
    return json.loads((workdir / "config.json").read_text())


def test_a_workdir_holds_config_versions_and_command(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py", "--config=configs/demo.py"])
    stored = opened(tmp_path / "deep" / "run")
    assert stored["config"] == json.loads(json.dumps(CONFIG))
    assert stored["command"] == "python -m omnivore_jax.main --config=configs/demo.py"
    assert stored["versions"].keys() == {"python", *PACKAGES}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(
            ("log.every", 1),
            ("log.tensorboard", False),
            ("checkpoint.every", 3),
            ("checkpoint.keep_last", 9),
        ),
        *(
            ("data.root", "/elsewhere"),
            ("data.workers", 2),
            ("data.threads", 9),
            ("data.prefetch", 9),
        ),
        *(
            ("data.bad_budget", 0.5),
            ("data.demo_image.microbatch", 4),
            ("data.demo_image.num_train", 7),
        ),
        *(("hardware.chips", 64), ("mesh.fsdp", 2), ("eval.batch_size", 3)),
    ],
)
def test_a_key_that_cannot_change_a_result_may_change(tmp_path, path, value):
    opened(tmp_path)
    assert opened(tmp_path, changed(path, value))["config"] == json.loads(
        json.dumps(changed(path, value))
    )


@pytest.mark.parametrize(
    ("path", "value"),
    [
        *(
            ("train.steps", 5),
            ("train.seed", 1),
            ("optimizer.peak", 1.0),
            ("mix.group", 8),
        ),
        *(
            ("data.demo_image.batch_size", 8),
            ("data.demo_video.ratio", 2.0),
            ("data.demo_rgbd.rgb_drop", 0.0),
        ),
        *(
            ("eval.every", 7),
            ("data.demo_image.mean", (0.0, 0.0, 0.0)),
        ),
    ],
)
def test_a_key_that_can_change_a_result_is_refused_unless_it_is_allowed(tmp_path, path, value):
    before = opened(tmp_path)
    with pytest.raises(UserError, match=rf"{path} was .*, is .*--allow_config_change") as refused:
        opened(tmp_path, changed(path, value))
    assert str(tmp_path) in str(refused.value) and "\n" not in str(refused.value)
    assert json.loads((tmp_path / "config.json").read_text()) == before
    opened(tmp_path, changed(path, value), allow=True)
    opened(tmp_path, changed(path, value))  # the new values are the run's from now on


def test_all_differences_are_listed_sorted_and_absent_keys_named():
    new = {"data": {"b": {"ratio": 2.0, "new": 1}}, "log": {"every": 2}}
    old = {"data": {"b": {"ratio": 1.0}, "a": {"flip": 0.5}}, "log": {"every": 1}}
    assert config_differences(old, new) == [
        "data.a.flip was 0.5, is 'absent'",
        "data.b.new was 'absent', is 1",
        "data.b.ratio was 1.0, is 2.0",
    ]


def test_the_same_config_has_no_differences_after_it_was_stored(tmp_path):
    assert config_differences(opened(tmp_path)["config"], json.loads(json.dumps(CONFIG))) == []


def test_a_folder_that_the_hosts_do_not_share_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        dist, "is_primary", lambda: False
    )  # another host: it finds nothing where the first one wrote
    with pytest.raises(
        UserError, match="is not the same folder on every host; use one that they share"
    ):
        open_workdir(Mirror(tmp_path), CONFIG, False)


def test_a_folder_that_cannot_be_made_or_written_is_one_line(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be made: Not a directory; choose another folder"):
        open_workdir(Mirror(tmp_path / "file" / "run"), CONFIG, False)
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="config.json cannot be written: No space left on device"):
        open_workdir(Mirror(tmp_path / "run"), CONFIG, False)


def test_a_config_file_that_is_torn_is_one_line(tmp_path):
    (tmp_path / "config.json").write_text('{"config": {')
    with pytest.raises(UserError, match="config.json"):
        open_workdir(Mirror(tmp_path), CONFIG, False)
