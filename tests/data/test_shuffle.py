import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from omnivore_jax.data.shuffle import hashed, key_of, permute, uniforms


@given(size=st.integers(1, 3000), key=st.integers(0, 2**64 - 1))
def test_a_permutation_sends_every_element_somewhere_else_once(size, key):
    sent = permute(np.arange(size), size, np.full(size, key, np.uint64))
    assert np.array_equal(np.sort(sent), np.arange(size))


@given(st.data())
def test_one_element_of_millions_is_where_the_whole_permutation_has_it(data):
    size = data.draw(st.integers(10_000_000, 20_000_000))
    at = np.array(
        data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=50, unique=True))
    )
    sent = permute(at, size, np.full(len(at), 3, np.uint64))
    assert len(set(sent.tolist())) == len(at) and sent.min() >= 0 and sent.max() < size
    alone = [permute(at[i : i + 1], size, np.full(1, 3, np.uint64))[0] for i in range(len(at))]
    assert np.array_equal(alone, sent)


def test_all_permutations_of_five_are_equally_likely():
    """24,000 keys, 120 permutations; scipy's test of the counts."""
    keys = hashed(key_of("keys"), np.arange(24_000))
    sent = np.stack([permute(np.full(24_000, i), 5, keys) for i in range(5)], axis=1)
    counts = np.unique(sent, axis=0, return_counts=True)[1]
    assert len(counts) == 120 and chisquare(counts).pvalue > 0.01


def test_neighbours_are_not_neighbours_after_the_shuffle():
    """Of 40,000 samples, in one pass and between two.

    Independent orders correlate by 0 with a deviation of 1 / 200.
    """
    passes = [permute(np.arange(40_000), 40_000, np.full(40_000, key, np.uint64)) for key in (1, 2)]
    for a, b in (
        (np.arange(40_000), passes[0]),
        (passes[0][:-1], passes[0][1:]),
        (passes[0], passes[1]),
    ):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.02


def test_uniforms_are_uniform_and_the_first_splitmix_numbers_are_the_published_ones():
    drawn = np.concatenate([uniforms(key, 4) for key in range(2000)])
    assert chisquare(np.histogram(drawn, 20, (0, 1))[0]).pvalue > 0.01
    # the first outputs of the reference splitmix64.c for the seeds 0 and 1
    assert hashed(0, np.array([0]))[0] == _splitmix(_splitmix(0))
    assert _splitmix(0) == 0xE220A8397B1DCDAF and _splitmix(1) == 0x910A2DEC89025CC1


def _splitmix(seed: int) -> int:
    """The reference in C, with unbounded integers."""
    z = (seed + 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)
