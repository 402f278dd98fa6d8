import json
import subprocess
import tracemalloc

import pytest

from omnivore_jax.checkpoint.seal import find_damage, is_sealed, seal
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.patience import Patience

AT_ONCE = Patience(0.0)


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
    seal(step, 1, 2)
    assert not is_sealed(step)
    seal(step, 0, 2)
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
    seal(step, 1, 2)
    seal(step, 0, 2)
    harm(step / "state/ocdbt.process_1/d/b")
    assert is_sealed(step) and find_damage(step, AT_ONCE) == damage


def test_a_file_that_nobody_sealed_is_damage_and_what_nfs_keeps_of_deleted_ones_is_not(step):
    seal(step, 1, 2)
    seal(step, 0, 2)
    (step / "state/.nfs000000000000a1").write_text("deleted, and still open somewhere")
    assert find_damage(step) is None
    (step / "state/ocdbt.process_1/d/late").write_text("flipped or not, who knows")
    assert find_damage(step) == "state/ocdbt.process_1/d/late is sealed by no process"


def test_the_first_process_seals_what_another_one_did_not_see(step):
    shards = (step / "state/ocdbt.process_1").rename(step / "unseen")
    seal(step, 1, 2)
    assert json.loads((step / "digests/process_1_of_2.json").read_text()) == {"files": {}}
    shards.rename(step / "state/ocdbt.process_1")
    seal(step, 0, 2)
    assert find_damage(step) is None
    (step / "state/ocdbt.process_1/d/b").write_text("flipped")
    assert find_damage(step) == "state/ocdbt.process_1/d/b differs from its digest"


def wait(seconds, *events):
    """Patience on a clock of its own, on which something happens every time it sleeps."""
    now, happening = [0.0], list(events)

    def sleep(pause):
        now[0] += pause
        if happening:
            happening.pop(0)()

    return Patience(float(seconds), lambda: now[0], sleep)


def test_a_listing_that_lags_behind_is_waited_for(step, tmp_path_factory):
    hidden = step.rename(tmp_path_factory.mktemp("hidden") / "step")
    seal(step, 1, 2, wait(9, lambda: None, lambda: hidden.rename(step)))
    seal(step, 0, 2)
    shard = (step / "state/ocdbt.process_1/d/b").rename(step.parent / "b")
    appears = wait(9, lambda: None, lambda: shard.rename(step / "state/ocdbt.process_1/d/b"))
    assert find_damage(step, appears) is None


def test_the_first_process_waits_for_the_seals_of_the_others(step):
    seal(step, 0, 2, AT_ONCE, wait(9, lambda: None, lambda: seal(step, 1, 2)))
    assert is_sealed(step) and find_damage(step) is None


def test_waiting_ends_with_one_line(step):
    with pytest.raises(UserError, match=r"process 1 did not seal its part of .* within 9 s; see w"):
        seal(step, 0, 2, AT_ONCE, wait(9))
    with pytest.raises(UserError, match=r"nowhere was not visible here within 9 s; choose a work"):
        seal(step / "nowhere", 0, 1, wait(9))
    assert not is_sealed(step)


def test_files_are_digested_piece_by_piece(step):
    with (step / "state/ocdbt.process_0/d/a").open("wb") as file:
        file.truncate(64 << 20)
    tracemalloc.start()
    seal(step, 0, 1)
    assert find_damage(step) is None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2 << 20
