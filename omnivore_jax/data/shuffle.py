"""Permutations and seeds that are computed, not stored.

Hashes of integers, the same on any machine and version.

A dataset of 14 million pictures is shuffled anew in every pass; no list of its indices is ever
made.
"""

import hashlib
from math import isqrt

import numpy as np
from jaxtyping import Float64, Integer, UInt64

ROUNDS = 8


def key_of(*words: int | str) -> int:
    """Makes a 64-bit key of some words."""
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=8).digest(), "little")


def hashed(
    key: int | UInt64[np.ndarray, " n"], numbers: Integer[np.ndarray, " n"]
) -> UInt64[np.ndarray, " n"]:
    """64 random bits for every (key, number)."""
    return _mix(np.asarray(key, np.uint64) + _mix(numbers.astype(np.uint64)))


def permute(
    positions: Integer[np.ndarray, " n"], size: int, keys: UInt64[np.ndarray, " n"]
) -> Integer[np.ndarray, " n"]:
    """Where permutations of `size` elements, one for every key, send `positions` (0 to size - 1).

    A Feistel network over pairs of digits in a base above sqrt(size) is a permutation of slightly
    more than `size` numbers; walking its cycles until the number is small enough makes it one of
    exactly `size` (Black, Rogaway, 2002).
    """
    side = isqrt(size) + 1
    side += side % 2  # with an odd base all rounds are even permutations
    at = positions.astype(np.uint64)
    walking = np.arange(len(at))
    while len(walking):
        at[walking] = _feistel(at[walking], side, keys[walking])
        walking = walking[at[walking] >= size]
    return at.astype(np.int64)


# Shapes of the two inner functions are not declared: tests would check them a million times.


def _feistel(at: np.ndarray, side: int, keys: np.ndarray) -> np.ndarray:
    base = np.uint64(side)
    left, right = at // base, at % base
    for turn in range(ROUNDS):
        left, right = right, (left + hashed(_mix(keys + np.uint64(turn)), right) % base) % base
    return left * base + right


def _mix(x: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64 (Steele, Lea and Flood, 2014).

    Sums and products wrap around.
    """
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniforms(key: int, count: int) -> Float64[np.ndarray, " count"]:
    """Random numbers in [0, 1) of a key."""
    return (hashed(key, np.arange(count)) >> np.uint64(11)) * 2.0**-53
