"""The command `evaluate`, as a person types it."""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import time
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
        ((WEIGHTS, "--dataset=demo_image", "--data_root=https://x"), "is a URL"),
    ],
)
def test_mistakes_are_one_line(arguments, words):
    done = evaluate(*arguments)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and words in done.stderr
    assert not done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "features"])
def test_an_evaluation_that_is_killed_goes_on_and_ends_with_the_same_file(tmp_path, command):
    def start(cache, out):
        flags = [WEIGHTS, "--dataset=demo_image", "--batch_size=4", "--threads=1"]
        last = f"--predictions={out}" if command == "evaluate" else f"--out={out}"
        environment = os.environ | {"XDG_CACHE_HOME": str(cache), "JAX_PLATFORMS": "cpu"}
        return subprocess.Popen(
            [sys.executable, "-m", f"omnivore_jax.{command}", *flags, last],
            env=environment,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            cwd=ROOT,
        )

    suffix = ".csv" if command == "evaluate" else ".npz"
    whole = start(tmp_path / "a", tmp_path / f"whole{suffix}")
    whole.communicate()
    assert whole.returncode == 0
    killed = start(tmp_path / "b", tmp_path / f"killed{suffix}")
    while len(list((tmp_path / "b").glob("omnivore_jax/passes/*/*.npz"))) < 2:
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / f"killed{suffix}").exists()
    again = start(tmp_path / "b", tmp_path / f"killed{suffix}")
    said = again.communicate()[1]
    assert again.returncode == 0 and "going on after" in said
    both = [(tmp_path / f"{name}{suffix}").read_bytes() for name in ("whole", "killed")]
    assert both[0] == both[1] and not list((tmp_path / "b").glob("omnivore_jax/passes/*"))


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on_and_ends_with_the_same_file(tmp_path):
    def start(out):
        flags = ["--dataset=demo_rgbd", "--over=depth_scale", "--values=0.5,1,2", f"--out={out}"]
        command = [sys.executable, "-m", "omnivore_jax.evaluate", "sweep"]
        return subprocess.Popen(
            [*command, WEIGHTS.removeprefix("--weights="), *flags, "--batch_size=4", "--threads=1"],
            env=os.environ | {"XDG_CACHE_HOME": str(out.parent), "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
        )

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole, out = start(tmp_path / "a" / "s.json"), tmp_path / "b" / "s.json"
    assert whole.wait() == 0
    killed = start(out)
    while not out.exists():
        assert killed.poll() is None
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    assert len(json.loads(out.read_text())["rows"]) == 1
    assert start(out).wait() == 0
    assert out.read_bytes() == (tmp_path / "a" / "s.json").read_bytes()


def test_the_checkpoints_of_a_run_are_scored_once_each(tmp_path):
    run = shutil.copytree(ROOT / "tests" / "before" / "run", tmp_path / "run")
    first = evaluate("watch", str(run), "--dataset=demo_rgbd", "--once")
    assert first.returncode == 0, first.stderr
    lines = [json.loads(line) for line in (run / "watch.jsonl").read_text().splitlines()]
    assert {(row["weights"], row["n"]) for row in lines} == {("ema", 1000), ("params", 1000)}
    assert [line.split(":")[0] for line in first.stdout.splitlines()] == [
        f"step {row['step']} {'EMA' if row['weights'] == 'ema' else 'raw'}" for row in lines
    ]
    again = evaluate("watch", str(run), "--dataset=demo_rgbd", "--once")
    assert (again.returncode, again.stdout) == (0, "")


def test_what_cannot_be_watched_is_one_line(tmp_path):
    for arguments, says in (
        (("watch", "--dataset=demo_rgbd"), "0 runs given; watch one"),
        (("watch", str(tmp_path), "--dataset=demo_rgbd", "--once"), "holds no checkpoints/"),
        (("watch", str(tmp_path)), "--dataset is missing"),
    ):
        done = evaluate(*arguments)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1


def test_a_sweep_scores_once_what_is_asked_and_draws_all_weights(tmp_path):
    out, page = tmp_path / "s.json", tmp_path / "s.html"
    command = ("sweep", WEIGHTS.removeprefix("--weights="), "--dataset=demo_rgbd", "--over=mode")
    first = evaluate(*command, "--values=depth,rgb", f"--out={out}")
    assert first.returncode == 0, first.stderr
    found = json.loads(out.read_text())["rows"]
    assert [row["value"] for row in found] == ["depth", "rgb"] and found[0]["mode"] == "depth"
    again = evaluate(*command, "--values=depth,rgb", f"--out={out}", f"--report={page}", "--json")
    assert again.returncode == 0 and json.loads(again.stdout) == found
    text = page.read_text()
    assert "<svg" in text and all(f"{100 * row['top1']:.1f} %" in text for row in found)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no weights given; sweep W"),
        (("w", "--dataset=demo_rgbd"), "--out is missing"),
        (("w", "--out=x.json"), "--dataset is missing"),
        (("w", "--dataset=d", "--out=x.json", "--values=0"), "--values=0 means nothing to clip_le"),
        (
            ("w", "--dataset=d", "--out=x.json", "--over=mode", "--values=rgbd"),
            "--values=rgbd means nothing to mode; use all, rgb, depth",
        ),
    ],
)
def test_a_sweep_that_cannot_be_is_one_line(arguments, says):
    done = evaluate("sweep", *arguments)
    assert done.returncode == 2 and says in done.stderr and done.stderr.count("\n") == 1
    assert not (ROOT / "x.json").exists()


