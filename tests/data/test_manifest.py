import json

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.data import manifest
from omnivore_jax.data.manifest import Manifest, Shard

SHARD = Shard(
    "train-00000.arrayrecord",
    3,
    5,
    "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824",
)
CONTENT = Manifest("image", ("cat", "dog"), {"train": (SHARD, SHARD), "val": ()}, {"bad_files": 0})


@pytest.fixture
def folder(tmp_path):
    manifest.write(tmp_path, CONTENT)
    (tmp_path / SHARD.file).write_text("hello")  # whose sha256 the shard has
    return tmp_path


def test_a_manifest_comes_back_as_it_was(folder):
    content = manifest.read(folder)
    assert content == CONTENT and [content.count(split) for split in ("train", "val", "test")] == [
        6,
        0,
        0,
    ]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", SHARD.file]
    manifest.check_files(folder, content, "train", content=True)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content | {"format": 2}, "format 2"),
        (
            lambda content: content | {"kind": "sound"},
            "kind 'sound'; use one of image, video, rgbd",
        ),
        (lambda content: content | {"classes": ["cat", "cat"]}, "one twice"),
        (lambda content: {k: v for k, v in content.items() if k != "splits"}, "splits"),
        (lambda content: content | {"splits": {"train": [{"file": "x"}]}}, "damaged"),
        (lambda content: [content], "format 'list'"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_named(folder, change, says):
    path = folder / "manifest.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(UserError, match=says) as error:
        manifest.read(folder)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_manifest_that_is_cut_short_or_missing_is_named(folder):
    path = folder / "manifest.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(UserError, match="cannot be read"):
        manifest.read(folder)
    path.unlink()
    with pytest.raises(UserError, match="is not there; run the prepare command to its end"):
        manifest.read(folder)


@pytest.mark.parametrize(("text", "content"), [("hell", False), ("jello", True), (None, False)])
def test_a_shard_that_is_short_changed_or_missing_is_named(folder, text, content):
    path = folder / SHARD.file
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(UserError, match="damaged|missing") as error:
        manifest.check_files(folder, CONTENT, "train", content=content)
    assert str(path) in str(error.value)
