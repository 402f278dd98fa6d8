"""Omnivore in plain PyTorch: a Swin transformer that classifies images, clips and RGB-D.

Paper: Girdhar et al., CVPR 2022 (arXiv 2201.08377). Needs nothing but torch. For inference: there
is no dropout and no stochastic depth, so that training and evaluation mode compute the same.
Parameters have the names of the released checkpoints ("trunk...", "heads..."), which load as they
are.

Inputs are float, normalised, [b, c, t, h, w] of any size, c = 3 (RGB) or 4 (RGB and disparity);
`Omnivore.preprocess` makes them from bytes. Inside, channels are last.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import Tensor, nn  # pyright: ignore[reportMissingImports]

Size = tuple[int, int, int]
"""Extent along (t, h, w)."""

FORBIDDEN = -100.0
"""Added to the logit of two tokens of a window that are no neighbours on the map."""
DISPARITY_MIN = 0.01
TABLE_INDEX = "relative_position_index"
"""Ends the names of buffers in released files; here the index is computed."""


class Omnivore(nn.Module):
    """The model of a card, which holds its sizes and the classes of every head."""

    def __init__(self, card: Mapping[str, Any]):
        super().__init__()
        self.card = dict(card)
        self.trunk = Trunk(card["model"])
        width = self.trunk.norm.normalized_shape[0]
        heads = card["heads"].items()
        self.heads = Heads({name: _head(name, width, classes) for name, classes in heads})

    def forward(self, x: Tensor, head: str = "image") -> Tensor:
        """Scores the classes of one head, [b, classes].

        An input without a time axis is a batch of images.
        """
        self._check(head)
        return self.heads[head](self.features(x))

    def features(self, x: Tensor, stages: Sequence[str] | None = None) -> Any:
        """Gives the pooled feature [b, c], or a dict of the maps [b, c, t, h, w] of `stages`.

        last       after the last stage and the final norm
        stageK     after stage K (from 0), its merging and the final norm; the last two stages only
        interimK   after stage K and its merging
        premergeK  after the blocks of stage K, before its merging
        """
        x = x.unsqueeze(2) if x.ndim == 4 else x
        pooled, maps = self.trunk(x.movedim(1, -1), stages or ())
        return pooled if stages is None else {name: maps[name].movedim(-1, 1) for name in stages}

    def preprocess(
        self, rgb: Tensor, disparity: Tensor | None = None, head: str = "image"
    ) -> Tensor:
        """Makes an input from uint8 [b, t, h, w, 3], [t, h, w, 3] or [h, w, 3].

        Statistics are those of a head's data. `disparity` has one channel and is in the units of
        the card (for released weights those of SUN RGB-D files); it is clamped and divided by the
        most. Arrays of numpy, as readers of pictures give them, are taken too.
        """
        rgb = torch.as_tensor(rgb)
        if rgb.dtype != torch.uint8 or rgb.shape[-1] != 3 or not 3 <= rgb.ndim <= 5:
            raise ValueError(
                f"rgb is {rgb.dtype} {list(rgb.shape)}; give uint8 [h, w, 3], with t or b and t "
                "before it"
            )
        self._check(head)
        spec = self.card["preprocessing"].get(head)
        if spec is None:
            raise ValueError(
                f"head={head!r} has no preprocessing in card.json; standardise its inputs yourself"
            )
        x = _standardised(rgb.float() / 255, spec["mean"], spec["std"])
        if disparity is not None:
            disparity = torch.as_tensor(disparity)
            if disparity.shape != (*rgb.shape[:-1], 1):
                raise ValueError(
                    f"disparity is {list(disparity.shape)}; give {[*rgb.shape[:-1], 1]}, like rgb"
                )
            most, mean, std = (spec[f"disparity_{key}"] for key in ("max", "mean", "std"))
            unit = disparity.float().clamp(DISPARITY_MIN, most) / most
            x = torch.cat([x, _standardised(unit, [mean], [std])], -1)
        return x[(None,) * (5 - x.ndim)].movedim(-1, 1)

    @torch.no_grad()
    def predict(
        self, x: Tensor, head: str = "image", top: int = 5
    ) -> list[list[tuple[str, float]]]:
        """Lists the likeliest classes of every sample and their probabilities.

        A class without a name is its number.
        """
        scores = self(x, head).float().softmax(-1)
        names = self.card.get("classes", {}).get(head) or list(map(str, range(scores.shape[-1])))
        best = []
        for row in scores:
            values, indices = row.topk(min(top, len(names)))
            likely = [names[i] for i in indices.tolist()]
            best.append(list(zip(likely, values.tolist(), strict=True)))
        return best

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, **options: Any
    ) -> Any:
        """Loads parameters, also of a released file: "trunk" and "heads", index buffers in them."""
        if set(state_dict) == {"trunk", "heads"}:
            parts = state_dict.items()
            state_dict = {f"{part}.{name}": x for part, inner in parts for name, x in inner.items()}
        tokens = math.prod(self.trunk.window)
        parameters = {}
        for name, value in state_dict.items():
            if not name.endswith(TABLE_INDEX):
                parameters[name] = value
            elif tuple(value.shape) != (tokens, tokens):
                raise ValueError(
                    f"{name} is of {value.shape[0]} tokens, a window of this model has {tokens}"
                )
        return super().load_state_dict(parameters, strict, **options)

    def _check(self, head: str) -> None:
        if head not in self.heads:
            known = ", ".join(sorted(self.heads)) or "none"
            raise ValueError(f"head={head!r} is not in this model; it has {known}")


class Heads(nn.ModuleDict):
    """Heads by name, which may be that of a method, too."""

    def add_module(self, name: str, module: Any) -> None:
        self._modules[name] = module


def _head(name: str, width: int, classes: int) -> nn.Module:
    linear = nn.Linear(width, classes)
    # The released model has a dropout before this one, so its linear map has index 1.
    return nn.Sequential(nn.Identity(), linear) if name == "video" else linear


def _standardised(x: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    return (x - x.new_tensor(mean)) / x.new_tensor(std)


class Trunk(nn.Module):
    """Embeds an input and refines its tokens, stage by stage."""

    def __init__(self, model: Mapping[str, Any]):
        super().__init__()
        width, depths, patch = model["embed_dim"], model["depths"], _size(model["patch"])
        self.window = _size(model["window"])
        self.depth_kind = model["depth_embed"]
        self.patch_embed = PatchEmbed(3, width, patch, shared_depth=self.depth_kind == "shared")
        channels = {"summed": 1, "separate": 4}.get(self.depth_kind)
        self.depth_patch_embed = None if channels is None else PatchEmbed(channels, width, patch)
        self.layers = nn.ModuleList(
            Stage(model, width * 2**i, depth, heads, last=i == len(depths) - 1)
            for i, (depth, heads) in enumerate(zip(depths, model["num_heads"], strict=True))
        )
        self.norm = nn.LayerNorm(width * 2 ** (len(depths) - 1))

    def embed(self, x: Tensor) -> Tensor:
        """Tokens [b, t, h, w, c] of an input [b, t, h, w, 3 or 4]."""
        channels, kind = x.shape[-1], self.depth_kind
        if channels == 3 or (channels == 4 and kind == "shared"):
            return self.patch_embed(x)
        if channels != 4 or self.depth_patch_embed is None:
            more = "" if kind == "none" else " or 4 (RGB and depth)"
            raise ValueError(
                f"the input has {channels} channels; this model takes 3 (RGB){more}, in axis 1"
            )
        if kind == "separate":
            return self.depth_patch_embed(x)
        return self.patch_embed(x[..., :3]) + self.depth_patch_embed(x[..., 3:])

    def forward(self, x: Tensor, stages: Sequence[str] = ()) -> tuple[Tensor, dict[str, Tensor]]:
        self._check(stages)
        x = self.embed(x)
        maps = {}
        for i, stage in enumerate(self.layers):
            maps[f"premerge{i}"], x = stage(x)
            maps[f"interim{i}"] = x
        maps["last"] = normed = self.norm(x)
        for name in stages:
            if name.startswith("stage"):
                maps[name] = self.norm(maps[name.replace("stage", "interim")])
        return normed.mean((1, 2, 3)), {name: maps[name] for name in stages}

    def _check(self, stages: Sequence[str]) -> None:
        count = len(self.layers)
        known = ["last", *(f"stage{k}" for k in range(max(0, count - 2), count))]
        known += [f"{place}{k}" for place in ("interim", "premerge") for k in range(count)]
        for name in stages:
            if name not in known:
                raise ValueError(
                    f"stages: {name!r} is not a map of this model; use {', '.join(known)}"
                )


class PatchEmbed(nn.Module):
    """One linear map of patches that do not overlap, then a norm.

    Axes are filled up with zeros at their end.
    """

    def __init__(self, channels: int, width: int, patch: Size, *, shared_depth: bool = False):
        super().__init__()
        self.patch = patch
        self.proj = nn.Conv3d(channels, width, patch, patch)
        # A fourth channel has a map of its own, added before the norm that it shares.
        if shared_depth:
            self.var_proj = nn.ModuleList([nn.Conv3d(1, width, patch, patch)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        extra = _size(-size % p for size, p in zip(x.shape[1:4], self.patch, strict=True))
        x = _padded(x, extra).movedim(-1, 1)
        channels = self.proj.in_channels
        tokens = self.proj(x[:, :channels])
        if x.shape[1] > channels:
            tokens = tokens + self.var_proj[0](x[:, channels:])
        return self.norm(tokens.movedim(1, -1))


class Stage(nn.Module):
    """Blocks at one resolution, then the merging that leads to the next."""

    def __init__(self, model: Mapping[str, Any], width: int, depth: int, heads: int, *, last: bool):
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(model, width, heads, shifted=j % 2 == 1) for j in range(depth)
        )
        self.downsample = nn.Identity() if last else PatchMerging(width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the map before and after the merging."""
        for block in self.blocks:
            x = block(x)
        return x, self.downsample(x)


