"""Which backend computes window attention, and why: one table a platform, in order of preference.

To add a backend: a file beside this one, and its name in the tables.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Array, Float

from omnivore_jax.core.types import Size
from omnivore_jax.model.attention import base
from omnivore_jax.model.attention.base import Backend, Call, Device, Masks
from omnivore_jax.model.attention.chunked import CHUNKED
from omnivore_jax.model.attention.cpu import CPU
from omnivore_jax.model.attention.cudnn import CUDNN
from omnivore_jax.model.attention.pallas_tpu import PALLAS_TPU
from omnivore_jax.model.attention.xla import XLA

TABLES: dict[str, tuple[Backend, ...]] = {
    "cpu": (CHUNKED, CPU, XLA),
    "gpu": (CUDNN, XLA),
    "tpu": (PALLAS_TPU, XLA),
}
"""By platform; `auto` takes the first that does not say why not. Elsewhere: plain mathematics."""

BACKENDS = {backend.name: backend for backend in chain(*TABLES.values())}
NAMES = ("auto", *BACKENDS)
"""What `attention.backend` may say."""


class Choice(NamedTuple):
    """A backend, and why it was chosen."""

    backend: Backend
    reason: str


@runtime_checkable
class Stage(Protocol):
    """What the calls of a stage follow from (`cost.StageLayout`)."""

    @property
    def channels(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def shift(self) -> Size: ...
    @property
    def window_tokens(self) -> int: ...


def window_attention(
    qkv: Float[Array, "g n c3"],
    bias: Float[Array, "k n n"],
    masks: Masks | None = None,
    *,
    backend: str = "auto",
    keep: Float[Array, "g k n n"] | None = None,
    training: bool = True,
) -> Float[Array, "g n c"]:
    """Attends within every window: softmax(q k^T / sqrt(d) + bias + mask) v.

    Windows are ordered by sample, then by place on the map. `qkv` holds all heads' queries, then
    keys, then values. `bias` is shared by all windows. With `masks` = (classes, ids), window i of a
    map adds classes[ids[i]]. `keep` multiplies the attention weights (dropout). Softmax and bias
    are float32.

    Raises:
        ValueError: the backend is not known or cannot serve the call.

    """
    call = Call(
        device=base.traced_device(),
        dtype=str(qkv.dtype),
        tokens=qkv.shape[1],
        head_dim=qkv.shape[2] // 3 // bias.shape[0],
        heads=bias.shape[0],
        masked=masks is not None,
        training=training,
        dropout=keep is not None,
    )
    return choose(backend, call).backend.attend(qkv, bias, masks, keep)


def choose(backend: str, call: Call) -> Choice:
    """Finds the backend for a call: the one that is asked for, or the first that can serve it.

    Raises:
        ValueError: the backend is not known or cannot serve the call.

    """
    table = TABLES.get(call.device.platform, (XLA,))
    if backend == "auto":
        refusals = [(one, one.supports(call) or one.passed_over(call)) for one in table]
        chosen = next(one for one, reason in refusals if reason is None)
        passed = refusals[: table.index(chosen)]
        reasons = [f"{one.name} passed over: {reason}" for one, reason in passed]
        return Choice(chosen, "; ".join(reasons) or f"first in the table of {call.device.platform}")
    if backend not in BACKENDS:
        raise ValueError(
            f"attention.backend={backend!r} is not known; use one of {', '.join(NAMES)}"
        )
    reason = BACKENDS[backend].supports(call)
    if reason:
        raise ValueError(f"attention.backend={backend!r} cannot serve: {reason}; use auto")
    return Choice(BACKENDS[backend], f"attention.backend={backend}")


def stage_calls(
    stages: Iterable[Stage],
    *,
    device: Device,
    dtype: str = "float32",
    training: bool = True,
    dropout: bool = False,
) -> list[Call]:
    """Lists the calls that a model makes, from the layout of its stages (`cost.layout`)."""
    return [
        Call(
            device=device,
            dtype=dtype,
            tokens=stage.window_tokens,
            head_dim=stage.channels // stage.heads,
            heads=stage.heads,
            masked=any(stage.shift),
            training=training,
            dropout=dropout,
        )
        for stage in stages
    ]


def explain(backend: str, calls: Sequence[Call]) -> list[str]:
    """Says which backend serves which calls and why, a line for every different answer.

    Raises:
        ValueError: the backend is not known or cannot serve a call.

    """
    groups: dict[tuple[str, str], list[Call]] = {}
    for call in calls:
        choice = choose(backend, call)
        groups.setdefault((choice.backend.name, choice.reason), []).append(call)
    return [
        f"attention {name} ({reason}): {_shapes(group)}" for (name, reason), group in groups.items()
    ]


def _shapes(calls: Sequence[Call]) -> str:
    shapes = [f"{call.tokens} tokens x {call.heads} heads of {call.head_dim}" for call in calls]
    return ", ".join(dict.fromkeys(shapes))
