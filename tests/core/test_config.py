from dataclasses import dataclass
from typing import Literal

import pytest
from ml_collections import ConfigDict

from omnivore_jax.core.config import ConfigError, build, build_all


@dataclass(frozen=True)
class Inner:
    rate: float = 0.1


@dataclass(frozen=True)
class Section:
    steps: int
    kind: Literal["image", "video"] = "image"
    size: tuple[int, int, int] = (1, 2, 3)
    names: tuple[str, ...] = ()
    inner: Inner = Inner()
    augment: bool | Inner = False

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps={self.steps}; use 0 or more")


@dataclass(frozen=True)
class Other:
    head: str = "image"


def test_a_section_becomes_a_dataclass_with_tuples_floats_and_sections_inside():
    section = ConfigDict(
        {"steps": 3, "size": [4, 5, 6], "names": ("a", "b"), "inner": {"rate": 1}}
    ).to_dict()
    built = build(Section, section, "train")
    assert built == Section(3, size=(4, 5, 6), names=("a", "b"), inner=Inner(1.0))
    assert isinstance(built.inner.rate, float)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"steps": 1, "stesp": 2}, 'train.stesp is not a known key; did you mean "steps"?'),
        (
            {"steps": 1, "zzz": 2},
            "train.zzz is not a known key; known keys: augment, inner, kind, names, size, steps",
        ),
        ({}, "train.steps is missing; add it"),
        ({"steps": 1.5}, "train.steps=1.5 is a float; use a int"),
        ({"steps": True}, "train.steps=True is a bool; use a int"),
        ({"steps": 1, "kind": "sound"}, "train.kind='sound'; use one of 'image', 'video'"),
        ({"steps": 1, "size": (1, 2)}, "train.size=(1, 2) has 2 values; use 3"),
        ({"steps": 1, "size": 7}, "train.size=7 is a int; use a tuple[int, int, int]"),
        ({"steps": 1, "names": ("a", 1)}, "train.names[1]=1 is a int; use a str"),
        (
            {"steps": 1, "inner": {"rat": 1.0}},
            'train.inner.rat is not a known key; did you mean "rate"?',
        ),
        ({"steps": -1}, "train.steps=-1; use 0 or more"),
        ({"steps": 1, "augment": "yes"}, "train.augment='yes' is a str; use a bool | "),
    ],
)
def test_a_mistake_names_key_value_and_remedy(section, says):
    with pytest.raises(ConfigError) as error:
        build(Section, section, "train")
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


def test_one_section_may_hold_the_keys_of_two_libraries():
    assert build_all((Section, Other), {"steps": 1, "head": "video"}, "data.x") == (
        Section(1),
        Other("video"),
    )
    with pytest.raises(ConfigError, match='did you mean "head"'):
        build_all((Section, Other), {"steps": 1, "haed": "video"}, "data.x")
