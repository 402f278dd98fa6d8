"""Omnivore (Girdhar et al., CVPR 2022).

One vision transformer for images, videos and single-view 3D, in JAX and Flax.

    import omnivore_jax as ov
    model = ov.create_model("omnivore_swin_t", heads={"image": 1000, "video": 400, "rgbd": 19})
    logits = model(x, head="image")  # x float32 [b, t, h, w, 3 or 4], normalised

Everything is imported when it is first used: `import omnivore_jax` takes no time and touches no
device.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from omnivore_jax.model.compiled import create_model
    from omnivore_jax.model.variants import list_models
    from omnivore_jax.weights.load import load

__all__ = ["create_model", "list_models", "load"]

_HOMES = {
    "create_model": "omnivore_jax.model.compiled",
    "list_models": "omnivore_jax.model.variants",
    "load": "omnivore_jax.weights.load",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"omnivore_jax has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
