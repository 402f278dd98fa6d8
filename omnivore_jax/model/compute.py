"""How a model is run, which changes nothing of what its parameters mean.

Given at run time; no card and no checkpoint stores it.
"""

from dataclasses import dataclass
from typing import Literal

Dtype = Literal["float32", "bfloat16"]
Remat = Literal["none", "attention", "block"]


@dataclass(frozen=True)
class Compute:
    """Precision, attention backend, recomputation, and the noise of training."""

    dtype: Dtype = "float32"
    """Of the computation; parameters, statistics, softmax and position bias stay float32."""
    attention: str = "auto"
    """Backend of window attention: a name of `attention.table`, or the first that serves."""
    remat: Remat = "none"
    """What the backward pass computes again instead of keeping it: attention, or whole blocks."""
    scan: bool = False
    """Whether stages of many blocks loop over pairs of them instead of being written out: they
    compile in the time of two blocks, and copy their parameters first."""
    drop_path: float = 0.0
    """Stochastic depth of the last block; it grows linearly from 0 at the first."""
    dropout: float = 0.0
    """After the embedding, the softmax, both projections of a block and the GELU; 0 officially."""
    head_dropout: float = 0.0
    """Of the pooled feature, before the head."""

    def __post_init__(self):
        for name in ("drop_path", "dropout", "head_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)}; use a number from 0 to below 1")
