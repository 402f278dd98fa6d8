"""Folders that torch.hub loads: our weights beside the model in plain PyTorch, no JAX."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omnivore_jax.core.files import new_folder
from omnivore_jax.weights.card import HUB_CARD

CODE = ("hubconf.py", "omnivore.py")
WEIGHTS, README = "weights.pt", "README.md"
FILES = (*CODE, WEIGHTS, HUB_CARD, README)

_README = """# {name} for PyTorch

One model for images, videos and single-view 3D (RGB-D); heads: {heads}.
It needs PyTorch 2.1 or newer and nothing else.

```python
model = torch.hub.load("{folder}", "{name}", source="local")  # the path of this folder
{use}
```

A picture is a uint8 tensor [h, w, 3], a clip one of [t, h, w, 3]; RGB-D is a picture and
`disparity=`, a float tensor [h, w, 1]. `model(x, head)` gives logits, `model.features(x)` the
pooled feature. To keep a changed model, save its `state_dict()`. `card.json` says what the weights
were made from, which inputs they expect, their licence, and how near the outputs come to those of
omnivore_jax.
"""
_USES = {
    "image": 'model.predict(model.preprocess(picture, head="{head}"), head="{head}")',
    "video": 'model.predict(model.preprocess(clip, head="{head}"), head="{head}")',
    "rgbd": 'model.predict(model.preprocess(picture, disparity, head="{head}"), head="{head}")',
    "": "model.features(x)  # x: a float tensor, normalised, [b, 3 or 4, t, h, w]",
}
"""By the modality of the first head; "": there is none."""


@contextmanager
def new_hub(folder: Path) -> Iterator[Path]:
    """Gives the draft of a folder for torch.hub (`source="local"`), with its code.

    The block writes the weights (`WEIGHTS`) and the texts (`write_texts`) into it. When it ends the
    folder comes about, whole or not at all; one that was written here is replaced.

    Raises:
        UserError: the destination is something else, or cannot be written.

    """
    with new_folder(folder, "torch.hub folder", _others) as draft:
        for file in CODE:
            shutil.copyfile(Path(__file__).with_name(file), draft / file)
        yield draft


def _others(names: set[str]) -> set[str]:
    """Names that are not ours; all of them where some of ours are missing."""
    return names - set(FILES) or (names if names != set(FILES) else set())


def write_texts(draft: Path, folder: str, card: Mapping[str, Any]) -> None:
    """Writes the card, whose model's name is the hub's, and the README of a folder."""
    (draft / HUB_CARD).write_text(json.dumps(card, indent=2) + "\n")
    (draft / README).write_text(_readme(folder, card))


def _readme(folder: str, card: Mapping[str, Any]) -> str:
    head = next(iter(card["heads"]), "")
    modality = card.get("inputs", {}).get(head, {}).get("modality", head)
    use = _USES.get(modality, _USES["image"]).format(head=head)
    heads = (
        ", ".join(f"{name} ({classes} classes)" for name, classes in card["heads"].items())
        or "none"
    )
    return _README.format(name=card["model"]["name"], heads=heads, folder=folder, use=use)
