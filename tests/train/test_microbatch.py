import pytest
from hypothesis import given
from hypothesis import strategies as st

from omnivore_jax.tasks.classification import ClassificationTask
from omnivore_jax.train.microbatch import split_batch
from omnivore_jax.train.recipe import Recipe, TrainDataset


def dataset(microbatch=0, mixes=True):
    alphas = {} if mixes else {"mixup": 0.0, "cutmix": 0.0}
    recipe = Recipe(microbatch=microbatch, **alphas)
    return TrainDataset(ClassificationTask("image", 10), recipe)


@pytest.mark.parametrize(
    ("samples", "shards", "microbatch", "micro", "count"),
    [
        (64, 8, 0, 8, 1),
        (64, 8, 3, 2, 4),
        (4096, 64, 32, 32, 2),
        (4096, 64, 1, 1, 64),
        (8, 8, 16, 1, 1),
        (100, 4, 0, 25, 1),
    ],
)
def test_a_batch_that_divides_is_not_padded(samples, shards, microbatch, micro, count):
    split = split_batch(samples, shards, dataset(microbatch, mixes=False))
    assert (split.micro, split.count, split.slots) == (micro, count, samples)


@pytest.mark.parametrize(
    ("samples", "shards", "microbatch", "mixes", "local", "micro"),
    [
        (100, 8, 0, False, 13, 13),
        (100, 8, 0, True, 14, 14),
        (66, 1024, 16, True, 2, 2),  # one pair a device
        (32, 64, 0, False, 1, 1),
        (15, 1, 0, True, 16, 16),
        (4096, 1024, 1, True, 4, 1),  # a partner elsewhere
        (4096, 64, 3, True, 64, 2),
        (1758, 1, 16, True, 1760, 16),  # 2 x 3 x 293: no good divisor
    ],
)
def test_a_batch_that_does_not_divide_is_padded_to_whole_pairs_where_samples_are_mixed(
    samples, shards, microbatch, mixes, local, micro
):
    split = split_batch(samples, shards, dataset(microbatch, mixes))
    assert (split.local, split.micro) == (local, micro)


@given(st.integers(1, 5000), st.integers(1, 1024), st.integers(0, 70), st.booleans())
def test_a_split_pads_little_and_its_slots_are_split_in_the_same_way(
    samples, shards, microbatch, mixes
):
    ours, unit = dataset(microbatch, mixes), 2 if mixes else 1
    split = split_batch(samples, shards, ours)
    assert split == split_batch(split.slots, shards, ours)
    assert split.micro * split.count == split.local and split.local % unit == 0
    assert split.micro <= (microbatch or split.local) and (
        split.micro % unit == 0 or microbatch == 1
    )
    least = -(-samples // (shards * unit)) * unit
    assert least <= split.local < least + max(split.micro, unit)
    if 1 < microbatch < least:
        assert split.micro > microbatch // unit * unit / 2  # many small rounds would be slow
