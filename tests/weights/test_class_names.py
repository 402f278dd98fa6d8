"""Names from the files that FACTS 2.1 lists.

Those of installed libraries are in test_foreign_models.py.
"""

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.class_names import class_names

FILES = {
    "list.json": '["a b", "c"]',
    "sun.json": '{"1": "c", "0": "a b"}',
    "imagenet.json": '{"0": ["n01", "a b"], "1": ["n02", "c"]}',
    "kinetics.json": r'{"\"a b\"": 0, "c": 1}',
    "epic.csv": "a,b\nc\n",
    "plain.txt": "a b\n\nc\n",
    "marked.txt": "\ufeffa b\nc\n",
}


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_file_gives_its_names_in_order(tmp_path, name):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    assert class_names(str(tmp_path / name), 2) == ["a b", "c"]


@pytest.mark.parametrize(
    "content", ['"x"', "3", "null", "{", '{"0": []}', '{"0": "a", "2": "b"}', '{"a": "b"}']
)
def test_a_file_that_is_no_list_of_names_is_one_line(tmp_path, content):
    (tmp_path / "f.json").write_text(content)
    with pytest.raises(UserError, match="f.json is no list of names .*; see docs/weights.md"):
        class_names(str(tmp_path / "f.json"), 2)


def test_another_number_of_names_is_refused(tmp_path):
    (tmp_path / "f.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError, match="has 3 names, the head 2 classes"):
        class_names(str(tmp_path / "f.txt"), 2)
    with pytest.raises(
        UserError, match="torchvision has no list of 2 names|torchvision is not installed"
    ):
        class_names("torchvision", 2)
