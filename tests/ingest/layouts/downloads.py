"""Miniatures of downloads for the tests, and what is prepared of them."""

import io
import tarfile
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.records import Record, RecordReader
from omnivore_jax.ingest import preparation
from omnivore_jax.ingest.layouts.base import LayoutOptions
from omnivore_jax.ingest.layouts.table import LAYOUTS
from omnivore_jax.ingest.preparation import Work
from omnivore_jax.ingest.verify import check_shards
from tests.media import jpeg, part


class Whole(NamedTuple):
    """A prepared dataset."""

    classes: tuple[str, ...]
    records: dict[str, dict[str, Record]]
    """By split and id."""

    def labels(self, split):
        """The class of every record, by the name of its file."""
        return {
            id.rpartition("/")[2]: self.classes[record.label]
            for id, record in self.records[split].items()
        }


def picture(k):
    return jpeg(part(k, side=24))


def lay(root, files):
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return root


def tar(files, mode="w"):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file.getvalue()


@contextmanager
def no_meter(total):
    yield lambda: None


def prepare(layout, source, out, **wishes):
    """Prepares a download, checks the shards, and reads every record back."""
    options, work = LayoutOptions(**wishes), Work((0, 1), 4, 2, overwrite=False)
    preparation.prepare(layout, source, out, options, work, no_meter)
    content = manifest.read(out)
    assert check_shards(out) == {split: content.count(split) for split in content.splits}
    records = {}
    for split, shards in content.splits.items():
        reader = RecordReader(out, shards)
        rows = [reader[k] for k in range(len(reader))]
        records[split] = {record.id: record for record in rows}
    return Whole(content.classes, records)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refusal(layout, source, **wishes):
    """The one line with which a layout refuses a folder."""
    with pytest.raises(UserError) as error:
        LAYOUTS[layout].list(source, LayoutOptions(**wishes))
    [message] = error.value.args
    assert "\n" not in message
    return message
