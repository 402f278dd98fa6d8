"""Machines are known by name, and what is missing to compile for them is said in one line."""

import pytest

from omnivore_jax.core.errors import UserError
from omnivore_jax.experiment import topology
from omnivore_jax.experiment.topology import CHIPS, find_chip, open_machine


def test_a_topology_is_a_chip_and_a_known_shape_of_its_slices():
    assert find_chip("v5e:16x16").memory_gib == 16
    assert find_chip("v5p:4x4x4").memory_gib == 95
    assert find_chip("v6e:16x16").usable_gib == 31.25


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v9:2x2", "--topology=v9:2x2 is not known; known: v4:.*, v5e:1x1 to 16x16, v5p:.*, v6e:"),
        ("v5e", "use v5e: and one of 1x1, 2x2, "),
        ("v5e:32x32", "use v5e: and one of 1x1, .*16x16"),  # libtpu would end the process
        ("v5p:4x4", "use v5p: and one of 2x2x1, .*4x4x4"),
        ("h100:3", "use h100: and one of 1, 2, 4, 8, 2x8, "),
        ("gpu:h100x8", "is not known; .* h100:1 to 128x8"),
    ],
)
def test_a_machine_that_is_not_known_is_one_line_with_those_that_are(name, message):
    with pytest.raises(UserError, match=message):
        find_chip(name)


def test_what_is_usable_is_what_the_chip_has_but_for_a_little():
    for chip in CHIPS.values():
        if chip.target:  # JAX takes three quarters of a GPU
            assert chip.usable_gib == pytest.approx(0.75 * chip.memory_gib, abs=0.1)
            continue
        assert 0.93 * chip.memory_gib < chip.usable_gib < 1.01 * chip.memory_gib


def test_a_missing_compiler_is_one_line_that_names_its_package(monkeypatch):
    monkeypatch.setattr(topology, "find_spec", lambda name: None)
    monkeypatch.delenv("TPU_LIBRARY_PATH", raising=False)
    with pytest.raises(UserError, match="pip install 'libtpu==.*no TPU"):
        open_machine("v5e:2x2")
    with pytest.raises(UserError, match="pip install -r requirements-gpu.txt .*no GPU"):
        open_machine("h100:8")
