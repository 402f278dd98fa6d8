"""Paths in a bucket do what pathlib's do, on both stores, and refuse what objects cannot do."""

import pickle
from pathlib import Path

import pytest

from omnivore_jax.core import buckets, files, mirror
from omnivore_jax.core.buckets import ObjectPath, is_object, local_copy, place
from omnivore_jax.core.errors import UserError
from tests.fake_store import serving

pytestmark = pytest.mark.filterwarnings("ignore:Sending a large body")  # of gcsfs, over 1 MiB


@pytest.fixture(scope="module", params=["gs", "s3"])
def store(request, tmp_path_factory):
    """The URL of a bucket that is served for the tests of this module."""
    with serving(request.param, tmp_path_factory.mktemp("store")) as bucket:
        yield str(bucket)


@pytest.fixture
def folder(store, request):
    return place(f"{store}/{request.node.originalname}")


def test_a_url_is_told_from_a_path():
    assert is_object("gs://bucket/a") and is_object("s3://bucket/a") and is_object("gs:/bucket/a")
    assert not any(map(is_object, (None, "runs/a", "https://host/a", "file:///a", "/gs:/a")))
    assert place("runs/a") == Path("runs/a") and type(place("runs/a")) is type(Path("runs/a"))


@pytest.mark.parametrize("url", ["gs://", "gs:/", "gs://bucket/../other"])
def test_a_url_without_a_place_is_refused(url):
    with pytest.raises(UserError, match="names no place in a bucket"):
        place(url)


def test_what_speaks_to_the_store_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setattr(buckets, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs the package gcsfs.*requirements-cloud.txt"):
        place("gs://bucket/run")


def test_names_are_those_of_pathlib(monkeypatch):
    monkeypatch.setattr(buckets, "find_spec", lambda name: name)
    path = ObjectPath("gs://bucket/runs/a") / "metrics.jsonl"
    assert str(path) == "gs://bucket/runs/a/metrics.jsonl" and path.name == "metrics.jsonl"
    assert str(path.parent) == "gs://bucket/runs/a" and path.suffix == ".jsonl"
    assert str(path.with_name("b")) == "gs://bucket/runs/a/b"
    assert path.relative_to(path.parent.parent) == Path("a/metrics.jsonl")
    assert str(place(Path("gs://bucket/a"))) == "gs://bucket/a"
    assert path.absolute() == path == pickle.loads(pickle.dumps(path))


def test_a_library_that_wants_a_file_gets_an_error_and_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = ObjectPath("gs://bucket/a")
    for use in (open, path.stat, path.write_text, lambda: path.rename("b"), lambda: path.open("a")):
        with pytest.raises(UserError, match="gs://bucket/a lies in a bucket"):
            use(path) if use is open else use("x") if use == path.write_text else use()
    path.mkdir(parents=True)
    assert not list(tmp_path.iterdir())


def test_objects_are_written_listed_read_and_deleted(folder):
    assert not folder.exists() and not folder.is_dir() and folder.files() == []
    (folder / "a").write_bytes(b"1")
    (folder / "b" / "c").write_bytes(b"22")
    (folder.with_name(folder.name + "2") / "d").write_bytes(b"3")  # whose name begins as ours
    assert folder.is_dir() and (folder / "b").is_dir() and (folder / "b" / "c").is_file()
    assert [path.name for path in folder.iterdir()] == ["a", "b"]
    assert sorted(map(str, folder.files())) == [f"{folder}/a", f"{folder}/b/c"]
    assert [path.name for path in folder.glob("*")] == ["a", "b"]
    assert list((folder / "nothing").glob("*")) == []
    assert (folder / "b" / "c").read_text() == "22"
    with pytest.raises(FileNotFoundError):
        (folder / "nothing").read_bytes()
    (folder / "nothing").unlink(missing_ok=True)
    folder.remove()
    assert not folder.exists() and folder.with_name(folder.name + "2").is_dir()


def test_what_another_process_wrote_is_seen_at_once(folder):
    other = folder / "of_another_host"
    (folder / "of_ours").write_bytes(b"")
    assert [path.name for path in folder.iterdir()] == ["of_ours"] and not other.exists()
    buckets._store.__wrapped__(folder.scheme).pipe_file(str(other), b"1")
    assert other.is_file() and other in folder.files() and other in list(folder.iterdir())


def test_a_file_is_written_at_once_and_has_its_digest(folder, tmp_path):
    path, content = folder / "page.html", bytes(range(256)) * 4096
    (tmp_path / "page.html").write_bytes(content)
    with files.new_file(path) as draft:
        draft.write_bytes(content)
        assert not path.exists()
    assert path.read_bytes() == content
    assert files.sha256(path) == files.sha256(tmp_path / "page.html")
    with pytest.raises(RuntimeError), files.new_file(path) as draft:
        draft.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == content


def test_a_destination_that_cannot_be_is_refused_before_work(store, folder):
    (folder / "a").write_bytes(b"")
    for path, says in (
        (folder, "is a folder; name a file in it"),
        (place(store), "is a bucket; name a file in it"),
        (place(f"{store}-that-nobody-made/a"), "is not there; make it first"),
    ):
        with pytest.raises(UserError, match=says):
            files.check_output(path)
    files.check_output(folder / "b")


def test_objects_are_copied_here_for_libraries(folder):
    (folder / "w.safetensors").write_bytes(b"1")
    (folder / "hub" / "card.json").write_bytes(b"2")
    one, all_of_it = local_copy(folder / "w.safetensors"), local_copy(f"{folder}/hub")
    assert one.name == "w.safetensors" and one.read_bytes() == b"1"
    assert (all_of_it / "card.json").read_bytes() == b"2" and all_of_it.name == "hub"
    assert local_copy("runs/a") == Path("runs/a")
    with pytest.raises(UserError, match="nothing is not there"):
        local_copy(folder / "nothing")


def test_a_mirror_brings_back_what_it_sent_and_forgets_what_it_did_not(folder):
    with mirror.mirrored(folder) as first:
        rows = first.folder / "metrics.jsonl"
        rows.write_text("1\n")
        (first.folder / ".draft.tmp").write_text("")
        (first.folder / "tensorboard").mkdir()
        (first.folder / "tensorboard" / "events").write_text("e")
        first.push()
        rows.write_text("1\n2\n")  # of a process that is killed before the next push
        assert str(first.shown(rows)) == f"{folder}/metrics.jsonl"
        (folder / "checkpoints" / "4").write_bytes(b"")
        with mirror.mirrored(folder) as second:
            assert (second.folder / "metrics.jsonl").read_text() == "1\n"
            assert [path.name for path in second.folder.rglob("*")] == ["metrics.jsonl"]
            (second.folder / "metrics.jsonl").write_text("1\n3\n")
        assert (folder / "metrics.jsonl").read_text() == "1\n3\n"
        assert sorted(path.name for path in folder.files()) == ["4", "events", "metrics.jsonl"]
    assert not first.folder.exists() and not second.folder.exists()


def test_a_mirror_of_a_disk_is_the_disk(tmp_path):
    with mirror.mirrored(tmp_path / "run") as disk:
        assert disk.folder == disk.workdir == tmp_path / "run"
        assert disk.shown(disk.folder / "a") == tmp_path / "run" / "a"
        disk.push()
    assert not list(tmp_path.iterdir())
