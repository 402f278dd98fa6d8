"""Folders that torch.hub loads: our weights with a PyTorch implementation of the model beside them, no JAX."""

import copy
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from omnivore_jax.checkpoint.bias_forms import joint_table
from omnivore_jax.checkpoint.output import check_output
from omnivore_jax.checkpoint.torch_names import TABLE, layout, torch_name
from omnivore_jax.core.command import UserError
from omnivore_jax.core.tree import flatten

CODE = ("hubconf.py", "omnivore.py")
WEIGHTS, CARD, README = "weights.pt", "card.json", "README.md"
FILES = (*CODE, WEIGHTS, CARD, README)
_AXES = {"same": None, "linear": (1, 0), "convolution": (4, 3, 0, 1, 2)}
"""How to transpose ours to PyTorch's."""

_README = """# {name} for PyTorch

One model for images, videos and single-view 3D (RGB-D); heads: {heads}. It needs PyTorch 2.1 or newer and nothing else.

```python
model = torch.hub.load("{folder}", "{name}", source="local")  # the path of this folder
{use}
```

A picture is a uint8 tensor [h, w, 3], a clip one of [t, h, w, 3]; RGB-D is a picture and `disparity=`, a float tensor
[h, w, 1]. `model(x, head)` gives logits, `model.features(x)` the pooled feature. `card.json` says what the weights were
made from, which inputs they expect, their licence, and how near the outputs come to those of omnivore_jax.
"""
_USES = {
    "image": 'model.predict(model.preprocess(picture, head="{head}"), head="{head}")',
    "video": 'model.predict(model.preprocess(clip, head="{head}"), head="{head}")',
    "rgbd": 'model.predict(model.preprocess(picture, disparity, head="{head}"), head="{head}")',
    "": "model.features(x)  # x: a float tensor, normalised, [b, 3 or 4, t, h, w]",
}
"""By the modality of the first head; "": there is none."""


def write_hub(folder: Path, params: Mapping[str, Any], card: Mapping[str, Any]) -> None:
    """Writes a folder for `torch.hub.load(folder, card["model"]["name"], source="local")`, whole or not at all.

    A folder that this function wrote is replaced. The factored bias is written as its exact joint table.

    Raises:
        UserError: the destination is something else, or cannot be written; or PyTorch is missing.

    """
    from omnivore_jax.checkpoint.torch_file import write_torch

    _check(folder)
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        draft.mkdir()
        for file in CODE:
            shutil.copyfile(Path(__file__).with_name(file), draft / file)
        write_torch(draft / WEIGHTS, torch_state(params))
        written = copy.deepcopy(dict(card))
        written["model"]["position_bias"] = "joint"
        (draft / CARD).write_text(json.dumps(written, indent=2) + "\n")
        (draft / README).write_text(_readme(folder.name, card))
        _sync(draft)
        _publish(draft, folder)
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error.strerror or error}; make room or name another") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def torch_state(params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A state dict by released name, float32, as transposed views; the factored bias becomes its exact joint table."""
    flat = {path: np.asarray(leaf, np.float32) for path, leaf in flatten(params).items()}
    state = {}
    for path, leaf in flat.items():
        base, _, part = path.rpartition(".")
        if base.endswith(TABLE) and part == "spatial":
            state[torch_name(f"{base}.joint")] = joint_table(leaf, flat[f"{base}.temporal"])
        elif not (base.endswith(TABLE) and part == "temporal"):
            state[torch_name(path)] = leaf.transpose(_AXES[layout(path, leaf.ndim)] or range(leaf.ndim))
    return state


def _check(folder: Path) -> None:
    """Refuses what is not a folder of ours, and places that `check_output` refuses."""
    if not folder.is_dir():
        check_output(folder)
        if folder.exists():
            raise UserError(f"{folder} is a file; name a folder")
        return
    check_output(folder / WEIGHTS)
    found = {path.name for path in folder.iterdir()} - {"__pycache__"}
    if found not in (set(), set(FILES)):
        other = min(found - set(FILES), default=min(found))
        raise UserError(f"{folder} is no torch.hub folder of ours (it holds {other}); choose another")


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with path.open("rb+") as file:
            os.fsync(file.fileno())


def _publish(draft: Path, folder: Path) -> None:
    """Moves a draft to its place; an older folder goes when the new one is there."""
    if not folder.is_dir():
        draft.replace(folder)
        return
    old = draft.with_suffix(".old")
    folder.replace(old)
    try:
        draft.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old)


def _readme(folder: str, card: Mapping[str, Any]) -> str:
    head = next(iter(card["heads"]), "")
    modality = card.get("inputs", {}).get(head, {}).get("modality", head)
    use = _USES.get(modality, _USES["image"]).format(head=head)
    heads = ", ".join(f"{name} ({classes} classes)" for name, classes in card["heads"].items()) or "none"
    return _README.format(name=card["model"]["name"], heads=heads, folder=folder, use=use)
