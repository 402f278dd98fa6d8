"""What is in a file of weights or a run: model, heads, preprocessing, hashes, numbers that are none."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from omnivore_jax.checkpoint.lazy import Lazy
from omnivore_jax.checkpoint.source import Source
from omnivore_jax.checkpoint.weights import sha256


def inspect(source: Source) -> dict[str, Any]:
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
        "model": asdict(source.config),
        "heads": source.heads,
        "classes": {head: len(names) for head, names in card.get("classes", {}).items()},
        "preprocessing": card.get("preprocessing", {}),
        "sha256": sha256(source.path) if source.path.is_file() else None,
        "weights_sha256": digest,
        "not_finite": bad,
        "buffers": len(source.buffers),
        "training": len(source.training),
        "unknown": source.unknown[:20],
        "card": dict(card),
    }


def _read_all(arrays: Mapping[str, Lazy]) -> tuple[str, dict[str, int]]:
    """A digest of the values in our names and layout, the same whatever file holds them; and what is not finite."""
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


def text(found: Mapping[str, Any]) -> str:
    """The same for people."""
    model = found["model"]
    lines = {
        "layout": found["layout"],
        "model": f"{found['variant']}, window {tuple(model['window'])}, {model['position_bias']} position bias, "
        f"{model['window_index']} window index, depth {model['depth_embed']}",
        "parameters": f"{found['parameters']:,} in {found['tensors']} tensors, {', '.join(found['dtypes'])}",
        "heads": ", ".join(f"{name} ({n} classes)" for name, n in found["heads"].items()) or "none",
        "class names": ", ".join(found["classes"]) or "none",
        "mean, std": "; ".join(f"{h}: {p['mean']}, {p['std']}" for h, p in found["preprocessing"].items())
        or "not said",
        "licence": found["card"].get("licence") or "not said",
        "source": found["card"].get("source", {}).get("file", "not said"),
        "certificate": found["card"].get("certificate", {}).get("status", "none"),
        "sha256": found["sha256"] or "a folder",
        "of the values": found["weights_sha256"],
        "not finite": ", ".join(f"{path}: {n}" for path, n in found["not_finite"].items()) or "none",
        "not understood": ", ".join(found["unknown"]) or "none",
    }
    return "\n".join([str(found["file"]), *(f"  {key:<14} {value}" for key, value in lines.items())])
