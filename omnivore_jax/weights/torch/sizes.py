"""What kind of Swin a state dict is: sizes read from the shapes of its parameters."""

import math
import re
from collections.abc import Mapping
from dataclasses import replace

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.types import Size
from omnivore_jax.model.config import DepthEmbed, ModelConfig
from omnivore_jax.model.variants import VARIANTS, model_config
from omnivore_jax.weights.torch.names import BUFFER, TABLE

Shapes = Mapping[str, tuple[int, ...]]
DEPTH_KINDS: dict[int, DepthEmbed] = {1: "summed", 4: "separate"}
"""By the channels of the embedding of its own that depth has."""
MAX_STAGES, MAX_BLOCKS = 8, 256
"""Of a file and of one of its stages; what has more is no Swin."""


def read_config(
    shapes: Shapes,
    where: str,
    variant: str | None = None,
    tokens: int | None = None,
    window: Size | None = None,
) -> ModelConfig:
    """Tells the model from shapes by released name.

    A 2-D Swin is one whose window and patch are 1 long in time.

    `tokens`: of a window, from its index buffer where there is one. `variant`: what the user says
    that it is. `window`: what the user says of the file, which decides where the tables fit several
    or none that is square.

    Raises:
        UserError: a parameter that tells a size is missing, or the file is not of that variant.

    """
    patches = _shape(shapes, "trunk.patch_embed.proj.weight", where)
    if len(patches) not in (4, 5) or patches[1] != 3:
        raise UserError(
            f"{where}: trunk.patch_embed.proj.weight is {list(patches)}; it should take 3 channels"
        )
    patch = (1, *patches[2:]) if len(patches) == 4 else patches[2:]
    blocks = _blocks(shapes, where)
    tables = [
        _shape(shapes, f"trunk.layers.{i}.blocks.0.attn.{TABLE}", where) for i in range(len(blocks))
    ]
    hidden = _shape(shapes, "trunk.layers.0.blocks.0.mlp.fc1.weight", where)
    sizes = {
        "embed_dim": patches[0],
        "depths": blocks,
        "num_heads": tuple(table[1] for table in tables),
    }
    known = _variant_of(sizes)
    fits = _windows(tables[0][0], len(patches) == 4, tokens, where, window)
    try:
        config = ModelConfig(
            name=known or "custom",
            window=_likely(fits, known, where, window),
            patch=patch,  # pyright: ignore[reportArgumentType]
            mlp_ratio=hidden[0] // hidden[1],
            position_bias="joint",
            window_index="released",
            depth_embed=_depth_embed(shapes),
            **sizes,
        )
    except (ValueError, ArithmeticError) as error:
        raise UserError(
            f"{where} has shapes that are of no Swin ({error}); get it again"
        ) from error
    return check_variant(config, variant, where)


def _variant_of(sizes: Mapping[str, object]) -> str | None:
    """The name of the variant of these sizes."""
    for name, fields in VARIANTS.items():
        if {key: fields[key] for key in sizes} == sizes:
            return name
    return None


def _likely(fits: list[Size], known: str | None, where: str, asked: Size | None) -> Size:
    """Chooses a window: the one that the user names, else that of the variant, else the only one.

    Raises:
        UserError: there are several.

    """
    usual = VARIANTS[known]["window"] if known else None
    for window in (asked, usual):
        if window in fits:
            return window
    if len(fits) > 1:
        raise UserError(
            f"{where}: its tables fit the windows {', '.join(map(str, fits))}; name the right one "
            "by --source-window"
        )
    return fits[0]


def check_variant(config: ModelConfig, variant: str | None, where: str) -> ModelConfig:
    """Gives a model the name of the variant that the user says it is.

    Raises:
        UserError: its sizes are others.

    """
    if variant is None:
        return config
    try:
        wanted = model_config(variant)
    except ValueError as error:
        raise UserError(f"--variant: {error}") from error
    for key in ("embed_dim", "depths", "num_heads", "mlp_ratio"):
        if getattr(wanted, key) != getattr(config, key):
            raise UserError(
                f"--variant={variant} has {key}={getattr(wanted, key)}, but {where} has "
                f"{getattr(config, key)}; "
                f"it is a {config.name}"
            )
    return replace(config, name=wanted.name)


def _shape(shapes: Shapes, name: str, where: str) -> tuple[int, ...]:
    if name not in shapes or len(shapes[name]) < 2:
        raise UserError(
            f"{where}: {name} is missing or no table, so its sizes cannot be told; get the file "
            "again"
        )
    return shapes[name]


def _blocks(shapes: Shapes, where: str) -> tuple[int, ...]:
    """Number of blocks of each stage."""
    found: dict[int, int] = {}
    for name in shapes:
        if match := re.match(r"^trunk\.layers\.(\d{1,4})\.blocks\.(\d{1,4})\.", name):
            found[int(match[1])] = max(found.get(int(match[1]), 0), int(match[2]) + 1)
    if not found or sorted(found) != list(range(len(found))):
        raise UserError(
            f"{where} has blocks of stages {sorted(found)}; stages from 0 on are expected"
        )
    if len(found) > MAX_STAGES or max(found.values()) > MAX_BLOCKS:
        raise UserError(
            f"{where} has {len(found)} stages of up to {max(found.values())} blocks; this is no "
            "Swin"
        )
    return tuple(found[i] for i in range(len(found)))


def _windows(
    rows: int, flat: bool, tokens: int | None, where: str, wanted: Size | None
) -> list[Size]:
    """Lists the windows whose table has so many rows: those square in space, and the named one."""
    sides = [
        side
        for side in range(1, math.isqrt(rows) + 1, 2)
        if rows % side**2 == 0 and rows // side**2 % 2
    ]
    fits = [((rows // side**2 + 1) // 2, (side + 1) // 2, (side + 1) // 2) for side in sides]
    if wanted and wanted not in fits and math.prod(2 * side - 1 for side in wanted) == rows:
        fits.append(wanted)
    fits = [window for window in fits if not flat or window[0] == 1]
    fits = [window for window in fits if tokens in (None, math.prod(window))]
    if not fits:
        raise UserError(
            f"{where}: a table of {rows} relative positions is of no square window; name it by "
            "--source-window"
        )
    return [window for window in fits if window[1] > 1] or fits


def _depth_embed(shapes: Shapes) -> DepthEmbed:
    if any(name.startswith("trunk.patch_embed.var_proj.") for name in shapes):
        return "shared"
    own = shapes.get("trunk.depth_patch_embed.proj.weight")
    if own is None:
        return (
            "summed"
            if any(name.startswith("trunk.depth_patch_embed.") for name in shapes)
            else "none"
        )
    return DEPTH_KINDS.get(own[1] if len(own) == 5 else 0, "summed")


def window_tokens(shapes: Shapes) -> int | None:
    """Tokens of a window, from the shape of an index buffer: [n, n], or n * n where it is flat."""
    for key, shape in shapes.items():
        if key.rpartition(".")[2] == BUFFER and shape and shape[0] > 0:
            return shape[0] if len(shape) == 2 else math.isqrt(shape[0])
    return None
