"""Where a training run begins: weights of a file or of another run, fitted to its model."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.tree import unflatten
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads
from omnivore_jax.model.params import Params
from omnivore_jax.weights.accounts import check_accounted
from omnivore_jax.weights.fit import Head, Plan, count_bad, make_plan, not_finite_error
from omnivore_jax.weights.opening import open_weights

MAY_BE_FRESH = ("heads.*", "trunk.depth_patch_embed.*", "trunk.patch_embed.var_proj.*")
"""What other people's weights need not have: heads for our datasets, an embedding for depth."""
CONVERT = " (first, python -m omnivore_jax.convert from-torch {} DST.safetensors takes these flags)"


def plan_initial(
    path: str | Path,
    config: ModelConfig,
    heads: Heads,
    *,
    position_bias: Literal["auto", "factored", "joint"] = "auto",
    seed: int = 0,
) -> Plan:
    """Opens the weights to start from and plans what is taken; reads none yet.

    They are a file of ours or PyTorch's, or a run's folder (its EMA). The plan's model has the
    position bias and the window index of the file, its rows say what becomes of every tensor
    (`accounts.lines`). Heads are taken where name and kind agree, else fresh; so is an embedding
    for depth that the file lacks. A 2-D trunk is inflated, another window resized.
    `position_bias`: "auto" follows the file; "joint" makes it joint, which is exact.

    Raises:
        UserError: the file cannot be used, lacks anything else, or has something that would be
        lost.

    """
    try:
        source = open_weights(path, source_window=config.window)
        bias = source.config.position_bias if position_bias == "auto" else position_bias
        config = replace(config, position_bias=bias, window_index=source.config.window_index)
        chosen = {
            name: Head(spec, name if source.heads.get(name) == spec else None)
            for name, spec in heads.items()
        }
        plan = make_plan(source, config, chosen, seed=seed)
        others = tuple(
            source.names[p] for p in source.arrays if p.startswith(_optional(source.config, config))
        )
        check_accounted(plan.rows, source.path, MAY_BE_FRESH, others)
    except UserError as error:
        remedy = CONVERT.format(path) if "--" in str(error) else ""
        raise UserError(f"init_from: {error}{remedy}") from error
    return plan


def read_initial(plan: Plan) -> Params:
    """Reads what was planned: parameters of numpy, nested.

    Raises:
        UserError: a tensor is damaged or not finite.

    """
    params = {}
    for path, array in plan.arrays.items():
        params[path] = array.read()
        bad = count_bad(params[path])
        if bad:
            raise UserError(not_finite_error(plan, path, bad))
    return unflatten(params)


def _optional(file: ModelConfig, config: ModelConfig) -> tuple[str, ...]:
    """Lists what a model may leave out: heads, and what embeds depth in another way than it."""
    depth = ("trunk.depth_patch_embed.", "trunk.patch_embed.var_proj.")
    return ("heads.", *(depth if config.depth_embed != file.depth_embed else ()))
