"""Entry of an Omnivore folder: torch.hub.load(FOLDER, NAME, source="local").

The file card.json gives the name.
"""

import hashlib
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch  # pyright: ignore[reportMissingImports]

dependencies = ["torch"]
_FOLDER = Path(__file__).resolve().parent
_CARD = json.loads((_FOLDER / "card.json").read_text())


def _module():
    """Imports omnivore.py once, under a name of this folder's.

    Others may hold another version of it.
    """
    code = _FOLDER / "omnivore.py"
    name = f"_omnivore_hub_{hashlib.sha256(code.read_bytes()).hexdigest()[:16]}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, code)
        module = module_from_spec(spec)  # pyright: ignore[reportArgumentType]
        spec.loader.exec_module(module)  # pyright: ignore[reportOptionalMemberAccess]
        sys.modules[name] = module
    return sys.modules[name]


def _load(pretrained: bool = True):
    """Makes Omnivore, ready for inference: see README.md.

    `pretrained=False` leaves PyTorch's random parameters.
    """
    model = _module().Omnivore(_CARD)
    if pretrained:
        model.load_state_dict(
            torch.load(_FOLDER / "weights.pt", map_location="cpu", weights_only=True)
        )
    return model.eval()


globals()[_CARD["model"]["name"]] = _load
