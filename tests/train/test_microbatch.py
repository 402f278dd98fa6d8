import pytest
from omnivore_jax.train.task import TaskConfig

from omnivore_jax.train.microbatch import split_batch

MIXED = TaskConfig("image", 10)
PLAIN = TaskConfig("image", 10, mixup=0.0, cutmix=0.0)


@pytest.mark.parametrize(
    ("samples", "shards", "microbatch", "micro", "count"),
    [
        (64, 8, 0, 8, 1),
        (64, 8, 3, 2, 4),
        (4096, 64, 32, 32, 2),
        (4096, 64, 1, 1, 64),
        (8, 8, 16, 1, 1),
    ],
)
def test_micro_batches_are_the_fewest_equal_ones_that_fit(
    samples, shards, microbatch, micro, count
):
    task = TaskConfig("image", 10, mixup=0.0, cutmix=0.0, microbatch=microbatch)
    split = split_batch("imagenet", samples, shards, task, 32)
    assert (split.micro, split.count) == (micro, count)


def test_a_batch_smaller_than_a_group_is_one_group():
    assert split_batch("imagenet", 20, 1, MIXED, 32).group == 20


@pytest.mark.parametrize(
    ("samples", "shards", "says"),
    [
        (
            100,
            8,
            r"data.imagenet.batch_size=100 is not divisible by 8 devices .*; use a multiple of 8",
        ),
        (
            100,
            1,
            r"mix.group=32 does not divide data.imagenet.batch_size=100 .*; .* set mix.group to a divisor of 100",
        ),
        (
            64,
            8,
            r"mix.group=32 does not divide .* over 8 devices; .* set mix.group to a divisor of 8",
        ),
    ],
)
def test_a_batch_that_does_not_divide_says_what_would(samples, shards, says):
    with pytest.raises(ValueError, match=says):
        split_batch("imagenet", samples, shards, MIXED, 32)


def test_groups_do_not_matter_where_nothing_is_mixed():
    assert split_batch("imagenet", 100, 4, PLAIN, 32).local == 25
