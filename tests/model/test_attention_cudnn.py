"""What attention by cuDNN is lowered to; its numbers need a GPU."""

import re

import jax
import jax.numpy as jnp
import pytest
from jax._src.cudnn import fused_attention_stablehlo

from omnivore_jax.model.attention import cudnn
from omnivore_jax.model.attention.base import Call, Device
from omnivore_jax.model.attention.cudnn import CUDNN
from omnivore_jax.model.attention.table import choose
from omnivore_jax.model.attention.xla import XLA
from omnivore_jax.model.window import shift_masks, window_grid

CALL = re.compile(r"@__cudnn\$fmhaScaleBiasSoftmax(Backward)?\(.* : \((.*)\) -> ")


@pytest.mark.parametrize(
    ("size", "window", "classes"),
    [((1, 28, 28), (1, 7, 7), 4), ((16, 28, 28), (8, 7, 7), 8)],
)
def test_a_call_a_class_of_masks_takes_an_even_number_of_tokens_and_one_bias(
    size, window, classes, monkeypatch
):
    monkeypatch.setattr(fused_attention_stablehlo, "check_cudnn_version", lambda: 91900)
    monkeypatch.setattr(fused_attention_stablehlo, "check_compute_capability", lambda _: True)
    grid = window_grid(size, window, shifted=True)
    masks = shift_masks(grid)
    n, windows = window[0] * 49, 3 * len(masks[1])
    even = n + n % 2

    def both(qkv, bias, dout):
        out, back = jax.vjp(lambda q, b: cudnn.attend(q, b, masks, None), qkv, bias)
        return out, *back(dout)

    shapes = ((windows, n, 192), jnp.bfloat16), ((2, n, n), jnp.float32)
    shapes = [jax.ShapeDtypeStruct(*s) for s in (*shapes, ((windows, n, 64), jnp.bfloat16))]
    lowered = jax.jit(both).trace(*shapes).lower(lowering_platforms=("cuda",))
    calls = CALL.findall(lowered.as_text())
    assert sum(kind == "Backward" for kind, _ in calls) == classes == len(calls) / 2
    taken = 0
    for kind, operands in calls:
        assert f"tensor<1x2x{even}x{even}xf32>" in operands
        rows = re.findall(rf"tensor<(\d+)x{even}x2x32xbf16>", operands)
        assert len(rows) == (5 if kind else 3) and len(set(rows)) == 1
        taken += int(rows[0]) / 2
    assert taken == windows


def call(**changes):
    plain = Call(
        Device("gpu", "NVIDIA H100 80GB HBM3", 9.0),
        dtype="bfloat16",
        tokens=392,
        head_dim=32,
        heads=3,
        masked=True,
        training=True,
        dropout=False,
    )
    return plain._replace(**changes)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"device": Device("tpu")}, "it is for GPUs, not for a tpu"),
        ({"device": Device("gpu", "V100", 7.0)}, "compute capability 7.0, not 8.0"),
        ({"dtype": "float32"}, "in bfloat16 or float16, not in float32"),
        ({"head_dim": 12}, "12 channels, not a multiple of 8"),
        ({"dropout": True}, "dropout"),
    ],
)
def test_it_says_why_it_cannot_serve(changes, reason):
    with pytest.raises(ValueError, match=reason):
        choose("cudnn", call(**changes))


def test_it_is_taken_by_name_alone_and_masks_must_be_of_numpy():
    assert choose("cudnn", call()).backend is CUDNN
    chosen = choose("auto", call())
    assert chosen.backend is XLA and "has not run on a GPU" in chosen.reason
    masks = jnp.zeros((2, 8, 8)), jnp.zeros(4, jnp.int32)

    def attend(qkv, bias, masks):
        return cudnn.attend(qkv, bias, masks, None)

    with pytest.raises(ValueError, match="at most 8 masks, and those of NumPy"):
        jax.eval_shape(attend, jnp.zeros((8, 8, 24)), jnp.zeros((1, 8, 8)), masks)
