from dataclasses import dataclass

from omnivore_jax.data.demo import EmbeddedDataset
from omnivore_jax.data.sample import BadRecord, Sample
from omnivore_jax.ingest.verify import Damage, check_once, check_split


@dataclass(frozen=True)
class Broken:
    """Real pictures of which some cannot be read."""

    bad: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return 20

    def load(self, index: int, seed: int) -> Sample:
        if index in self.bad:
            raise BadRecord(f"broken/{index}", "truncated")
        return EmbeddedDataset("demo_image", "test").load(index, seed)


def test_every_record_that_cannot_be_read_is_named_in_order():
    done = []
    damage = check_split(Broken(frozenset({3, 17})), 4, advance=lambda: done.append(1))
    assert damage == [Damage("broken/3", "truncated"), Damage("broken/17", "truncated")]
    assert len(done) == 20 and check_split(Broken(), 4) == []


def test_hosts_share_the_records_as_an_evaluation_does():
    damage = [check_split(Broken(frozenset({3, 17, 8})), 2, (host, 3)) for host in range(3)]
    assert [[row.id for row in rows] for rows in damage] == [
        ["broken/3"],
        [],
        ["broken/8", "broken/17"],
    ]


def test_an_undamaged_split_is_checked_once_and_again_when_it_changes(tmp_path):
    calls, note = [], tmp_path / "checks" / "demo.json"

    def check() -> list[Damage]:
        calls.append(1)
        return []

    for key in (["a", "1"], ["a", "1"], ["b", "1"], ["b", "1"]):
        assert check_once(note, key, check) == []
    assert len(calls) == 2
    note.write_text(note.read_text()[:9])  # what a kill may leave
    check_once(note, ["b", "1"], check)
    assert len(calls) == 3


def test_damage_is_looked_for_again_until_it_is_mended(tmp_path):
    note, bad = tmp_path / "note.json", Broken(frozenset({5}))
    for _ in range(2):
        damage = check_once(note, ["key"], lambda: check_split(bad, 1))
        assert damage == [Damage("broken/5", "truncated")]
    assert check_once(note, ["key"], lambda: check_split(Broken(), 1)) == []
