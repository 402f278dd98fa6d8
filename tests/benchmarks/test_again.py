"""Files of figures are measured again by their own commands."""

import json
import sys

import pytest

from benchmarks import again, machine
from omnivore_jax.core.errors import UserError

HERE = {"cpu": "A CPU", "cores": 2, "instructions": ["avx2"], "memory_gib": 8.0}
THERE = HERE | {"cpu": "Another CPU"}


@pytest.fixture
def folder(tmp_path):
    for name, where in (("a", HERE), ("b", THERE), ("c", HERE)):
        told = {"machine": where, "command": "python -m benchmarks.model --against=torch,timm"}
        told |= {"benchmark": "model"}
        (tmp_path / f"{name}.json").write_text(json.dumps(told))
    return tmp_path


def test_files_of_this_machine_or_those_named_are_chosen(folder):
    here = machine.words(HERE)
    assert [path.stem for path in again.chosen(folder, [], here)] == ["a", "c"]
    assert [path.stem for path in again.chosen(folder, ["b"], here)] == ["b"]
    with pytest.raises(UserError, match="d is not in .*; use some of a, b, c"):
        again.chosen(folder, ["d"], here)
    with pytest.raises(UserError, match="is of this machine"):
        again.chosen(folder, [], "a third one")


def test_what_needs_the_compiler_of_tpus_is_left_out_without_it(folder, monkeypatch):
    told = json.loads((folder / "a.json").read_text()) | {"benchmark": "scaling"}
    (folder / "d.json").write_text(json.dumps(told))
    here = machine.words(HERE)
    monkeypatch.setattr(again, "find_spec", lambda name: None)
    assert [path.stem for path in again.chosen(folder, [], here)] == ["a", "c"]
    assert [path.stem for path in again.chosen(folder, ["d"], here)] == ["d"]
    monkeypatch.setattr(again, "find_spec", lambda name: name)
    assert [path.stem for path in again.chosen(folder, [], here)] == ["a", "c", "d"]


def test_a_command_writes_into_its_own_file(folder):
    assert again.command_of(folder / "a.json") == [
        sys.executable, "-m", "benchmarks.model", "--against=torch,timm",
        f"--json={folder / 'a.json'}",
    ]  # fmt: skip
