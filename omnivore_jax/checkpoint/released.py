"""Our weights as the released PyTorch code wants them: its names and layouts, its buffers, what it cannot say."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from omnivore_jax.checkpoint.conversion import Certify, Conversion, Request, new_weights, started
from omnivore_jax.checkpoint.layouts import EPIC_HEAD
from omnivore_jax.checkpoint.lazy import Lazy
from omnivore_jax.checkpoint.load import read_params
from omnivore_jax.checkpoint.torch_names import BUFFER, TABLE, to_torch
from omnivore_jax.model.position_bias import offset_rows
from omnivore_jax.model.variants import HUB_NAMES, VARIANTS, ModelConfig, model_config


def write_released(src: Path, dst: Path, request: Request, certify: Certify | None = None) -> Conversion:
    """Writes {"trunk", "heads"} as torch.save does, loaded strictly by the released code, and the card beside it.

    Raises:
        UserError: something is wrong with the file, the request or the destination, or PyTorch is missing.

    """
    from omnivore_jax.checkpoint.torch_file import write_torch

    with started(src, replace(request, position_bias="joint")) as job, new_weights(dst, job.card) as draft:
        write_torch(draft, released_state(job.plan.config, job.arrays))
        if certify:
            job.card["certificate"] = certify(job, read_params(job.arrays))
        job.card["certificate"]["differences"] = differences(job.plan.config)
    return job


def write_hub_folder(src: Path, dst: Path, request: Request, certify: Certify | None = None) -> Conversion:
    """Writes a folder that `torch.hub.load(DST, name, source="local")` opens without anything of ours installed.

    Raises:
        UserError: something is wrong with the file, the request or the destination, or PyTorch is missing.

    """
    from omnivore_jax.checkpoint.hub import write_hub

    with started(src, request) as job:
        params = read_params(job.arrays)
        if certify:
            job.card["certificate"] = certify(job, params)
        write_hub(dst, params, job.card)
    return job


def released_state(config: ModelConfig, arrays: Mapping[str, Lazy]) -> dict[str, dict[str, np.ndarray]]:
    """The two dicts of a released file, from the parameters of a model with joint tables."""
    state: dict[str, dict[str, np.ndarray]] = {"trunk": {}, "heads": {}}
    rows = offset_rows(config.window, config.window).astype(np.int64)
    only_epic = {path.split(".")[1] for path in arrays if path.startswith("heads.")} == {EPIC_HEAD}
    for path, array in arrays.items():
        name, content = to_torch(path, array.read())
        part, _, key = name.partition(".")
        if part == "heads" and only_epic:  # the released EPIC model has a single head, behind a dropout
            key = key.replace(EPIC_HEAD, "1", 1)
        state[part][key] = content
        if key.endswith(TABLE):
            state[part][key.replace(TABLE, BUFFER)] = rows
    return state


def differences(config: ModelConfig) -> list[str]:
    """Says where the released code, given these weights, would compute something else or needs to be told something."""
    lines = []
    if config.window_index == "geometric":
        lines.append(
            "window_index=geometric: outputs differ where the input clamps a window along its width, or its height "
            f"in more than one frame (maps of a stage below {config.window[1]} x {config.window[2]} tokens)"
        )
    if config.depth_embed in ("separate", "shared"):
        lines.append(f"depth_embed={config.depth_embed}: four channels need the released code's depth_mode of Table 8")
    hub = {variant for variant, _ in HUB_NAMES.values()}
    usual = model_config(config.name) if config.name in VARIANTS else None
    if config.name not in hub or usual is None or config.window != usual.window:
        sizes = {key: getattr(config, key) for key in ("embed_dim", "depths", "num_heads", "window", "patch")}
        lines.append(f"no hub name builds this model; give its constructor {sizes}")
    return lines
