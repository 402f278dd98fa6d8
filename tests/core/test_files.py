import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omnivore_jax.core import files
from omnivore_jax.core.errors import UserError

URLS = ["gs://bucket/run", "s3://b", "https://host/a.safetensors", "hdfs://h/x", "file:///tmp/x"]
WRITERS = {
    "write_text": lambda path: files.write_text(path, "new"),
    "write_bytes": lambda path: files.write_bytes(path, b"new"),
    "write_json": lambda path: files.write_json(path, {"new": 1}),
}


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_refused_by_its_flag_and_a_path_is_not(url, kind):
    with pytest.raises(UserError, match=r"^--workdir=.* is a URL, and only local paths"):
        files.check_local(kind(url), "--workdir")
    for path in (None, "", "runs/demo", "/data", "./a:/b", "C:/data", "a:b", "configs/demo.py:x"):
        files.check_local(path, "--workdir")


def test_what_is_written_reads_back_and_missing_folders_are_made(tmp_path):
    files.write_text(tmp_path / "deep" / "down" / "a.txt", "größer\n")
    assert (tmp_path / "deep/down/a.txt").read_bytes() == "größer\n".encode()
    files.write_json(tmp_path / "a.json", {"b": [1.5, None], "a": 0})
    assert (tmp_path / "a.json").read_text() == json.dumps({"b": [1.5, None], "a": 0}, indent=1) + (
        "\n"
    )
    files.write_json(tmp_path / "a.json", {"b": 1, "a": 0}, sort_keys=True)
    assert list(json.loads((tmp_path / "a.json").read_text())) == ["a", "b"]
    assert sorted(os.listdir(tmp_path)) == ["a.json", "deep"]


def test_a_number_that_is_not_finite_leaves_the_file_before(tmp_path):
    files.write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        files.write_json(tmp_path / "a.json", float("nan"))
    assert (tmp_path / "a.json").read_text() == "1\n" and os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_fault_of_the_disk_is_one_line_that_names_the_file_and_leaves_nothing(tmp_path, writer):
    (tmp_path / "file").write_text("old")
    with pytest.raises(UserError, match=r"file/a cannot be written: .*(directory|exists)"):
        WRITERS[writer](tmp_path / "file" / "a")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match=r"folder cannot be written: Is a directory"):
        WRITERS[writer](tmp_path / "folder")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_a_full_disk_leaves_the_file_before(tmp_path, monkeypatch):
    files.write_text(tmp_path / "a", "old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"/a cannot be written: No space left on device; make ro"):
        files.write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_another_file_that_fails_meanwhile_is_named(tmp_path):
    with (
        pytest.raises(UserError, match=r"/a cannot be written: No such file or .*\(.*/source\)"),
        files.replacement(tmp_path / "a"),
    ):
        (tmp_path / "source").read_bytes()


def test_a_block_that_fails_leaves_the_file_before_and_no_draft(tmp_path):
    files.write_text(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), files.replacement(tmp_path / "a") as draft:
        draft.write_text("half")
        raise ZeroDivisionError
    assert (tmp_path / "a").read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_draft_that_a_killed_process_of_the_same_number_left_is_no_obstacle(tmp_path):
    (tmp_path / f".a.{os.getpid()}.tmp").symlink_to(tmp_path / "elsewhere")
    files.write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "new" and os.listdir(tmp_path) == ["a"]


def test_a_kill_at_any_moment_leaves_one_whole_file(tmp_path):
    program = (
        "import sys, pathlib; from omnivore_jax.core import files\n"
        "for n in range(10**9): files.write_text(pathlib.Path(sys.argv[1]), str(n % 10) * 10**6);"
        " print(n, flush=True)"
    )
    call = [sys.executable, "-c", program, str(tmp_path / "a")]
    with subprocess.Popen(call, stdout=subprocess.PIPE, text=True) as writing:
        assert writing.stdout is not None
        for _ in range(5):
            assert writing.stdout.readline()
        writing.kill()
    text = (tmp_path / "a").read_text()
    assert len(text) == 10**6 and set(text) == {text[0]}


@pytest.mark.parametrize(
    ("destination", "says"),
    [
        ("{}/folder/../a", "goes up a folder"),
        ("{}/link/a", "link is a symbolic link; give the real path"),
        ("{}/nowhere/a", "nowhere is not a folder; make it first"),
        ("{}/folder", "folder is a folder; name a file in it"),
        ("gs://bucket/a", "is a URL"),
    ],
)
def test_a_destination_that_is_not_what_it_reads_is_refused(tmp_path, destination, says):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with (
        pytest.raises(UserError, match=says),
        files.new_file(Path(destination.format(tmp_path))),
    ):
        pass
    assert not (tmp_path / "folder" / "a").exists() and not Path("gs:").exists()


def test_a_source_is_not_replaced_by_what_is_made_of_it(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a").write_text("")
    files.check_other(tmp_path / "folder" / "a", tmp_path / "b")
    for destination in (tmp_path / "folder", tmp_path / "folder" / "a"):
        with pytest.raises(UserError, match="is the source or holds it"):
            files.check_other(tmp_path / "folder" / "a", destination)


def test_a_digest_is_that_of_the_content_and_a_file_that_is_not_there_is_one_line(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 3_000_000)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(b"x" * 3_000_000).hexdigest()
    with pytest.raises(UserError, match="nothing cannot be read: No such file or directory"):
        files.sha256(tmp_path / "nothing")
