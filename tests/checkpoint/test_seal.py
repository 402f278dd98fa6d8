import json
import subprocess
import tracemalloc

import pytest

from omnivore_jax.checkpoint.seal import find_damage, is_sealed, seal


@pytest.fixture
def step(tmp_path):
    """A step as two processes write it."""
    for name in (
        "state/ocdbt.process_0/d/a",
        "state/ocdbt.process_1/d/b",
        "state/manifest.ocdbt",
        "metadata/metadata",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"what {name} holds")
    return tmp_path


def test_every_process_digests_its_own_shards_and_the_first_one_the_rest(step):
    seal(step, 0, 2)
    assert not is_sealed(step)
    seal(step, 1, 2)
    assert is_sealed(step) and find_damage(step) is None
    of_process = [
        json.loads((step / "digests" / f"process_{k}_of_2.json").read_text())["files"]
        for k in range(2)
    ]
    assert set(of_process[1]) == {"state/ocdbt.process_1/d/b"}
    assert set(of_process[0]) == {
        "state/ocdbt.process_0/d/a",
        "state/manifest.ocdbt",
        "metadata/metadata",
    }
    lines = "".join(f"{digest}  {name}\n" for files in of_process for name, digest in files.items())
    subprocess.run(
        ["sha256sum", "--check", "--strict"],
        input=lines,
        text=True,
        cwd=step,
        check=True,
        capture_output=True,
    )


@pytest.mark.parametrize(
    ("harm", "damage"),
    [
        (
            lambda file: file.write_text(file.read_text().swapcase()),
            "state/ocdbt.process_1/d/b differs from its digest",
        ),
        (lambda file: file.unlink(), "state/ocdbt.process_1/d/b is missing"),
        (
            lambda file: (file.parents[3] / "digests" / "process_1_of_2.json").write_text(
                '{"files": {"st'
            ),
            "digests/process_1_of_2.json cannot be read",
        ),
    ],
    ids=["changed", "missing", "half a seal"],
)
def test_damage_is_named(step, harm, damage):
    seal(step, 0, 2)
    seal(step, 1, 2)
    harm(step / "state/ocdbt.process_1/d/b")
    assert is_sealed(step) and find_damage(step) == damage


def test_files_are_digested_piece_by_piece(step):
    with (step / "state/ocdbt.process_0/d/a").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    seal(step, 0, 1)
    assert find_damage(step) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20
