"""From the weights that a file has to those that a model needs, every parameter accounted for.

A plan says of each parameter where it comes from: taken as it is, changed by a rule, or drawn
afresh; and of each tensor of the file whether it was used. Nothing is read until the plan is
carried out.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.tree import flatten
from omnivore_jax.core.types import Size
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.heads import Heads, check_name, describe_spec
from omnivore_jax.model.params import abstract_model, init_params
from omnivore_jax.model.variants import VARIANTS
from omnivore_jax.weights import bias_forms
from omnivore_jax.weights.accounts import Row
from omnivore_jax.weights.lazy import LazyArray, lazy
from omnivore_jax.weights.opening import WeightsFile
from omnivore_jax.weights.torch.names import TABLE

DEPTH_EMBED = "trunk.depth_patch_embed."
INFLATED_WINDOW = 8
"""Tokens in time of the window that a 2-D Swin of no known variant gets."""


@dataclass(frozen=True)
class Plan:
    """The parameters of a model to be, by path, and how each comes about."""

    config: ModelConfig
    heads: dict[str, Any]
    arrays: dict[str, LazyArray]
    rows: list[Row]
    head_sources: dict[str, str]
    """Which head of the file each head comes from; fresh ones are not in it."""
    path: Path
    """Where the arrays come from."""


class Head(NamedTuple):
    """A head of the model to be: taken from one of the file's, or fresh."""

    spec: Any
    """Its number of classes, or what else makes it (`model.heads.Heads`)."""
    source: str | None


def choose_heads(asked: Iterable[str] | None, heads: Heads) -> dict[str, Head]:
    """Reads `image` (keep), `new=old` (rename), `name:classes` (keep; fresh if others are there).

    `heads` are those of the file; where nothing is asked all are kept.

    Raises:
        UserError: the file has no such head, or no number is one.

    """
    if asked is None:
        for name in heads:
            try:
                check_name(name)
            except ValueError as error:
                raise UserError(
                    f"{error}; rename it by --heads=NEW={name}, and name all that you want"
                ) from error
        return {name: Head(spec, name) for name, spec in heads.items()}
    chosen: dict[str, Head] = {}
    for text in asked:
        name, head = _choose_head(text, heads)
        if name in chosen:
            raise UserError(f"--heads={text}: {name!r} is there twice; name every head once")
        chosen[name] = head
    return chosen


def _choose_head(text: str, heads: Heads) -> tuple[str, Head]:
    """Reads one entry of --heads."""
    name, colon, number = text.partition(":")
    name, renames, source = name.partition("=")
    source = source if renames else name
    try:
        check_name(name)
    except ValueError as error:
        raise UserError(f"--heads={text}: {error}") from error
    if colon and not (number.isdecimal() and int(number)):
        raise UserError(
            f"--heads={text}: {number!r} is no number of classes; write {name}:1000, for example"
        )
    if not colon and source not in heads:
        raise UserError(
            f"--heads={text}: the file has the heads {dict(heads)}; for a fresh one write "
            f"{name}:CLASSES"
        )
    if colon and renames and heads.get(source) != int(number):
        what = describe_spec(heads[source]) if source in heads else "has no classes"
        raise UserError(
            f"--heads={text}: {source!r} {what}; write {name}={source} to rename it, "
            f"{name}:{number} for a fresh one"
        )
    spec = int(number) if colon else heads[source]
    return name, Head(spec, source if heads.get(source) == spec else None)


def target_config(source: WeightsFile, window: Size | None = None, **changes: Any) -> ModelConfig:
    """The model that a file becomes: its own, inflated where it is a 2-D Swin, with changes.

    Raises:
        UserError: the changed fields do not fit each other.

    """
    config = source.config
    if config.patch[0] == 1:
        known = VARIANTS.get(config.name)
        frames = known["window"][0] if known else INFLATED_WINDOW
        config = replace(config, patch=(2, *config.patch[1:]), window=(frames, *config.window[1:]))
    try:
        return replace(config, **({"window": window} if window else {}), **changes)
    except ValueError as error:
        raise UserError(str(error)) from error


