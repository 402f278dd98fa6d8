"""Names of the classes of a head, from a file of the user's or a library; none is made up."""

import csv
import json
from collections.abc import Callable, Mapping
from importlib import util
from pathlib import Path
from typing import Any

from omnivore_jax.core.errors import UserError
from omnivore_jax.weights.reading import read_text

TORCHVISION = {1000: "_IMAGENET_CATEGORIES", 400: "_KINETICS400_CATEGORIES"}
TIMM = {1000: "imagenet_synsets.txt", 21841: "imagenet22k_synsets.txt"}
"""By number of classes: where the library keeps them."""


def class_names(origin: str, classes: int) -> list[str]:
    """Reads the names of a head's classes: `origin` is `torchvision`, `timm` or a file.

    Files (FACTS 2.1): JSON as a list, {"0": "name"}, {"0": ["n01440764", "tench"]} (ImageNet) or
    {"name": 0} (Kinetics); CSV of "verb,noun" rows (EPIC-Kitchens); else text, one name a line.

    Raises:
        UserError: the file or library is not there or has another number of names.

    """
    if origin in LIBRARIES:
        names = LIBRARIES[origin](classes)
    else:
        names = _from_file(Path(origin))
    if len(names) != classes:
        raise UserError(
            f"--classes: {origin} has {len(names)} names, the head {classes} classes; give the "
            "list of its dataset"
        )
    return names


def _from_file(path: Path) -> list[str]:
    try:
        text = read_text(path)
    except UserError as error:
        raise UserError(f"--classes: {error}; or use timm or torchvision") from error
    try:
        if text.lstrip()[:1] in ("[", "{"):
            return _from_json(json.loads(text))
        if path.suffix == ".json":  # JSON, but neither a list nor an object
            raise ValueError("it is no JSON list or object")
        if path.suffix == ".csv":  # a text may have commas in its names: here alone the suffix says
            rows = [row for row in csv.reader(text.splitlines()) if row]
            return [" ".join(map(str.strip, row)) for row in rows]
    except (csv.Error, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"--classes: {path} is no list of names ({error}); see docs/weights.md"
        ) from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _from_json(content: Any) -> list[str]:
    if isinstance(content, list):
        return [str(name) for name in content]
    if all(str(key).isdecimal() for key in content):
        named = {
            int(key): name[-1] if isinstance(name, list) else str(name)
            for key, name in content.items()
        }
    else:
        named = {int(number): str(name).strip("\"'") for name, number in content.items()}
    missing = set(range(len(named))) - named.keys()
    if missing:
        raise ValueError(f"class {min(missing)} has no name")
    return [named[number] for number in range(len(named))]


def _from_torchvision(classes: int) -> list[str]:
    """Reads them without importing the library, whose operators need not load."""
    path = _inside("torchvision", "models/_meta.py")
    return _of(_lists(path), TORCHVISION, classes, "torchvision")


def _lists(path: Path) -> Mapping[str, list[str]]:
    import ast

    found = {}
    for node in ast.parse(path.read_text()).body:
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and isinstance(node.value, ast.List)
        ):
            found[node.targets[0].id] = ast.literal_eval(node.value)
    return found


def _from_timm(classes: int) -> list[str]:
    if classes not in TIMM:
        raise UserError(
            f"--classes: timm has no list of {classes} names; it has {', '.join(map(str, TIMM))}"
        )
    lemmas = dict(
        line.split("\t")
        for line in _lines(_inside("timm", "data/_info/imagenet_synset_to_lemma.txt"))
    )
    return [lemmas[synset] for synset in _lines(_inside("timm", f"data/_info/{TIMM[classes]}"))]


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line]


def _of(
    lists: Mapping[str, list[str]], known: Mapping[int, str], classes: int, library: str
) -> list[str]:
    if known.get(classes) not in lists:
        raise UserError(
            f"--classes: {library} has no list of {classes} names; it has "
            f"{', '.join(map(str, known))}"
        )
    return lists[known[classes]]


def _inside(library: str, file: str) -> Path:
    """A file of an installed library, which is not imported."""
    spec = util.find_spec(library)
    path = Path(spec.origin).parent / file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UserError(
            f"--classes: {library} is not installed or has no {file}; give a file of names"
        )
    return path


LIBRARIES: Mapping[str, Callable[[int], list[str]]] = {
    "torchvision": _from_torchvision,
    "timm": _from_timm,
}
