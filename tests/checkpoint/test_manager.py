import logging
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.checkpoint.manager import CheckpointConfig, CheckpointManager
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.patience import Patience
from omnivore_jax.core.quiet import quiet_libraries
from omnivore_jax.core.tree import flatten
from tests.checkpoint.states import State, abstract, assert_same_bits, numpy_state, placed, state


def write(directory: Path, *steps: int, **config):
    with CheckpointManager(directory, CheckpointConfig(**config)) as manager:
        for step in steps:
            manager.save(step, state(step), {"step": step})


def folders(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir() if path.is_dir()}


@contextmanager
def log_of(caplog):
    absl = logging.getLogger("absl")
    absl.addHandler(caplog.handler)
    try:
        yield caplog
    finally:
        absl.removeHandler(caplog.handler)


@pytest.mark.parametrize(("saved_on", "opened_on"), [(8, 1), (1, 8)])
def test_a_state_comes_back_bit_for_bit_on_any_number_of_devices(tmp_path, saved_on, opened_on):
    live = state(7, saved_on)
    with CheckpointManager(tmp_path / "deep" / "run") as manager:
        with jax.transfer_guard("disallow"):  # as in the training loop
            manager.save(7, live, {"data": "imagenet"})
            manager.wait()
        step, restored, metadata = manager.restore(abstract(opened_on))
    assert (step, metadata, type(restored)) == (7, {"data": "imagenet"}, State)
    assert_same_bits(restored, numpy_state(7))
    kernel = restored.params["trunk"]["layers"]["0"]["kernel"]
    assert kernel.sharding == abstract(opened_on).params["trunk"]["layers"]["0"]["kernel"].sharding


def test_what_is_saved_is_the_state_at_the_call_even_if_its_buffers_are_given_away(tmp_path):
    give_away = jax.jit(lambda tree: jax.tree.map(lambda x: x * 0, tree), donate_argnums=0)
    with CheckpointManager(tmp_path) as manager:
        live = state(3)
        manager.save(3, live, {})
        give_away(live)
        assert_same_bits(manager.restore(abstract()).state, numpy_state(3))


def test_a_part_can_be_read_alone_and_without_knowing_the_shapes(tmp_path):
    write(tmp_path, 5)
    with CheckpointManager(tmp_path, read_only=True) as manager:
        part = manager.restore_part({"ema": abstract(1).ema}, step=5).state
        shapes = {
            path: leaf
            for path, leaf in manager.saved_shapes(5).items()
            if path.startswith("params.")
        }
        arrays = manager.restore_part(shapes).state
    assert_same_bits(part, {"ema": numpy_state(5).ema})
    for path, expected in flatten({"params": numpy_state(5).params}).items():
        np.testing.assert_array_equal(arrays.pop(path), expected)
    assert not arrays


def test_the_last_ones_and_the_best_one_stay(tmp_path):
    with CheckpointManager(tmp_path, CheckpointConfig(keep_last=2)) as manager:
        for step, score in ((1, 0.2), (2, 0.9), (3, 0.9), (4, 0.3), (5, 0.1)):
            manager.save(step, state(step), {})
            manager.record_best(step, score, {"image": 1 - score})
        assert manager.best_step() == 2
        manager.record_best(6, 1.0)  # of a step that has no checkpoint
        assert manager.best_step() == 2
        manager.wait()
        assert folders(tmp_path) == {"2", "4", "5"}
    with CheckpointManager(tmp_path, read_only=True) as manager:
        assert_same_bits(manager.restore(abstract(), manager.best_step()).state, numpy_state(2))
    with CheckpointManager(tmp_path, CheckpointConfig(keep_last=1, keep_best=False)) as manager:
        manager.wait()
        assert folders(tmp_path) == {"5"} and manager.best_step() == 5


def test_an_older_step_goes_only_once_the_newer_one_is_sealed(tmp_path, monkeypatch):
    from omnivore_jax.checkpoint import seal as digests

    write(tmp_path, 1)
    at_sealing, seal = [], digests.seal
    monkeypatch.setattr(
        digests, "seal", lambda *a: (at_sealing.append(folders(tmp_path)), seal(*a))
    )
    write(tmp_path, 2, keep_last=1)
    assert at_sealing == [{"1", "2"}] and folders(tmp_path) == {"2"}


