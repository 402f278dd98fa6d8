"""The kernels of `pallas_tpu.py`: how the work is cut, what a program reads and what it computes.

A program takes one place of the map in a few samples, with whole windows in the memory of the chip
(VMEM). Heads stay packed along the lanes, as the projections leave them. The backward pass computes
the weights again, and adds up the gradient of the bias on the chip.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import gcd
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array, Float, Int

from omnivore_jax.model.attention.base import Call, Masks

LANES, SUBLANES = 128, 8
"""The last two axes of an array are stored in tiles of SUBLANES x LANES words of 32 bits."""

VMEM = 56 * 2**20
"""Bytes that a kernel may take of the 64 MiB (v5p, 7x) or 128 MiB (v5e, v6e) that a core has."""

TOKENS = 512
"""Of the windows that a program takes, at most, where one window has fewer."""


class Plan(NamedTuple):
    """How the work is cut into programs, from shapes alone."""

    samples: int
    places: int
    """Windows of a map; 1 where there are no masks, and every window counts as a sample."""
    tokens: int
    heads: int
    head_dim: int
    group: int
    """Heads of a program."""
    rows: int
    """Samples of a program."""

    @property
    def width(self) -> int:
        """Channels of a program."""
        return self.group * self.head_dim

    @property
    def groups(self) -> int:
        return self.heads // self.group

    @property
    def grid(self) -> tuple[int, int, int]:
        """The bias changes least often, then the mask."""
        return self.groups, self.places, self.samples // self.rows

    @property
    def parts(self) -> int:
        """Blocks in which q, k and v of a program lie: apart where heads are in groups."""
        return 1 if self.groups == 1 else 3


def head_group(heads: int, head_dim: int) -> int:
    """The fewest heads that fill whole tiles, else all of them."""
    group = LANES // gcd(LANES, head_dim)
    return group if heads % group == 0 else heads


def make_plan(shape: Sequence[int], heads: int, places: int) -> Plan:
    """Cuts the work on [g, n, 3c] into programs."""
    windows, tokens, c3 = shape
    samples, head_dim = windows // places, c3 // 3 // heads
    most = max(TOKENS // tokens, 1)
    rows = max(row for row in range(1, most + 1) if samples % row == 0)
    group = head_group(heads, head_dim)
    return Plan(samples, places, tokens, heads, head_dim, group, rows)


def vmem_bytes(call: Call) -> int:
    """Estimates what the backward kernel takes of VMEM."""
    group, itemsize = head_group(call.heads, call.head_dim), np.dtype(call.dtype).itemsize
    rows = max(TOKENS // call.tokens, 1)
    tokens = itemsize * _up(call.tokens, SUBLANES * 4 // itemsize)
    square = 4 * _up(call.tokens, SUBLANES) * _up(call.tokens, LANES)
    heads = 7 * group * tokens * _up(call.head_dim, LANES)
    # q, k, v, dout and three gradients in two buffers each, and the gradients once more.
    blocks = (2 * 7 + 3) * rows * tokens * _up(group * call.head_dim, LANES)
    # The bias, its gradient, the masks of two places, what is computed with one head.
    return square * (2 * group + 2 * call.masked + 3) + heads + blocks


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def forward(
    masks: Masks | None, bias: Float[Array, "k n n"], qkv: Float[Array, "g n c3"], interpret: bool
) -> Float[Array, "g n c"]:
    """Runs the forward kernel on the windows of one device."""
    ids, classes = _classes(masks)
    plan = make_plan(qkv.shape, bias.shape[0], ids.shape[0])
    shape = (plan.samples, plan.places, plan.tokens)
    out = pl.pallas_call(
        partial(_forward_kernel, plan),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=plan.grid,
            in_specs=[*_window_specs(plan), *_square_specs(plan, classes)],
            out_specs=_block(plan, plan.width),
            scratch_shapes=[_heads(plan, 3, qkv.dtype), _heads(plan, 1, qkv.dtype)],
        ),
        out_shape=jax.ShapeDtypeStruct((*shape, plan.heads * plan.head_dim), qkv.dtype),
        compiler_params=_params(("parallel",) * 3),
        cost_estimate=_cost(
            plan, 2, (qkv, bias, *(plan.groups * classes)), out_bytes=qkv.nbytes // 3
        ),
        interpret=interpret,
        name="window_attention",
    )(*_order(ids), *[qkv.reshape(*shape, -1)] * plan.parts, bias, *classes)
    return out.reshape(*qkv.shape[:2], -1)


def backward(
    masks: Masks | None,
    bias: Float[Array, "k n n"],
    qkv: Float[Array, "g n c3"],
    dout: Float[Array, "g n c"],
    interpret: bool,
) -> tuple[Float[Array, "g n c3"], Float[Array, "k n n"]]:
    """Runs the backward kernel on the windows of one device.

    Where heads are in groups, a program writes the gradients of q, of k and of v one after another:
    they lie apart in the output.
    """
    ids, classes = _classes(masks)
    plan = make_plan(qkv.shape, bias.shape[0], ids.shape[0])
    shape = (plan.samples, plan.places, plan.tokens)
    square = (plan.group, plan.tokens, plan.tokens)
    dqkv, dbias = pl.pallas_call(
        partial(_backward_kernel, plan),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(*plan.grid, plan.parts),
            in_specs=[
                *_window_specs(plan),
                _block(plan, plan.width),
                *_square_specs(plan, classes),
            ],
            out_specs=[
                _block(plan, 3 * plan.width // plan.parts, lambda part: part * plan.groups),
                pl.BlockSpec(memory_space=pl.ANY),
            ],
            scratch_shapes=[
                _heads(plan, 4, qkv.dtype),
                _heads(plan, 3, qkv.dtype),
                pltpu.VMEM((3, plan.rows, plan.tokens, plan.width), qkv.dtype),
                pltpu.VMEM(square, jnp.float32),
            ],
        ),
        out_shape=[
            jax.ShapeDtypeStruct((*shape, qkv.shape[-1]), qkv.dtype),
            jax.ShapeDtypeStruct(bias.shape, jnp.float32),
        ],
        compiler_params=_params(("parallel", *("arbitrary",) * 3)),
        cost_estimate=_cost(
            plan, 5, (qkv, dout, bias, *(plan.groups * classes)), qkv.nbytes + bias.nbytes
        ),
        interpret=interpret,
        name="window_attention_gradient",
    )(
        *_order(ids),
        *[qkv.reshape(*shape, -1)] * plan.parts,
        dout.reshape(*shape, -1),
        bias,
        *classes,
    )
    return dqkv.reshape(qkv.shape), dbias


def _classes(masks: Masks | None) -> tuple[Int[Array, "places"], tuple[Array, ...]]:
    """The class of every place, and the masks where there are any."""
    if masks is None:
        return jnp.zeros(1, jnp.int32), ()
    classes, ids = masks
    return jnp.asarray(ids, jnp.int32), (jnp.asarray(classes),)


def _order(ids: Int[Array, "places"]) -> tuple[Int[Array, "places"], Int[Array, "places"]]:
    """Places by class, and their classes, so that a mask is fetched once a class."""
    order = jnp.argsort(ids).astype(jnp.int32)
    return order, ids[order]


def _block(plan: Plan, width: int, offset: Callable[[Any], Any] = lambda part: 0) -> pl.BlockSpec:
    """The channels of a program, from the block `offset` on, in all arrays of windows."""

    def index(group, place, sample, *rest):
        *part, order, _ = rest
        return sample, order[place], 0, offset(part[0] if part else 0) + group

    return pl.BlockSpec((plan.rows, None, plan.tokens, width), index)


def _window_specs(plan: Plan) -> list[pl.BlockSpec]:
    """q, k and v of a program: three views of one array, or all of it at once."""
    width = 3 * plan.width // plan.parts
    return [_block(plan, width, lambda _, i=i: i * plan.groups) for i in range(plan.parts)]


def _square_specs(plan: Plan, classes: Sequence[Array]) -> list[pl.BlockSpec]:
    """The bias of a program and its mask."""
    n = plan.tokens
    bias = pl.BlockSpec((plan.group, n, n), lambda group, *_: (group, 0, 0))
    mask = pl.BlockSpec((None, n, n), lambda _, place, *rest: (rest[-1][place], 0, 0))
    return [bias, *(mask for _ in classes)]


def _params(kinds: Sequence[Any]) -> pltpu.CompilerParams:
    return pltpu.CompilerParams(dimension_semantics=kinds, vmem_limit_bytes=VMEM)


def _cost(plan: Plan, products: int, inputs: Sequence[Array], out_bytes: int) -> pl.CostEstimate:
    """What XLA is told of a kernel that makes so many products a head."""
    squares = plan.samples * plan.places * plan.heads * plan.tokens**2
    return pl.CostEstimate(
        flops=2 * products * squares * plan.head_dim,
        transcendentals=squares,
        bytes_accessed=sum(x.nbytes for x in inputs) + out_bytes,
    )


def _forward_kernel(plan: Plan, order, ids, *refs):
    windows, (bias, *mask, out, given, found) = refs[: plan.parts], refs[plan.parts :]

    def attend_head(head):
        q, k, v = (given[i, head] for i in range(3))
        weights, total = _weights(q, k, bias[head], mask)
        found[0, head] = (_product(weights.astype(v.dtype), v, (1, 0)) / total).astype(out.dtype)

    @_each(plan.rows)
    def _(row):
        _take_heads(plan, windows, row, given)
        _each(plan.group, unroll=plan.tokens < LANES)(attend_head)
        for head in range(plan.group):
            out[row, :, _lanes(plan, head)] = found[0, head]


def _backward_kernel(plan: Plan, order, ids, *refs):
    windows, (dout, bias, *mask, dqkv, dbias) = refs[: plan.parts], refs[plan.parts : -4]
    given, found, parts, total_dbias = refs[-4:]
    at = [pl.program_id(axis) for axis in range(4)]
    last = [pl.num_programs(axis) - 1 for axis in range(4)]

    @pl.when((at[1] == 0) & (at[2] == 0) & (at[3] == 0))
    def _():
        total_dbias[...] = jnp.zeros_like(total_dbias)

    def head_gradients(head):
        *gradients, dlogits = _head_gradients([given[i, head] for i in range(4)], bias[head], mask)
        for i, gradient in enumerate(gradients):
            found[i, head] = gradient.astype(found.dtype)
        total_dbias[head] += dlogits

    @pl.when(at[3] == 0)
    def _():
        @_each(plan.rows)
        def _(row):
            _take_heads(plan, windows, row, given)
            for head in range(plan.group):
                given[3, head] = dout[row, :, _lanes(plan, head)]
            _each(plan.group, unroll=plan.tokens < LANES)(head_gradients)
            for i in range(3):
                for head in range(plan.group):
                    parts[i, row, :, _lanes(plan, head)] = found[i, head]

    if plan.parts == 1:
        for i in range(3):
            dqkv[:, :, i * plan.width : (i + 1) * plan.width] = parts[i]
    else:
        dqkv[...] = parts[at[3]]

    @pl.when((at[1] == last[1]) & (at[2] == last[2]) & (at[3] == last[3]))
    def _():
        heads = pl.ds(at[0] * plan.group, plan.group)
        pltpu.sync_copy(total_dbias, dbias.at[heads])


def _heads(plan: Plan, count: int, dtype: Any) -> Any:
    """Memory for some arrays [n, d] of every head of a program."""
    return pltpu.VMEM((count, plan.group, plan.tokens, plan.head_dim), dtype)


def _each(count: int, unroll: bool = False) -> Callable:
    """Runs a function for every number below `count`."""

    def run(function: Callable) -> None:
        jax.lax.fori_loop(0, count, lambda i, _: function(i), None, unroll=unroll)

    return run


def _take_heads(plan: Plan, windows: Sequence[Any], row, given: Any) -> None:
    """Lays out q, k and v of a window by head, so that one program in a loop serves all heads."""
    for i in range(3):
        window, first = (windows[i], 0) if plan.parts == 3 else (windows[0], i * plan.heads)
        for head in range(plan.group):
            given[i, head] = window[row, :, _lanes(plan, first + head)]


def _lanes(plan: Plan, head: int) -> slice:
    return slice(head * plan.head_dim, (head + 1) * plan.head_dim)


def _weights(q, k, bias, mask: Sequence[Any]) -> tuple[Array, Array]:
    """Exponentials, not yet divided by their sum, and that sum."""
    logits = _product(q, k, (1, 1)) * q.shape[-1] ** -0.5 + bias
    logits = logits + mask[0][...] if mask else logits
    weights = jnp.exp(logits - logits.max(-1, keepdims=True))
    return weights, weights.sum(-1, keepdims=True)


def _head_gradients(given: Sequence[Array], bias, mask) -> tuple[Array, ...]:
    """Gradients by q, k, v and by the bias, of one head in one window, from q, k, v and dout."""
    q, k, v, dout = given
    weights, total = _weights(q, k, bias, mask)
    # What is divided here need not be divided where it is n x n.
    divided = (dout.astype(jnp.float32) / total).astype(v.dtype)
    dv = _product(weights.astype(v.dtype), divided, (0, 0))
    dweights = _product(divided, v, (1, 1))
    mean = (weights * dweights).sum(-1, keepdims=True) / total
    dlogits = weights * (dweights - mean)
    scaled = (dlogits * q.shape[-1] ** -0.5).astype(q.dtype)
    return _product(scaled, k, (1, 0)), _product(scaled, q, (0, 0)), dv, dlogits


def _product(a: Array, b: Array, contract: tuple[int, int]) -> Array:
    """The product of two matrices over one axis of each, in float32."""
    axes = ((contract[:1], contract[1:]), ((), ()))
    return jax.lax.dot_general(a, b, axes, preferred_element_type=jnp.float32)
