"""Entry of an Omnivore folder for torch.hub, torch.hub.load(FOLDER, NAME, source="local"); card.json gives the name."""

import json
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import torch  # pyright: ignore[reportMissingImports]

dependencies = ["torch"]
_FOLDER = Path(__file__).resolve().parent
_CARD = json.loads((_FOLDER / "card.json").read_text())


def _module():
    """Imports omnivore.py under a name of its own: another package may be called omnivore."""
    loader = SourceFileLoader("_omnivore_hub", str(_FOLDER / "omnivore.py"))
    module = ModuleType(loader.name)
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


def _load(pretrained: bool = True):
    """Omnivore, ready for inference: see README.md; pretrained=False leaves PyTorch's random parameters."""
    model = _module().Omnivore(_CARD)
    if pretrained:
        model.load_state_dict(torch.load(_FOLDER / "weights.pt", map_location="cpu", weights_only=True))
    return model.eval()


globals()[_CARD["model"]["name"]] = _load
