"""Turns a section of a config into a frozen dataclass.

An unknown or ill-typed key is an error that says the remedy.

Generic: every library owns the dataclass of its section (`train.optimizer.OptimizerConfig`, ...);
none lives here.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class ConfigError(ValueError):
    """A key of the config that is unknown, missing or of the wrong type.

    The message is one line.
    """


def build(cls: type[T], section: Mapping[str, Any], where: str) -> T:
    """Builds `cls` from a section; `where` is the section's dotted name, for messages."""
    return build_all((cls,), section, where)[0]


def build_all(classes: tuple[type, ...], section: Mapping[str, Any], where: str) -> tuple[Any, ...]:
    """Builds several dataclasses from one section with the keys of all (a dataset's row, say)."""
    known = {field.name: cls for cls in classes for field in dataclasses.fields(cls)}
    for key in section:
        if key not in known:
            raise ConfigError(f"{where}.{key} is not a known key; {_hint(str(key), known)}")
    parts: dict[type, dict[str, Any]] = {cls: {} for cls in classes}
    for key, value in section.items():
        parts[known[key]][key] = value
    return tuple(_build_one(cls, values, where) for cls, values in parts.items())


def _build_one(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    hints = typing.get_type_hints(cls)
    missing = [
        field.name
        for field in dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
        if field.name not in values
        and field.default is dataclasses.MISSING
        and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}.{missing[0]} is missing; add it")
    try:
        return cls(
            **{key: _convert(value, hints[key], f"{where}.{key}") for key, value in values.items()}
        )
    except ConfigError:
        raise
    except ValueError as error:  # a check in the dataclass's own __post_init__
        raise ConfigError(f"{where}.{error}") from error


def _hint(key: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f'did you mean "{close[0]}"?' if close else f"known keys: {', '.join(sorted(known))}"


def _convert(value: Any, hint: Any, where: str) -> Any:
    """Checks a value against a type hint; turns lists into tuples and sections into dataclasses."""
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(typing.cast(type, hint), value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_union(value, arguments, hint, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise ConfigError(f"{where}={value!r}; use one of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        return _convert_tuple(value, arguments, hint, where)
    if origin in (dict, Mapping) or hint is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}={value!r} is not a section")
        return {
            k: _convert(v, arguments[1], f"{where}.{k}") if arguments else v
            for k, v in value.items()
        }
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    plain = hint is Any or isinstance(value, typing.cast(type, hint))
    if plain and not (hint in (int, float) and isinstance(value, bool)):
        return value
    raise ConfigError(f"{where}={value!r} is a {type(value).__name__}; use a {_name(hint)}")


def _convert_union(value: Any, options: tuple, hint: Any, where: str) -> Any:
    for option in options:
        try:
            return _convert(value, option, where)
        except (ConfigError, TypeError):
            continue
    raise ConfigError(f"{where}={value!r} is a {type(value).__name__}; use a {_name(hint)}")


def _convert_tuple(value: Any, arguments: tuple, hint: Any, where: str) -> tuple:
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}={value!r} is a {type(value).__name__}; use a {_name(hint)}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise ConfigError(f"{where}={tuple(value)!r} has {len(value)} values; use {len(arguments)}")
    return tuple(
        _convert(v, a, f"{where}[{i}]")
        for i, (v, a) in enumerate(zip(value, arguments, strict=True))
    )


def _name(hint: Any) -> str:
    return getattr(hint, "__name__", str(hint)) if typing.get_origin(hint) is None else str(hint)
