"""Which of two equal ways of writing a few operations the compiler is given.

The one switch for the platform's sake.

XLA on a CPU is slow at some forms that are natural elsewhere (sums over a leading axis, the
transpose in a weight's gradient). `cpu` writes them otherwise, with gradients by hand; `plain`
leaves all to automatic differentiation. They differ by rounding alone.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

import jax

Forms = Literal["auto", "cpu", "plain"]
_forms: ContextVar[Forms] = ContextVar("forms", default="auto")


def cpu_forms() -> bool:
    """Says whether what is being traced now gets the forms for a CPU.

    `auto` asks the mesh, else the default device.
    """
    forms = _forms.get()
    if forms != "auto":
        return forms == "cpu"
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    return (device.platform if device is not None else jax.default_backend()) == "cpu"


@contextmanager
def use_forms(forms: Forms) -> Iterator[None]:
    """Sets the switch for what is traced inside.

    A function that `jax.jit` has compiled keeps the forms it has.
    """
    token = _forms.set(forms)
    try:
        yield
    finally:
        _forms.reset(token)
