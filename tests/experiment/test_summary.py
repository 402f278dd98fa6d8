import errno
import os

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.mirror import Mirror
from omnivore_jax.experiment import summary
from omnivore_jax.experiment.workdir import open_workdir
from tests.reporting.small_report import make


def refusing(number):
    """What writing says, as `core.files` puts it."""

    def save(report, workdir):
        cause = OSError(number, os.strerror(number))
        raise UserError(f"{workdir}/report cannot be written: {cause.strerror}") from cause

    return save


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_the_figures_of_a_run_that_one_may_only_read_are_still_told(monkeypatch, tmp_path, number):
    monkeypatch.setattr(summary.reports, "save", refusing(number))
    assert summary._write(make(), tmp_path) is None
    told = summary.Summary(make(), None, 7)
    assert "no page" in told.text() and told.json()["page"] is None


def test_a_full_disk_is_an_error_all_the_same(monkeypatch, tmp_path):
    monkeypatch.setattr(summary.reports, "save", refusing(errno.ENOSPC))
    with pytest.raises(UserError, match="No space left on device"):
        summary._write(make(), tmp_path)


def test_an_evaluation_checks_the_folder_of_a_run_and_leaves_it_alone(tmp_path):
    open_workdir(Mirror(tmp_path), {"train": {"seed": 0}}, False)
    before = (tmp_path / "config.json").read_bytes()
    open_workdir(
        Mirror(tmp_path), {"train": {"seed": 0}, "log": {"every": 9}}, False, read_only=True
    )
    assert (tmp_path / "config.json").read_bytes() == before
    with pytest.raises(UserError, match="train.seed was 0, is 1"):
        open_workdir(Mirror(tmp_path), {"train": {"seed": 1}}, False, read_only=True)
    with pytest.raises(UserError, match="is not the same folder on every host"):
        open_workdir(Mirror(tmp_path / "nowhere"), {}, False, read_only=True)