def make_plan(
    source: WeightsFile,
    config: ModelConfig,
    heads: Mapping[str, Head],
    *,
    lossy: bool = False,
    keep: bias_forms.Keep = "all",
    seed: int = 0,
) -> Plan:
    """Finds the origin of every parameter of a model.

    `lossy` permits joint tables to become factored ones.

    Raises:
        UserError: the file's trunk is of another size, or a shape in it is wrong, or something
        would be lost.

    """
    _check_trunk(source, config)
    specs = {name: head.spec for name, head in heads.items()}
    maker = _Maker(source, config, {n: h.source for n, h in heads.items()}, lossy, keep)
    arrays, rows, fresh = {}, [], []

    @cache
    def drawn() -> dict[str, jax.Array]:
        """Draws only what is fresh: jit drops the rest of a new model."""

        def make(key: jax.Array) -> dict[str, jax.Array]:
            params = flatten(init_params(config, specs, key))
            return {path: params[path] for path in fresh}

        return jax.jit(make)(jax.random.key(seed))

    for path, leaf in flatten(abstract_model(config, specs)[1]).items():
        origin = maker.find(path, leaf.shape)
        if origin is None:
            fresh.append(path)
            arrays[path] = LazyArray(
                leaf.shape, "float32", lambda path=path: np.asarray(drawn()[path])
            )
            rows.append(Row("fresh", path, "", "initialised"))
            continue
        names, array, rule = origin
        kind = "transformed" if rule else "matched"
        rows.append(Row(kind, path, ", ".join(source.names[name] for name in names), rule))
        arrays[path] = array
        maker.used.update(names)
    unused = [source.names[path] for path in source.arrays if path not in maker.used]
    rows += [Row("unused", "", key, "") for key in (*unused, *source.unknown)]
    head_sources = {name: head.source for name, head in heads.items() if head.source}
    return Plan(config, specs, arrays, rows, head_sources, source.path)


def _check_trunk(source: WeightsFile, config: ModelConfig) -> None:
    for key in ("embed_dim", "depths", "num_heads", "mlp_ratio"):
        theirs, ours = getattr(source.config, key), getattr(config, key)
        if theirs != ours:
            raise UserError(
                f"{source.path} is a {source.config.name} with {key}={theirs}, the model "
                f"{config.name} has {ours}; choose the variant of the file"
            )
    if source.config.patch[1:] != config.patch[1:]:
        raise UserError(
            f"{source.path} has patches {source.config.patch}, the model {config.patch}; use the "
            "file's"
        )


Match = tuple[tuple[str, ...], LazyArray, str]
"""Our paths of what is used, the array, and the rule that changed it ("" where none did)."""


@dataclass
class _Maker:
    source: WeightsFile
    config: ModelConfig
    head_sources: Mapping[str, str | None]
    lossy: bool
    keep: bias_forms.Keep

    def __post_init__(self):
        self.used: set[str] = set()

    def find(self, path: str, shape: tuple[int, ...]) -> Match | None:
        if f".{TABLE}." in path:
            return self._table(path, shape)
        name = self._renamed(path)
        if (
            path.startswith(DEPTH_EMBED)
            and self.config.depth_embed != self.source.config.depth_embed
        ):
            return None  # it takes other channels
        array = None if name is None else self.source.arrays.get(name)
        if name is None or array is None:
            return None
        cast = "" if array.dtype == "float32" else f"from {array.dtype}"
        rules = [rule for rule in (self.source.rules.get(name), cast) if rule]
        array = _floats(self.source, name, array)
        if (
            array.shape != shape
            and path.endswith("proj.kernel")
            and array.shape[1:] == shape[1:]
            and array.shape[0] == 1
        ):
            times = shape[0]
            rules.append(f"inflated: repeated {times} times in time, divided by {times}")
            array = array.then(
                shape, lambda kernel: np.repeat(kernel / np.float32(times), times, axis=0)
            )
        self._check(name, array.shape, shape)
        return (name,), array, "; ".join(rules)

    def _renamed(self, path: str) -> str | None:
        """Path in the file; None for a head that comes from none of its heads."""
        first, name, *rest = path.split(".")
        if first != "heads":
            return path
        source = self.head_sources[name]
        return None if source is None else ".".join([first, source, *rest])

    def _table(self, path: str, shape: tuple[int, ...]) -> Match | None:
        base, _, part = path.rpartition(".")
        form = self.source.config.position_bias
        old, new = self.source.config.window, self.config.window
        parts = ("joint",) if form == "joint" else ("spatial", "temporal")
        names = tuple(f"{base}.{name}" for name in parts)
        if not self.source.arrays.keys() >= set(names):
            return None
        tables = {
            p: _floats(self.source, n, self.source.arrays[n])
            for p, n in zip(parts, names, strict=True)
        }
        for p, n in zip(parts, names, strict=True):
            self._check(n, tables[p].shape, (_rows(p, old), shape[1]))
        rules = [
            f"from {self.source.arrays[n].dtype}"
            for n in names[:1]
            if self.source.arrays[n].dtype != "float32"
        ]
        if form == self.config.position_bias:
            rules += _window_rules(part, old, new)
            resize = _resizer(part, old, new)
            return (f"{base}.{part}",), tables[part].then(shape, resize), "; ".join(rules)
        if form == "factored":
            rules += ["factored to joint: the exact sum", *_window_rules("joint", old, new)]
            return (
                names,
                LazyArray(shape, "float32", lambda: self._joined(tables, old, new)),
                "; ".join(rules),
            )
        return self._factored(names, tables["joint"], part, shape, rules)

    def _joined(self, tables: Mapping[str, LazyArray], old: Size, new: Size) -> np.ndarray:
        return _resizer("joint", old, new)(
            bias_forms.joint_table(tables["spatial"].read(), tables["temporal"].read())
        )

    def _factored(
        self,
        names: tuple[str, ...],
        joint: LazyArray,
        part: str,
        shape: tuple[int, ...],
        rules: list[str],
    ) -> Match:
        old, new = self.source.config.window, self.config.window
        table = joint.read()
        pair = bias_forms.factored_tables(table, old, self.keep)
        residual = bias_forms.lost(table, *pair)
        if residual > 0 and not self.lossy:  # it is 0 for a 2-D Swin, which has one frame
            raise UserError(
                f"{self.source.path} has joint position tables, which two factored ones cannot say "
                "exactly; use joint ones (--position_bias=joint; in a config 'auto'), or "
                "--allow-lossy for the nearest"
            )
        nearest = (
            "exact within a frame, nearest over time" if self.keep == "image" else "least squares"
        )
        rules = [
            *rules,
            f"joint to factored: {nearest}, residual {residual:.2%} of the table's norm",
        ]
        array = pair[0] if part == "spatial" else pair[1]
        made = lazy(array).then(shape, _resizer(part, old, new))
        return names, made, "; ".join([*rules, *_window_rules(part, old, new)])

    def _check(self, path: str, shape: tuple[int, ...], ours: tuple[int, ...]) -> None:
        if shape != ours:
            raise UserError(
                f"{self.source.path}: {self.source.names[path]} has shape {list(shape)} where a "
                f"{self.config.name} has {list(ours)} (as omnivore_jax lays it out); the file is "
                "damaged or of another model"
            )


