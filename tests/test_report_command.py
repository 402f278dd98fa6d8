import json
import subprocess
import sys

import pytest

from tests.reporting import small_report


def call(*arguments):
    command = [sys.executable, "-m", "omnivore_jax.report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_report_is_drawn_again_from_its_folder_and_touches_no_device(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "none such")
    small_report.write_run(tmp_path / "small", small_report.make())
    other = small_report.write_run(
        tmp_path / "elsewhere", small_report.make("elsewhere", batching="mixed")
    )
    done = call(tmp_path / "small", f"--compare={other}", "--json")
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["datasets"][0]["top1"] == small_report.classification().top1
    assert 'mixed <span class="pm">elsewhere' in (tmp_path / "small" / "report.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["nowhere"], "nowhere holds no run"), ([], "0 folders given; name one")],
)
def test_a_mistake_is_one_line(tmp_path, arguments, says):
    done = call(*arguments)
    assert (
        (done.returncode, done.stdout) == (2, "")
        and says in done.stderr
        and done.stderr.count("\n") == 1
    )
