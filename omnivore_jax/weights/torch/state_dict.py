"""State dicts of PyTorch from our parameters, flat or as the two dicts of a released file."""

from collections.abc import Iterable, Mapping

import numpy as np

from omnivore_jax.core.types import Size
from omnivore_jax.model.position_bias import offset_rows
from omnivore_jax.weights.bias_forms import joint_table
from omnivore_jax.weights.lazy import LazyArray
from omnivore_jax.weights.torch.layouts import EPIC_HEAD
from omnivore_jax.weights.torch.names import BUFFER, TABLE, to_torch

State = Mapping[str, np.ndarray]
"""By released name ("trunk...", "heads..."), in PyTorch's layout."""


def torch_state(arrays: Mapping[str, LazyArray]) -> dict[str, np.ndarray]:
    """Reads parameters by path into a state dict; a factored bias becomes its exact joint table."""
    state = {}
    for path, array in arrays.items():
        base, _, part = path.rpartition(".")
        if base.endswith(TABLE) and part == "temporal":
            continue  # comes with the spatial table
        content = array.read()
        if base.endswith(TABLE) and part == "spatial":
            path, content = f"{base}.joint", joint_table(content, arrays[f"{base}.temporal"].read())
        name, state_array = to_torch(path, content)
        state[name] = state_array
    return state


def is_epic(state: Iterable[str]) -> bool:
    """Says whether names are those of the released EPIC model: one nameless head, no depth."""
    names = list(state)
    heads = {name.split(".")[1] for name in names if name.startswith("heads.")}
    return heads == {EPIC_HEAD} and not any(
        name.startswith("trunk.depth_patch_embed.") for name in names
    )


def released_state(state: State, window: Size) -> dict[str, dict[str, np.ndarray]]:
    """Makes the two dicts of a released file, index buffers included, of a state dict."""
    parts: dict[str, dict[str, np.ndarray]] = {"trunk": {}, "heads": {}}
    rows = offset_rows(window, window).astype(np.int64)
    epic = is_epic(state)
    for name, content in state.items():
        part, _, key = name.partition(".")
        if part == "heads" and epic:  # behind a dropout
            key = key.replace(EPIC_HEAD, "1", 1)
        parts[part][key] = content
        if key.endswith(TABLE):
            parts[part][key.replace(TABLE, BUFFER)] = rows
    return parts
