"""Window attention and its gradients in float64 NumPy, from the formulas alone."""

from typing import NamedTuple

import numpy as np

from omnivore_jax.model.window import FORBIDDEN


class Case(NamedTuple):
    """Arguments of window attention, and what its gradient is taken with."""

    qkv: np.ndarray
    bias: np.ndarray
    masks: tuple[np.ndarray, np.ndarray] | None
    dout: np.ndarray


class Answer(NamedTuple):
    out: np.ndarray
    dq: np.ndarray
    dk: np.ndarray
    dv: np.ndarray
    dbias: np.ndarray


def make_case(n: int, heads: int, classes: int, *, head_dim=8, windows=4, samples=2) -> Case:
    """Draws a case; `classes` 0: no masks. Maps have `windows` windows, at least one a class.

    Tokens of a window belong to one to four regions and see their own region alone.
    """
    rng = np.random.default_rng([n, heads, classes])
    windows = max(windows, classes)
    shape = (samples * windows, n, heads * head_dim)
    qkv = rng.standard_normal((*shape[:2], 3 * shape[2])).astype(np.float32)
    bias = rng.standard_normal((heads, n, n)).astype(np.float32)
    masks = None
    if classes:
        regions = np.array([rng.integers(0, 1 + i % 4, n) for i in range(classes)])
        allowed = regions[:, :, None] == regions[:, None]
        ids = rng.permutation(np.arange(windows) % classes)
        masks = np.where(allowed, 0, FORBIDDEN).astype(np.float32), ids
    return Case(qkv, bias, masks, rng.standard_normal(shape).astype(np.float32))


def answer(case: Case) -> Answer:
    """Computes attention and the gradients of sum(out * dout)."""
    heads, n = case.bias.shape[:2]
    q, k, v = (split_heads(x, heads) for x in np.split(case.qkv.astype(np.float64), 3, -1))
    dout = split_heads(case.dout.astype(np.float64), heads)
    scale = q.shape[-1] ** -0.5
    logits = q @ flip(k) * scale + case.bias.astype(np.float64)
    if case.masks is not None:
        classes, ids = case.masks
        logits += classes[np.resize(ids, len(logits))][:, None]
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    dweights = dout @ flip(v)
    dlogits = weights * (dweights - (weights * dweights).sum(-1, keepdims=True))
    parts = (weights @ v, dlogits @ k * scale, flip(dlogits) @ q * scale, flip(weights) @ dout)
    return Answer(*(join_heads(x) for x in parts), dlogits.sum(0))


def split_heads(x: np.ndarray, heads: int) -> np.ndarray:
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def join_heads(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def flip(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(-1, -2)


def error(got, want: np.ndarray) -> float:
    """Length of the difference, as a share of the length of what is right."""
    difference = np.asarray(got, np.float64) - want
    return float(np.linalg.norm(difference) / np.linalg.norm(want))