def test_the_mean_of_several_evaluations(tmp_path):
    for k, top1 in enumerate((0.9, 0.96, 0.99)):
        (tmp_path / f"{k}.json").write_text(json.dumps({"n": 9, "top1": top1, "loss": float(k)}))
    files = [str(tmp_path / f"{k}.json") for k in range(3)]
    done = evaluate("mean", *files, "--json")
    assert json.loads(done.stdout) == {"of": files, "top1": pytest.approx(0.95), "loss": 1.0}
    assert "95.00 %  (90.00, 96.00, 99.00)" in evaluate("mean", *files).stdout
    (tmp_path / "x.json").write_text("[]")
    for given, says in (
        (files[:1], "1 files given"),
        ([files[0], str(tmp_path / "x.json")], "x.json"),
    ):
        wrong = evaluate("mean", *given)
        assert wrong.returncode == 2 and says in wrong.stderr and wrong.stderr.count("\n") == 1


@pytest.mark.slow
def test_two_processes_count_as_one_does(tmp_path):
    def start(process, port):
        flags = [WEIGHTS, "--dataset=demo_rgbd", "--batch_size=96", "--json"]
        flags += [f"--predictions={tmp_path / 'two.csv'}"]
        flags += [f"--coordinator=localhost:{port}", "--num_processes=2", f"--process_id={process}"]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        }
        return subprocess.Popen(
            [sys.executable, "-m", "omnivore_jax.evaluate", *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    both = [start(process, port) for process in range(2)]
    said = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "{" not in said[1][0]  # Gloo, of the CPU alone, has its own to say on both
    two = json.loads(said[0][0][said[0][0].index("{") :])
    table = f"--predictions={tmp_path / 'one.csv'}"
    one = json.loads(evaluate(WEIGHTS, "--dataset=demo_rgbd", "--json", table).stdout)
    rows = []
    for name in ("one.csv", "two.csv"):
        lines = (tmp_path / name).read_text().splitlines()
        rows.append([row["id"] + row["predicted"] for row in csv.DictReader(lines)])
    assert rows[0] == rows[1] and len(rows[0]) == 1000
    assert two.pop("devices") == 4 and one.pop("devices") >= 1
    assert two["n"] == 1000 and two["top1"] == one["top1"] and two["classes"] == one["classes"]
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-5)
