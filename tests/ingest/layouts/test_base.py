import io
import tarfile

import pytest

from omnivore_jax.ingest.layouts.base import FileBytes, Layout, Media, TarMember
from omnivore_jax.ingest.layouts.table import LAYOUTS

CONTENT = {"a/1.jpg": b"first", "b/2.jpg": b"", "b/3.jpg": bytes(range(256)) * 5}


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "train.tar"
    with tarfile.open(path, "w") as tar:
        for name, data in CONTENT.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def members(path):
    with tarfile.open(path) as tar:
        return {entry.name: TarMember(path, entry.offset_data, entry.size) for entry in tar}


def test_members_of_a_tar_are_read_as_they_were_packed(archive):
    media = members(archive)
    assert {name: member.read() for name, member in media.items()} == CONTENT
    assert {name: member.size() for name, member in media.items()} == {
        name: len(data) for name, data in CONTENT.items()
    }


def test_a_tar_that_is_cut_short_is_named_and_its_size_tells_when_it_is_whole(archive):
    last = members(archive)["b/3.jpg"]
    whole = archive.read_bytes()
    archive.write_bytes(whole[: last.offset + 7])
    with pytest.raises(OSError, match=r"train.tar at byte \d+ is cut short: 7 of 1280 bytes"):
        last.read()
    assert last.size() == 7
    archive.write_bytes(whole[:100])
    assert last.size() == 0
    archive.unlink()
    assert last.size() == 0
    with pytest.raises(FileNotFoundError):
        last.read()


def test_a_file_is_read_and_one_that_is_gone_has_no_bytes(tmp_path):
    media = FileBytes(tmp_path / "1.jpg")
    assert media.size() == 0
    media.path.write_bytes(b"abc")
    assert (media.read(), media.size(), media.name) == (b"abc", 3, str(tmp_path / "1.jpg"))


def test_files_and_members_are_media_and_every_row_of_the_table_is_a_layout(archive):
    assert all(isinstance(m, Media) for m in (FileBytes(archive), TarMember(archive, 0, 1)))
    assert all(isinstance(layout, Layout) for layout in LAYOUTS.values())
