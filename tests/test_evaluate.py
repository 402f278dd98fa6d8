"""The command `evaluate`, as a person types it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WEIGHTS = f"--weights={Path(__file__).parent / 'before' / 'before.safetensors'}"


def evaluate(*arguments):
    command = [sys.executable, "-m", "omnivore_jax.evaluate", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_figures_page_and_table(tmp_path):
    page, table = tmp_path / "page.html", tmp_path / "table.csv"
    done = evaluate(
        WEIGHTS, "--dataset=demo_image", "--json", f"--report={page}", f"--predictions={table}"
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures["n"] == 1000 and 0 <= figures["calibration_error"] <= 1
    content = page.read_text()
    assert "Confusion matrix of demo_image" in content and "Accuracy by confidence" in content
    assert len(table.read_text().splitlines()) == 1001


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--dataset=demo_image",), "--weights is missing"),
        ((WEIGHTS,), "--dataset is missing"),
        ((WEIGHTS, "--dataset=demo_image", "more"), "'more' is not a flag"),
        ((WEIGHTS, "--dataset=demo_image", "--predictions=x.xls"), "ends in .csv or .parquet"),
        ((WEIGHTS, "--dataset=demo_image", "--report=/none/x.html"), "/none is not a folder"),
        ((WEIGHTS, "--dataset=demo_image", "--fuse=sum"), "fuse"),
        ((WEIGHTS, "--dataset=demo_image", "--data_root=gs://x"), "is a URL"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    done = evaluate(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and words in done.stderr
    assert not done.stdout
