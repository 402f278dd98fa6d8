"""What is in a file of weights or a run: model, heads, preprocessing, hashes, bad numbers."""

import hashlib
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import sha256
from omnivore_jax.core.tree import flatten
from omnivore_jax.data.protocol import Protocol
from omnivore_jax.model.heads import spec_to_json
from omnivore_jax.model.params import abstract_model
from omnivore_jax.weights.card import model_json, protocols_of
from omnivore_jax.weights.lazy import LazyArray
from omnivore_jax.weights.load import check_shapes
from omnivore_jax.weights.opening import WeightsFile
from omnivore_jax.weights.provenance import licence_of

MAX_UNKNOWN = 20
"""Keys that nobody knows, of which a description names this many."""


def inspect(source: WeightsFile) -> dict[str, Any]:
    """Reads all of a source and describes it as plain JSON."""
    card: Mapping[str, Any] = source.card or {}
    digest, bad = _read_all(source.arrays)
    return {
        "file": str(source.path),
        "layout": source.layout,
        "variant": source.config.name,
        "parameters": sum(math.prod(array.shape) for array in source.arrays.values()),
        "tensors": len(source.arrays),
        "dtypes": sorted({array.dtype for array in source.arrays.values()}),
        "model": model_json(source.config),
        "heads": {name: spec_to_json(spec) for name, spec in source.heads.items()},
        "classes": {head: len(names) for head, names in card.get("classes", {}).items()},
        "preprocessing": card.get("preprocessing", {}),
        "protocols": {head: p.to_json() for head, p in protocols_of(card).items()},
        "licence": card.get("licence", "") if card else licence_of(source.layout),
        "sha256": sha256(source.path) if source.path.is_file() else None,
        "weights_sha256": digest,
        "not_finite": bad,
        "buffers": len(source.buffers),
        "training": len(source.training),
        "others": len(source.others),
        "unknown": source.unknown[:MAX_UNKNOWN],
        "unknown_count": len(source.unknown),
        "fits": _fits(source),
        "card": dict(card),
    }


def _fits(source: WeightsFile) -> str | None:
    """What of the tensors is not as the model wants it; None where all is."""
    try:
        check_shapes(source, flatten(abstract_model(source.config, source.heads)[1]))
    except (UserError, ValueError) as error:
        return str(error)
    return None


def _read_all(arrays: Mapping[str, LazyArray]) -> tuple[str, dict[str, int]]:
    """Digests the values in our names and layout, whatever file holds them, and counts bad ones.

    Returns the digest, and by path the numbers of values that are NaN or infinity.
    """
    total, bad = hashlib.sha256(), {}
    for path in sorted(arrays):
        content = np.ascontiguousarray(arrays[path].read())
        if "float" in arrays[path].dtype:
            content = content.astype(np.float32)
            wrong = content.size - int(np.isfinite(content).sum())
            bad |= {path: wrong} if wrong else {}
        total.update(f"{path} {content.dtype} {content.shape}\n".encode())
        total.update(content.data)
    return total.hexdigest(), bad


def text(content: Mapping[str, Any]) -> str:
    """The same for people."""
    model, card = content["model"], content["card"]
    statistics = [f"{h}: {p['mean']}, {p['std']}" for h, p in content["preprocessing"].items()]
    bad = [f"{path}: {n}" for path, n in content["not_finite"].items()]
    lines = {
        "layout": content["layout"],
        "model": f"{content['variant']}, window {tuple(model['window'])}, "
        f"{model['position_bias']} position bias, {model['window_index']} window index, "
        f"depth {model['depth_embed']}",
        "parameters": f"{content['parameters']:,} in {content['tensors']} tensors, "
        f"{', '.join(content['dtypes'])}",
        "heads": ", ".join(_head(*item) for item in content["heads"].items()) or "none",
        "class names": ", ".join(content["classes"]) or "none",
        "mean, std": "; ".join(statistics) or "not said",
        **{f"view of {head}": view for head, view in _views(content["protocols"]).items()},
        "licence": content["licence"] or "not said",
        "source": card.get("source", {}).get("file", "not said"),
        "certificate": card.get("certificate", {}).get("status", "none"),
        "sha256": content["sha256"] or "a folder",
        "of the values": content["weights_sha256"],
        "not finite": ", ".join(bad) or "none",
        "not understood": _some(content["unknown"], content["unknown_count"]) or "none",
    } | ({"but": content["fits"]} if content["fits"] else {})
    return "\n".join(
        [str(content["file"]), *(f"  {key:<14} {value}" for key, value in lines.items())]
    )


def _head(name: str, spec: Any) -> str:
    return f"{name} ({spec['kind'] if isinstance(spec, Mapping) else f'{spec} classes'})"


def _views(protocols: Mapping[str, Any]) -> dict[str, str]:
    return {head: Protocol.from_json(spec).describe() for head, spec in protocols.items()}


def _some(listed: list[str], count: int) -> str:
    return ", ".join(listed) + (f" and {count - len(listed):,} more" if count > len(listed) else "")
