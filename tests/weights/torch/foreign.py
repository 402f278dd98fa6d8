"""Models of other libraries, as oracles; torchvision's compiled operators are declared."""

import re
import warnings
from importlib import import_module, util
from pathlib import Path

import torch

_LIBRARY = []
"""Held, for an operator is forgotten with the library that declares it."""


def torchvision_models():
    """Imports torchvision.models, whose compiled operators do not load on a CPU build.

    They are declared instead.
    """
    if not _LIBRARY:
        source = (
            Path(util.find_spec("torchvision").origin)
            .with_name("_meta_registrations.py")
            .read_text()
        )
        names = re.findall(r'register_meta\("(\w+)"\)', source) + re.findall(
            r'"torchvision::(\w+)"', source
        )
        _LIBRARY.append(torch.library.Library("torchvision", "DEF"))
        for name in dict.fromkeys(names):
            _LIBRARY[0].define(f"{name}(Tensor x) -> Tensor")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("torchvision.models")


def randomised(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Moves parameters away from what initialisation gives: norms, biases and tables count."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = (
                0.5
                if name.endswith("table")
                else 0.1
                if parameter.ndim == 1
                else parameter[0].numel() ** -0.5
            )
            parameter.copy_((parameter if parameter.ndim == 1 else 0) + scale * noise)
    return model.eval()
