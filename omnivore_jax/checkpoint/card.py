"""What a checkpoint says about the model in it: enough to build it, feed it and read its answers."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from omnivore_jax import config as builder
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.model.variants import ModelConfig


def make_card(model: ModelConfig, heads: Mapping[str, int], preprocessing: Mapping[str, Preprocessing]) -> dict[str, Any]:
    """Describes a model as plain JSON; `preprocessing` is by head."""
    return {
        "model": dataclasses.asdict(model),
        "heads": dict(heads),
        "preprocessing": {head: dataclasses.asdict(spec) for head, spec in preprocessing.items()},
    }


def read_card(card: Mapping[str, Any]) -> tuple[ModelConfig, dict[str, int], dict[str, Preprocessing]]:
    """Undoes `make_card`."""
    specs = {head: builder.build(Preprocessing, spec, head) for head, spec in card["preprocessing"].items()}
    return builder.build(ModelConfig, card["model"], "model"), dict(card["heads"]), specs