def _rows(part: str, window: Size) -> int:
    t, h, w = (2 * side - 1 for side in window)
    return {"joint": t * h * w, "spatial": h * w, "temporal": t}[part]


def _of(part: str, window: Size) -> Size:
    """The window that a table spans: one of the factored ones is 1 long along the others' axes."""
    t, h, w = window
    return {"joint": (t, h, w), "spatial": (1, h, w), "temporal": (t, 1, 1)}[part]


def _resizer(part: str, old: Size, new: Size) -> Callable[[np.ndarray], np.ndarray]:
    before, after = _of(part, old), _of(part, new)
    if before == after:
        return lambda table: table
    return lambda table: bias_forms.resize_table(table, before, after)


def _window_rules(part: str, old: Size, new: Size) -> list[str]:
    before, after = _of(part, old), _of(part, new)
    rules = []
    if before[1:] != after[1:]:
        rules.append(
            f"bicubic over space: window {before[1]} x {before[2]} to {after[1]} x {after[2]}"
        )
    if before[0] != after[0]:
        how = "inflated" if before[0] == 1 else "longest offsets repeated"
        if after[0] < before[0]:
            how = "offsets cut"
        rules.append(f"{how} over time: window {before[0]} to {after[0]}")
    return rules


def _floats(source: WeightsFile, path: str, array: LazyArray) -> LazyArray:
    if "float" not in array.dtype:
        raise UserError(
            f"{source.path}: {source.names[path]} is {array.dtype}; weights are floating point, "
            "not quantised"
        )
    return array.astype("float32")


def check_finite(plan: Plan, allowed: bool = False) -> dict[str, int]:
    """Reads all arrays of a plan and counts, by path, the values that are NaN or infinity.

    Raises:
        UserError: there are some and they are not allowed.

    """
    counts = {}
    for path, array in plan.arrays.items():
        bad = count_bad(array.read())
        if bad:
            counts[path] = bad
        if bad and not allowed:
            raise UserError(not_finite_error(plan, path, bad))
    return counts


def count_bad(content: np.ndarray) -> int:
    """Counts the values that are NaN or infinity."""
    return content.size - int(np.isfinite(content).sum())


def not_finite_error(plan: Plan, path: str, bad: int) -> str:
    """Says that a parameter has such values, and what permits them."""
    return (
        f"{plan.path}: {path} holds {bad} values that are not finite; --allow-nonfinite converts "
        "them"
    )


def parameter_count(plan: Plan) -> int:
    """Number of parameters of the model to be."""
    return sum(math.prod(array.shape) for array in plan.arrays.values())
