import json
from collections import Counter

from omnivore_jax.data.manifest import Shard
from omnivore_jax.ingest.layouts.base import Item, Listing
from omnivore_jax.ingest.plan import MAX_SHARDS, ShardPlan, copies, cut


def listing(kind="image", **splits):
    def item(id: str) -> Item:
        raise AssertionError("a plan needs no item")

    ids = {split: [str(k) for k in range(count)] for split, count in splits.items()}
    return Listing(kind, ("a", "b"), ids, item, Counter())


def test_a_split_is_cut_into_shards_of_equal_size_but_the_last():
    assert cut(listing(train=7, val=2), 3) == [
        ShardPlan("train-00000", "train", 0, 3),
        ShardPlan("train-00001", "train", 3, 6),
        ShardPlan("train-00002", "train", 6, 7),
        ShardPlan("val-00000", "val", 0, 2),
    ]


def test_shards_hold_what_their_kind_allows_and_are_not_more_than_a_reader_keeps_open():
    assert [plan.stop for plan in cut(listing("rgbd", train=1500))] == [1024, 1500]
    assert [plan.stop for plan in cut(listing("video", train=300))] == [256, 300]
    plans = cut(listing(train=4096 * MAX_SHARDS + 1))
    assert len(plans) <= MAX_SHARDS and plans[0].stop == 4097


def test_copies_are_named_whatever_split_they_are_held_out_in(tmp_path):
    digests = {"train": ["x", "y"], "val": ["z"], "test": ["y"]}
    for split, rows in digests.items():
        text = "".join(json.dumps({"id": f"{split}/{d}", "sha256": d}) + "\n" for d in rows)
        (tmp_path / f"{split}.jsonl").write_text(text)
    splits = {split: [Shard(f"{split}.arrayrecord", 1, 1, "")] for split in digests}
    assert copies(tmp_path, splits) == [("test/y", "train/y")]
