"""What Hugging Face transformers and MMPretrain call the parameters of a 2-D Swin's trunk."""

import re
from collections.abc import Callable

from omnivore_jax.weights.torch.names import TABLE


def renamer(*rules: tuple[str, str]) -> Callable[[str], str]:
    """Applies the first rule whose pattern fits a whole key; others stay, and are then unknown."""

    def rename(key: str) -> str:
        for pattern, new in rules:
            match = re.fullmatch(pattern, key)
            if match:
                return match.expand(new)
        return key

    return rename


_BLOCK = r"layers\.(\d+)\.blocks\.(\d+)\."
_LEAF = r"(weight|bias)"
_OURS = r"layers.\1.blocks.\2."
_PARTS = {"query": 0, "key": 1, "value": 2, "q_proj": 0, "k_proj": 1, "v_proj": 2}
"""Order of the rows of a joined projection."""
_SPLIT = rf"encoder\.{_BLOCK}attention\.(?:self\.(query|key|value)|([qkv]_proj))\.{_LEAF}"

from_transformers = renamer(
    (rf"embeddings\.patch_embeddings\.projection\.{_LEAF}", r"patch_embed.proj.\1"),
    (rf"embeddings\.norm\.{_LEAF}", r"patch_embed.norm.\1"),
    (rf"layernorm\.{_LEAF}", r"norm.\1"),
    (
        rf"encoder\.{_BLOCK}attention\.(?:self|relative_position_bias)\.({TABLE})",
        _OURS + r"attn.\3",
    ),
    (rf"encoder\.{_BLOCK}attention\.(?:output\.dense|o_proj)\.{_LEAF}", _OURS + r"attn.proj.\3"),
    (_SPLIT, _OURS + r"attn.qkv.\5"),
    (rf"encoder\.{_BLOCK}layernorm_before\.{_LEAF}", _OURS + r"norm1.\3"),
    (rf"encoder\.{_BLOCK}layernorm_after\.{_LEAF}", _OURS + r"norm2.\3"),
    (rf"encoder\.{_BLOCK}(?:intermediate\.dense|mlp\.fc1)\.{_LEAF}", _OURS + r"mlp.fc1.\3"),
    (rf"encoder\.{_BLOCK}(?:output\.dense|mlp\.fc2)\.{_LEAF}", _OURS + r"mlp.fc2.\3"),
    (
        rf"encoder\.layers\.(\d+)\.downsample\.(norm|reduction)\.{_LEAF}",
        r"layers.\1.downsample.\2.\3",
    ),
)
"""Of SwinModel, as its files have it, and as models of version 5 name it in memory (`q_proj`)."""


def from_mmpretrain(last: int) -> Callable[[str], str]:
    """Renames what SwinTransformer has; the norm after stage `last` is the model's."""
    block = r"stages\.(\d+)\.blocks\.(\d+)\."
    return renamer(
        (rf"patch_embed\.projection\.{_LEAF}", r"patch_embed.proj.\1"),
        (rf"patch_embed\.norm\.{_LEAF}", r"patch_embed.norm.\1"),
        (rf"norm{last}\.{_LEAF}", r"norm.\1"),
        (rf"{block}(norm1|norm2)\.{_LEAF}", _OURS + r"\3.\4"),
        (rf"{block}attn\.w_msa\.({TABLE})", _OURS + r"attn.\3"),
        (rf"{block}attn\.w_msa\.(qkv|proj)\.{_LEAF}", _OURS + r"attn.\3.\4"),
        (rf"{block}ffn\.layers\.0\.0\.{_LEAF}", _OURS + r"mlp.fc1.\3"),
        (rf"{block}ffn\.layers\.1\.{_LEAF}", _OURS + r"mlp.fc2.\3"),
        (
            rf"stages\.(\d+)\.downsample\.(norm|reduction)\.{_LEAF}",
            r"layers.\1.downsample.\2.\3",
        ),
    )


def third_of(key: str) -> int | None:
    """Says which third of a joined projection a key of SwinModel holds, or None."""
    match = re.fullmatch(_SPLIT, key)
    return None if match is None else _PARTS[match[3] or match[4]]
