"""A pass that was stopped goes on where it was and ends with the same bits."""

import numpy as np
import pytest

from omnivore_jax.data.demo import EmbeddedDataset
from omnivore_jax.inference import ledger as ledgers
from omnivore_jax.inference.ledger import Ledger, Part, in_parts, key_of

SAMPLES = EmbeddedDataset("demo_image", "test")


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "omnivore_jax" / ledgers.FOLDER


class First:
    def __init__(self, n):
        self.n = n

    def __len__(self):
        return self.n

    def load(self, index, seed):
        return SAMPLES.load(index, seed)


def see(calls, stop=None):
    def run(samples):
        if stop is not None and len(calls) == stop:
            raise KeyboardInterrupt
        rows = [samples.load(k, 0) for k in range(len(samples))]
        calls.append(len(rows))
        tree = {
            "label": np.array([r.label for r in rows]),
            "pair": (np.stack([r.rgb for r in rows]),),
        }
        return tree, [row.id for row in rows]

    return run


@pytest.mark.parametrize("n", [1, 7, 8, 21, 24])
@pytest.mark.parametrize("stop", [0, 1, 2])
def test_what_was_seen_is_not_seen_again_and_nothing_is_missing(home, n, stop):
    whole, whole_ids = in_parts(see([]), First(n), 8, None, lambda k: None)
    calls, skipped = [], []
    try:
        in_parts(see(calls, stop), First(n), 8, Ledger(home / "a"), skipped.append)
    except KeyboardInterrupt:
        assert sum(1 for _ in home.glob("a/*")) == stop
    calls.clear()
    got, ids = in_parts(see(calls), First(n), 8, Ledger(home / "a"), skipped.append)
    assert ids == whole_ids and sum(skipped) + sum(calls) == n
    np.testing.assert_array_equal(got["label"], whole["label"])
    np.testing.assert_array_equal(got["pair"][0], whole["pair"][0])


def test_a_part_that_a_kill_cut_short_is_seen_again(home):
    in_parts(see([]), First(24), 8, Ledger(home / "a"), lambda k: None)
    [first, second] = sorted(home.glob("a/*"))
    first.write_bytes(first.read_bytes()[:100])
    calls = []
    got, ids = in_parts(see(calls), First(24), 8, Ledger(home / "a"), lambda k: None)
    assert calls == [8, 8, 8] and len(ids) == 24 and second.exists()
    Ledger(home / "a").clear()
    assert not (home / "a").exists()


def test_names_of_any_bytes_are_kept(home):
    part = Part([np.arange(3)], ["a\udcff", "b c", "d"])
    Ledger(home / "x").write(0, part)
    [again] = Ledger(home / "x").parts()
    assert again.ids == part.ids


def test_a_disk_that_takes_nothing_does_not_end_the_pass(home, caplog):
    home.parent.mkdir(parents=True)
    home.write_text("in the way")
    got, ids = in_parts(see([]), First(20), 8, Ledger(home / "a"), lambda k: None)
    assert len(ids) == 20 and "is not kept" in caplog.text


def test_a_key_tells_weights_and_facts_apart():
    one, other = {"a": np.zeros(100)}, {"a": np.r_[np.zeros(60), 1.0, np.zeros(39)]}
    assert len({key_of(one, [1]), key_of(one, [2]), key_of(other, [1])}) == 3
    assert key_of(one, [1]) == key_of({"a": np.zeros(100)}, [1])


def test_old_passes_are_forgotten(home, monkeypatch):
    Ledger(home / "old").write(0, Part([np.arange(1)], ["a"]))
    monkeypatch.setattr(ledgers, "KEPT_SECONDS", -1.0)
    ledgers.resumable(see([]), First(2), 8, "new", lambda k: None)
    assert not (home / "old").exists()
