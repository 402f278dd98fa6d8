import io
from collections import Counter
from dataclasses import replace

from rich.console import Console

from omnivore_jax.data.manifest import Shard
from omnivore_jax.ingest.layouts.base import Item, Listing
from omnivore_jax.ingest.overview import class_table, figures, sentences
from omnivore_jax.ingest.plan import Inventory, ShardPlan
from omnivore_jax.ingest.preparation import Preparation
from omnivore_jax.ingest.shards import ShardReport


def preparation(classes, copies=()):
    def item(id: str) -> Item:
        raise AssertionError("a summary needs no item")

    names = tuple(f"class{k:02d}" for k in range(classes))
    listing = Listing("image", names, {"train": []}, item, Counter({".txt": 2}))
    plans = [ShardPlan(f"train-{k:05d}", "train", k, k + 1) for k in range(3)]
    labels = {k: k + 1 for k in range(classes)}
    shard = Shard("train-00000.arrayrecord", sum(labels.values()), 2_500_000, "")
    report = ShardReport("", shard, labels, [{"id": "a", "reason": "cut", "bytes": 1}])
    return Preparation(listing, plans, Inventory({plans[0]: report}, report.bad, copies))


def text_of(table):
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    return console.file.getvalue()


def test_the_table_shows_the_largest_classes_and_says_what_it_leaves_out():
    text = text_of(class_table(preparation(25)))
    assert "class24" in text and "class05" in text and "class04" not in text
    assert "... 5 more, the smallest has 1" in text and "all 25" in text and "325" in text
    assert "more" not in text_of(class_table(preparation(20)))


def test_what_a_user_should_look_after_is_said(tmp_path):
    result = preparation(2, [("val/1", "train/2")])
    sums = figures(tmp_path, result)
    assert sums["splits"] == {"train": 3} and sums["shards_missing"] == 2
    assert sentences(sums | {"seconds": 1.5}, result) == [
        f"{tmp_path}: image, 1 shards, 2.5 MB, 1.5 s",
        f"1 files cannot be read and were left out: {tmp_path}/bad_files.jsonl",
        "1 training files are held out too, the first is train/2 = val/1; remove one of each",
        "ignored: 2 x .txt",
        "2 shards are still missing; the last machine to end writes the manifest",
    ]


def test_brackets_in_the_name_of_a_class_are_shown():
    result = preparation(1)
    listing = replace(result.listing, classes=("[red] car",))
    assert "[red] car" in text_of(class_table(result._replace(listing=listing)))
