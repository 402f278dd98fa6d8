"""Weights that lie in a bucket are used as those on a disk, and what is made of them goes there."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

import omnivore_jax as ov
from omnivore_jax.core import buckets
from omnivore_jax.core.errors import UserError
from tests.fake_store import serving
from tests.whole_runs import compiling

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body")  # of gcsfs, over 1 MiB
BEFORE = Path("tests/before")
"""A run of the demo's sizes, and weights made from it."""
HEAD = ["--dataset=demo_image", "--batch_size=200"]


@pytest.fixture(scope="module", params=["gs", "s3"])
def store(request, tmp_path_factory):
    """The URL of a bucket with weights and, where one can be, a run."""
    with serving(request.param, tmp_path_factory.mktemp("store")) as url:
        (url / "before.safetensors").upload(BEFORE / "before.safetensors")
        for file in buckets.files_below(BEFORE / "run"):
            (url / "run" / file.relative_to(BEFORE / "run")).upload(file)
        yield url


def ask(command, *arguments):
    """Runs a command; gives what it prints."""
    call = [sys.executable, "-m", f"omnivore_jax.{command}", *map(str, arguments)]
    done = subprocess.run(
        call, capture_output=True, text=True, timeout=120, env=os.environ | compiling()
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def same(one, other):
    a, b = (np.asarray(leaf) for leaf in (one, other))
    return a.dtype == b.dtype and a.tobytes() == b.tobytes()


def test_weights_are_loaded_from_a_bucket(store):
    ours, theirs = ov.load(BEFORE / "before.safetensors"), ov.load(store / "before.safetensors")
    assert ours.card["model"] == theirs.card["model"]
    assert jax.tree.all(jax.tree.map(same, ours.params, theirs.params))
    for missing in ("nothing.safetensors", "nothing"):
        with pytest.raises(UserError, match=f"{missing} is not there"):
            ov.load(str(store / missing))


def test_a_run_is_loaded_from_the_store_that_can_hold_one(store):
    if store.scheme == "s3":
        with pytest.raises(UserError, match="Orbax writes checkpoints to disks and gs:// only"):
            ov.load(store / "run")
        return
    ours, theirs = ov.load(BEFORE / "run"), ov.load(str(store / "run"))
    assert jax.tree.all(jax.tree.map(same, ours.params, theirs.params))


@pytest.mark.slow
def test_what_is_found_goes_to_a_bucket_as_to_a_disk(store, tmp_path):
    weights = f"--weights={store}/before.safetensors"
    written = [f"--report={store}/out/page.html", f"--predictions={store}/out/table.csv"]
    said = json.loads(ask("evaluate", weights, *HEAD, *written, "--json"))
    here = f"--weights={BEFORE}/before.safetensors"
    table = tmp_path / "table.csv"
    assert said == json.loads(ask("evaluate", here, *HEAD, f"--predictions={table}", "--json"))
    assert (store / "out" / "table.csv").read_bytes() == table.read_bytes()
    assert (store / "out" / "page.html").read_text().startswith("<!DOCTYPE html>")

    out = store / "out" / "f.npz"
    assert str(out) in ask("features", weights, "--dataset=demo_image", f"--out={out}")
    found = json.loads(ask("retrieve", "query", out, out, "--json", "--neighbours=1"))
    assert found

    ask("convert", "adapt", store / "before.safetensors", store / "out" / "w.safetensors")
    assert (store / "out" / "w.json").is_file()
    ask("convert", "diff", BEFORE / "before.safetensors", store / "out" / "w.safetensors")


@pytest.mark.slow
def test_a_report_is_drawn_again_in_a_bucket_and_a_run_is_watched_there(store, tmp_path):
    if store.scheme == "s3":
        pytest.skip("Orbax does not write to S3")
    assert f"{store}/run/report.html" in ask("report", store / "run")
    assert (store / "run" / "report.html").is_file()
    shutil.copytree(BEFORE / "run", tmp_path / "run")
    ask("evaluate", "watch", store / "run", "--once", *HEAD)
    ask("evaluate", "watch", tmp_path / "run", "--once", *HEAD)
    assert (store / "run" / "watch.jsonl").read_bytes() == (
        tmp_path / "run" / "watch.jsonl"
    ).read_bytes()
    ask("convert", "diff", BEFORE / "run", store / "run")