class Block(nn.Module):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, model: Mapping[str, Any], width: int, heads: int, *, shifted: bool):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = WindowAttention(model, width, heads, shifted=shifted)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, model["mlp_ratio"] * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Mlp(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class PatchMerging(nn.Module):
    """Joins 2 x 2 neighbours in space: half the height and width, twice the channels."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduction = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = _padded(x, (0, x.shape[2] % 2, x.shape[3] % 2))
        # Columns are the slower: top left, bottom left, top right, bottom right.
        left, right = x[:, :, :, ::2], x[:, :, :, 1::2]
        corners = [left[:, :, ::2], left[:, :, 1::2], right[:, :, ::2], right[:, :, 1::2]]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class WindowAttention(nn.Module):
    """Attention inside windows with a relative position bias.

    Every second block of a stage shifts its windows.
    """

    def __init__(self, model: Mapping[str, Any], width: int, heads: int, *, shifted: bool):
        super().__init__()
        self.window = _size(model["window"])
        self.corner = model["window_index"] == "released"
        self.heads, self.shifted = heads, shifted
        rows = math.prod(2 * extent - 1 for extent in self.window)
        self.relative_position_bias_table = nn.Parameter(torch.zeros(rows, heads))
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Along an axis that one window covers, it is clamped to the map and not shifted."""
        t, h, w = size = _size(x.shape[1:4])
        window = _size(map(min, size, self.window))
        axes = zip(size, self.window, strict=True)
        shift = _size(n // 2 if self.shifted and s > n else 0 for s, n in axes)
        # Tokens of the padding attend like all others, as in the released code.
        x = _padded(x, _size(-s % n for s, n in zip(size, window, strict=True)))
        padded = _size(x.shape[1:4])
        cut = _cut(x.roll([-s for s in shift], (1, 2, 3)), window).transpose(0, 1)
        out = self._attend(cut, window, shift, _kinds(padded, window, shift)).transpose(0, 1)
        return _joined(out, padded, window).roll(shift, (1, 2, 3))[:, :t, :h, :w]

    def _attend(self, x: Tensor, window: Size, shift: Size, kinds: Sequence[int]) -> Tensor:
        """Attention inside windows [windows, b, n, c], in one call for all of a kind.

        They share what is added to their logits; for every window of a clip it would be 0.6 GB.
        """
        order = torch.tensor(sorted(range(len(kinds)), key=kinds.__getitem__), device=x.device)
        table, regions = self.relative_position_bias_table, _regions(window, shift, x.device)
        bias = table[_table_rows(self.window, window, self.corner, x.device)].permute(2, 0, 1)
        x = x.index_select(0, order) if any(shift) else x
        known, parts = sorted(set(kinds)), []
        qkv = self.qkv(x).split([kinds.count(kind) for kind in known])
        for kind, part in zip(known, qkv, strict=True):
            q, k, v = part.flatten(0, 1).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            region = regions & kind
            mask = (bias + FORBIDDEN * (region[:, None] != region))[None].to(q.dtype)
            out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
            parts.append(out.transpose(1, 2).flatten(-2).unflatten(0, part.shape[:2]))
        out = self.proj(torch.cat(parts))
        return out.index_select(0, order.argsort()) if any(shift) else out


def _table_rows(trained: Size, window: Size, corner: bool, device: torch.device) -> Tensor:
    """Row of the table for every (query, key) of a window, [n, n].

    Time is the slowest axis of the table.

    `corner`: the released code cuts the index of a window that the map clamps out of that of the
    whole window. It is the same where time alone is clamped, and otherwise what the released
    weights were trained with.
    """
    axes = [torch.arange(extent, device=device) for extent in (trained if corner else window)]
    at = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2)
    n = window[0] * window[1] * window[2]
    t, h, w = (at[:n, None] - at[None, :n] + torch.tensor(trained, device=device) - 1).unbind(-1)
    return (t * (2 * trained[1] - 1) + h) * (2 * trained[2] - 1) + w


def _kinds(size: Size, window: Size, shift: Size) -> list[int]:
    """Says of every window along which axes it is the last, if these are shifted.

    4 for t, 2 for h, 1 for w, added up: there the shift put the first tokens behind the last ones.
    """
    last = [
        [bit if moved and at + part == extent else 0 for at in range(0, extent, part)]
        for bit, extent, part, moved in zip((4, 2, 1), size, window, shift, strict=True)
    ]
    return [t + h + w for t in last[0] for h in last[1] for w in last[2]]


def _regions(window: Size, shift: Size, device: torch.device) -> Tensor:
    """Sums for every place in a window, [n], of the axes along which the shift put it behind.

    Tokens of a window are no neighbours where they differ in an axis of its kind.
    """
    t, h, w = (torch.arange(n, device=device) >= n - s for n, s in zip(window, shift, strict=True))
    return (4 * t[:, None, None] + 2 * h[:, None] + 1 * w).flatten()


def _size(extents: Iterable[int]) -> Size:
    t, h, w = extents
    return t, h, w


def _padded(x: Tensor, extra: Size) -> Tensor:
    """Zeros at the end of t, h and w."""
    return F.pad(x, (0, 0, 0, extra[2], 0, extra[1], 0, extra[0])) if any(extra) else x


def _cut(x: Tensor, window: Size) -> Tensor:
    """[b, t, h, w, c] to windows [b, windows, n, c]."""
    x = x.unflatten(3, (-1, window[2])).unflatten(2, (-1, window[1])).unflatten(1, (-1, window[0]))
    return x.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4, 6).flatten(1, 3)


def _joined(x: Tensor, size: Size, window: Size) -> Tensor:
    """Undoes `_cut`."""
    counts = [extent // part for extent, part in zip(size, window, strict=True)]
    x = x.unflatten(2, window).unflatten(1, counts).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return x.flatten(5, 6).flatten(3, 4).flatten(1, 2)