@pytest.mark.parametrize("fault", ["flip", "truncate", "delete"])
def test_a_damaged_step_is_named_and_the_one_before_is_used_and_the_damaged_one_replaced(
    tmp_path, caplog, fault
):
    write(tmp_path, 1, 2)
    victim = max(
        (tmp_path / "2" / "state" / "ocdbt.process_0" / "d").iterdir(),
        key=lambda f: f.stat().st_size,
    )
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    {
        "flip": lambda: victim.write_bytes(content),
        "truncate": lambda: victim.write_bytes(content[:-1]),
        "delete": victim.unlink,
    }[fault]()
    at_once = Patience(0.0)
    with log_of(caplog), CheckpointManager(tmp_path, visible=at_once) as manager:
        assert manager.latest_good_step() == 1
        assert (
            f"checkpoint of step 2 in {tmp_path} is damaged: {victim.relative_to(tmp_path / '2')}"
            in caplog.text
        )
        assert_same_bits(manager.restore(abstract()).state, numpy_state(1))
        with pytest.raises(UserError, match=r"step 2 in .* is damaged: state/ocdbt.process_0"):
            manager.restore(abstract(), step=2)
        manager.save(2, state(2), {})
        assert_same_bits(manager.restore(abstract()).state, numpy_state(2))


def test_with_every_step_damaged_the_user_hears_of_it_and_an_empty_folder_is_no_damage(tmp_path):
    with CheckpointManager(tmp_path) as manager:
        assert manager.latest_good_step() is None
        with pytest.raises(UserError, match="has no finished checkpoint"):
            manager.restore(abstract())
        manager.save(1, state(1), {})
        manager.wait()
        (tmp_path / "1" / "metadata" / "metadata").write_text("[]")
        with pytest.raises(
            UserError, match=rf"{tmp_path} has no undamaged checkpoint \(damaged: 1\); put one back"
        ):
            manager.restore(abstract())


def test_what_a_killed_process_left_is_cleared_or_skipped_and_can_be_saved_again(tmp_path, caplog):
    write(tmp_path, 1, 2)
    for leftover in ("3.orbax-checkpoint-tmp", "4.orbax-checkpoint-tmp-1234", "0.deleted"):
        (tmp_path / leftover / "state").mkdir(parents=True)
    for leftover in (".shared-1234", "scores.json.tmp"):
        (tmp_path / leftover).write_text("")
    seal = tmp_path / "2" / "digests" / "process_0_of_1.json"
    seal.with_name(seal.name + ".tmp").write_text(
        seal.read_text()[:50]
    )  # killed while it was being written
    seal.unlink()
    with log_of(caplog), CheckpointManager(tmp_path, read_only=True):
        assert (
            len(folders(tmp_path)) == 5
        )  # whoever only reads leaves alone what may be in the making
    with log_of(caplog), CheckpointManager(tmp_path) as manager:
        assert {path.name for path in tmp_path.iterdir()} == {"1", "2"}
        assert_same_bits(manager.restore(abstract()).state, numpy_state(1))
        assert "checkpoint of step 2" in caplog.text and "is not finished; skipped" in caplog.text
        manager.save(2, state(2), {})
        assert manager.latest_good_step() == 2


def test_a_step_that_is_already_there_is_not_written_again(tmp_path):
    write(tmp_path, 1)
    written = (tmp_path / "1").stat().st_ino
    with CheckpointManager(tmp_path) as manager:
        manager.restore(abstract())
        manager.save(1, state(1), {})
        manager.wait()
    assert (tmp_path / "1").stat().st_ino == written


