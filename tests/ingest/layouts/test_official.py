from omnivore_jax.data.datasets import PUBLIC
from omnivore_jax.ingest.layouts.official import OFFICIAL, differences
from omnivore_jax.ingest.layouts.table import LAYOUTS


def test_what_a_download_lacks_is_said_in_numbers():
    assert differences("imagenet", 1000, {"train": 1_281_160, "val": 50_000}) == [
        "train has 1,281,160 of the official 1,281,167"
    ]
    assert differences("pets", 36, {"train": 3680}) == [
        "pets has 36 of the official 37 classes",
        "val has 0 of the official 3,669",
    ]
    assert differences("places365", 365, {"train": 1_803_460, "val": 36_500}) == []
    assert differences("folder", 3, {"train": 9}) == []


def test_both_releases_of_imagenet21k_are_whole_and_held_out_samples_are_training_samples():
    assert differences("imagenet21k", 21_841, {"train": 14_197_000, "val": 122}) == []
    assert differences("imagenet21k", 19_167, {"train": 5}) == []
    assert differences("imagenet21k", 10_450, {"train": 14_197_122}) == [
        "imagenet21k has 10,450 of the official 21,841 or 19,167 classes"
    ]


def test_rows_are_layouts_and_agree_with_the_paper_s_datasets():
    assert OFFICIAL.keys() <= LAYOUTS.keys()
    for name in OFFICIAL.keys() & PUBLIC.keys():
        release, public = OFFICIAL[name][0], PUBLIC[name]
        assert (release.classes, release.splits["train"]) == (public.classes, public.num_train)
        assert release.splits.get("val", 0) == public.num_val
