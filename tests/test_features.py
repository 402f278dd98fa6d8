"""The commands `features` and `retrieve`, as a person types them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests import media

ROOT = Path(__file__).parents[1]
WEIGHTS = f"--weights={Path(__file__).parent / 'before' / 'before.safetensors'}"


def call(command, *arguments):
    line = [sys.executable, "-m", f"omnivore_jax.{command}", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_files_are_found_among_files(tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(media.jpeg(media.scene(20 * k)))
    out = tmp_path / "f.npz"
    done = call("features", tmp_path, WEIGHTS, f"--out={out}")
    assert done.returncode == 0, done.stderr
    assert f"{out}: 3 features" in done.stdout
    found = json.loads(call("retrieve", "query", out, out, "--neighbours=1", "--json").stdout)
    for row in found["queries"]:
        (nearest,) = row["neighbours"]
        assert nearest["id"] == row["id"] and nearest["similarity"] == pytest.approx(1, abs=1e-5)
    assert found["knn"] is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("features", "x.jpg", "--out=f.npz"), "--weights is missing"),
        (("features", WEIGHTS, "--out=f.npz"), "give files or --dataset=NAME"),
        (("features", "x.jpg", WEIGHTS), "name a file that ends in .npz"),
        (("features", "x.jpg", WEIGHTS, "--out=none/f.npz"), "none is not a folder"),
        (("features", "x.jpg", WEIGHTS, "--out=f.npz"), "x.jpg: No such file"),
        (("features", "x.jpg", WEIGHTS, "--out=f.npz", "--distributed"), "share a dataset, not"),
        (
            ("features", "--dataset=demo_image", WEIGHTS, "--out=f.npz", "--stage=s"),
            "model has last",
        ),
        (("retrieve",), "cannot retrieve nothing; use query"),
        (("retrieve", "index", WEIGHTS, "--out=f"), "--dataset is missing"),
        (("retrieve", "index", "--dataset=demo_image", "--out=f"), "--weights is missing"),
        (("retrieve", "index", WEIGHTS, "--dataset=demo_image"), "--out is missing; name a folder"),
        (("retrieve", "index", WEIGHTS, "--dataset=none", "--out=f"), "--dataset=none is not in"),
        (
            ("retrieve", "index", WEIGHTS, "--dataset=demo_image", "--out=no/f"),
            "no is not a folder",
        ),
        (("retrieve", "query", "a.npz", "b.npz"), "a.npz cannot be read"),
        (("retrieve", "report", "a.json"), "--report is missing; name a page"),
        (("retrieve", "report", "a.json", "--report=a.html"), "a.json cannot be read"),
        (("retrieve", "report", "Makefile", "--report=a.html"), "Makefile is no search"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    done = call(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and words in done.stderr
    assert not done.stdout and not (ROOT / "f.npz").exists()


def test_queries_and_what_they_found_are_drawn(tmp_path):
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(media.jpeg(media.scene(20 * k)))
    out, page = tmp_path / "f.npz", tmp_path / "page.html"
    assert call("features", tmp_path, WEIGHTS, f"--out={out}").returncode == 0
    done = call("retrieve", "query", out, out, "--neighbours=2", f"--report={page}", "--shown=2")
    assert done.returncode == 0 and done.stdout.endswith(f"{page}\n")
    assert page.read_text().count("<img") == 2 * (1 + 2)
    again, found = tmp_path / "again.html", tmp_path / "found.json"
    found.write_text(call("retrieve", "query", out, out, "--neighbours=2", "--json").stdout)
    done = call("retrieve", "report", found, f"--report={again}", "--shown=2")
    assert done.returncode == 0, done.stderr
    assert again.read_text() == page.read_text()
    missing = call("retrieve", "query", out, out, f"--report={tmp_path}/none/page.html")
    assert missing.returncode == 2 and "none is not a folder" in missing.stderr