def changed(path: str, leaf) -> State:
    base = abstract()
    params = {
        "trunk": base.params["trunk"],
        "heads": {"image": {"bias": base.params["heads"]["image"]["bias"]}},
    }
    params["heads"]["image"][path] = leaf
    return base._replace(params=params)


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (
            lambda: changed("bias", jax.ShapeDtypeStruct((8,), jnp.bfloat16)),
            r"has float32\[8\] at params.heads.image.bias, .* bfloat16\[8\]",
        ),
        (
            lambda: changed("bias", jax.ShapeDtypeStruct((9,), jnp.float32)),
            r"has float32\[8\] at params.heads.image.bias, .* float32\[9\]",
        ),
        (
            lambda: changed("kernel", jax.ShapeDtypeStruct((1,), jnp.float32)),
            "has nothing at params.heads.image.kernel",
        ),
        (
            lambda: abstract()._replace(ema={}),
            r"has bfloat16\[8\] at ema.heads.image.bias, .* nothing",
        ),
    ],
    ids=["dtype", "shape", "a leaf more", "a part less"],
)
def test_a_state_of_another_shape_is_refused_by_its_first_path(tmp_path_factory, wanted, says):
    directory = tmp_path_factory.getbasetemp() / "shapes"
    if not directory.exists():
        write(directory, 1)
    with (
        CheckpointManager(directory, read_only=True) as manager,
        pytest.raises(UserError, match=says),
    ):
        manager.restore(wanted())


@pytest.fixture
def quiet():
    """Libraries that are as quiet as under a command."""
    loggers = [logging.getLogger(name) for name in ("absl", "asyncio")]
    hook, filters = sys.unraisablehook, [list(logger.filters) for logger in loggers]
    quiet_libraries()
    yield
    sys.unraisablehook = hook
    for logger, before in zip(loggers, filters, strict=True):
        logger.filters[:] = before


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("mounting needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_is_one_clear_error_and_the_last_good_checkpoint_survives(
    small_disk, caplog, quiet
):
    run = small_disk / "run"
    big = {"params": np.random.default_rng(0).standard_normal(4_000_000).astype(np.float32)}
    with log_of(caplog), CheckpointManager(run) as manager:
        manager.save(1, state(1), {})
        manager.wait()
        manager.save(2, placed(big, 8), {})
        says = (
            rf"step 2 could not be written to {run}: No space left on device; .*last good "
            r"checkpoint is of step 1\)"
        )
        with pytest.raises(UserError, match=says):
            while True:
                manager.check()
                time.sleep(0.01)
        manager.check()  # said once
        assert folders(run) == {"1"} and "Traceback" not in caplog.text
        manager.save(3, state(3), {})  # whoever makes room can go on
        assert manager.latest_good_step() == 3


def test_a_folder_that_cannot_be_made_is_the_users_mistake(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run cannot be made or written: Not a directory"):
        CheckpointManager(tmp_path / "file" / "run")


@pytest.mark.parametrize("key", ["every", "keep_last"])
def test_config_refuses_what_would_keep_nothing(key):
    with pytest.raises(ValueError, match=f"{key}=0; use at least 1"):
        CheckpointConfig(**{key: 0})


def test_a_step_of_a_run_of_before_is_whole():
    """Sealed by an earlier version, whose seal lists all files."""
    with CheckpointManager("tests/before/run/checkpoints", read_only=True) as manager:
        assert manager.latest_good_step() == 4


def test_a_scores_file_that_cannot_be_written_is_one_line(tmp_path):
    with CheckpointManager(tmp_path) as manager:
        (tmp_path / "scores.json").mkdir()
        with pytest.raises(UserError, match=r"scores.json cannot be written: Is a directory"):
            manager.record_best(1, 0.5)


NOTEBOOK = """
import logging, sys
from absl import flags
import orbax.checkpoint
from omnivore_jax.checkpoint.manager import CheckpointManager

def state():
    names = "absl", "asyncio", "jax", "root"
    loggers = [logging.getLogger(name) for name in names]
    return (
        [(list(logger.filters), logger.level, list(logger.handlers)) for logger in loggers],
        sys.unraisablehook, list(sys.path), flags.FLAGS.is_parsed(),
    )

before = state()
with CheckpointManager("tests/before/run/checkpoints", read_only=True) as manager:
    assert manager.latest_good_step() == 4
import omnivore_jax.main, omnivore_jax.core.command
assert state() == before, (before, state())
"""


def test_opening_a_run_and_importing_a_command_change_nothing_global():
    subprocess.run([sys.executable, "-c", NOTEBOOK], check=True, timeout=60)
