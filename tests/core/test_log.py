import json
import logging as standard
import os
import struct
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from absl import logging
from hypothesis import given
from hypothesis import strategies as st
from tensorboardX.proto.event_pb2 import Event, SessionLog

from omnivore_jax.core import log
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.log import MetricsWriter


def train_row(step: int) -> dict:
    loss = np.float32(1 / (step + 1))
    return {
        "loss": loss,
        "datasets": {"photos": {"loss": loss / 3, "count": np.int32(64)}},
        "epoch": step / 7,
    }


def written(folder: Path, steps, tensorboard: bool = False) -> bytes:
    with MetricsWriter(folder, tensorboard) as writer:
        for step in steps:
            writer.write(step, train_row(step))
    return (folder / "metrics.jsonl").read_bytes()


def test_two_equal_runs_write_the_same_bytes_and_every_line_is_an_object_with_sorted_keys(tmp_path):
    text = written(tmp_path / "a", range(1, 20))
    assert text == written(tmp_path / "b", range(1, 20))
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 20)) and list(rows[0]) == sorted(rows[0])
    assert [np.float32(row["loss"]) for row in rows] == [
        train_row(step)["loss"] for step in range(1, 20)
    ]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_figure_reads_back_with_the_bits_that_it_had(value):
    text = json.dumps(log._plain({"value": np.float32(value)}, "row"))
    assert np.float32(json.loads(text)["value"]).tobytes() == np.float32(value).tobytes()


@pytest.mark.parametrize(
    "torn", [b"", b'{"loss": 0.12', b"{"], ids=["whole", "torn", "torn at once"]
)
@pytest.mark.parametrize("restored", [-1, 0, 7, 12])
def test_a_run_that_was_killed_and_goes_on_writes_what_an_undisturbed_one_writes(
    tmp_path, restored, torn
):
    undisturbed = written(tmp_path / "a", range(20))
    written(tmp_path / "b", range(13))
    with (tmp_path / "b/metrics.jsonl").open("ab") as file:
        file.write(torn)
    with MetricsWriter(tmp_path / "b", tensorboard=False) as writer:
        writer.cut_back(restored)
        for step in range(restored + 1, 20):
            writer.write(step, train_row(step))
    assert (tmp_path / "b/metrics.jsonl").read_bytes() == undisturbed
    assert os.listdir(tmp_path / "b") == ["metrics.jsonl"]


def test_a_row_is_in_the_file_as_soon_as_it_is_written(tmp_path):
    writer = MetricsWriter(tmp_path, tensorboard=False)
    writer.write(1, train_row(1))
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["step"] == 1
    writer.flush()
    writer.close()


def test_a_file_that_is_not_ours_is_not_cut(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nhello\n{"step": 2}\n')
    with pytest.raises(
        UserError, match=r"metrics.jsonl, line 2 is not a row with a step; move the file away"
    ):
        MetricsWriter(tmp_path).cut_back(1)
    assert "hello" in (tmp_path / "metrics.jsonl").read_text()


@pytest.mark.parametrize("value", [float("nan"), np.float32("inf"), np.array([1, np.nan])])
def test_a_figure_that_is_not_finite_is_an_error_that_names_it(tmp_path, value):
    with (
        MetricsWriter(tmp_path, tensorboard=False) as writer,
        pytest.raises(
            ValueError, match=r"metrics.jsonl, step 3: datasets: photos: loss is (nan|inf)"
        ),
    ):
        writer.write(3, {"datasets": {"photos": {"loss": value}}})


def test_what_is_no_figure_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="step 3: path is a PosixPath; give numbers"):
        MetricsWriter(tmp_path).write(3, {"path": Path("x")})


def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    with pytest.raises(
        UserError, match=r"metrics.jsonl cannot be written \(No space left on device\)"
    ):
        with MetricsWriter(tmp_path, tensorboard=False) as writer:
            writer.write(1, train_row(1))


def scalars_shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows.

    A session that starts at a step hides older events from that step on.
    """
    scalars: dict[str, list[tuple[int, float]]] = {}
    for path in sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            if event.session_log.status == SessionLog.START:
                scalars = {
                    tag: [p for p in points if p[0] < event.step] for tag, points in scalars.items()
                }
            for value in event.summary.value:
                scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
    return scalars


def test_tensorboard_shows_every_figure_by_its_path_and_once_after_a_restart(tmp_path):
    written(tmp_path, range(1, 6), tensorboard=True)
    with MetricsWriter(tmp_path) as writer:
        writer.cut_back(3)
        for step in range(4, 8):
            writer.write(step, {**train_row(step), "note": "text is left out"})
        writer.write_times(7, {"samples_per_second": {"photos": 12.5}})
        writer.flush()
    scalars = scalars_shown(tmp_path / "tensorboard")
    assert set(scalars) == {
        "datasets/photos/count",
        "datasets/photos/loss",
        "epoch",
        "loss",
        "samples_per_second/photos",
    }
    assert scalars["loss"] == [(step, train_row(step)["loss"]) for step in range(1, 8)]
    assert json.loads((tmp_path / "timing.jsonl").read_text())["samples_per_second"] == {
        "photos": 12.5
    }


@pytest.fixture
def absl_restored():
    handler, verbosity = logging.get_absl_handler(), logging.get_verbosity()
    stream, formatter = handler.python_handler.stream, handler.python_handler.formatter
    yield
    logging.set_verbosity(verbosity)
    handler.python_handler.stream = stream
    handler.setFormatter(formatter)
    standard.root.removeHandler(handler)


def test_messages_are_short_lines_on_whatever_stderr_is_at_the_moment(monkeypatch, absl_restored):
    log.setup()
    monkeypatch.setattr(sys, "stderr", StringIO())
    logging.info("saved step %d", 400)
    *_, line = (
        sys.stderr.getvalue().splitlines()
    )  # absl has its say before it, where no flags were parsed
    time, _, message = line.partition(" ")
    assert message == "saved step 400" and time.count(":") == 2


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(log.dist, "is_primary", lambda: False)
    with MetricsWriter(tmp_path / "run") as writer:
        writer.cut_back(0)
        writer.write(1, train_row(1))
        writer.flush()
    assert not (tmp_path / "run").exists()
