"""The kernel for TPUs by their own compiler, without one: that it compiles, and what it moves."""

import re
from dataclasses import replace
from importlib.util import find_spec
from math import prod

import jax
import pytest

from benchmarks.attention import compiled, paper_stages
from omnivore_jax.experiment.topology import open_machine
from omnivore_jax.train.collectives import collectives
from omnivore_jax.train.mesh import MeshConfig, batch_sharding, make_mesh
from omnivore_jax.train.state import abstract_state
from omnivore_jax.train.step import make_train_step
from tests.train.miniature import MODEL, batch, trainer

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("libtpu") is None,
        reason="the compiler for TPUs is not installed: pip install libtpu",
    ),
]

SLICES = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}
ARRAY = re.compile(r"\b[a-z]+\d+\[([\d,]+)\]")


STAGES = paper_stages()


def squares(text, n):
    """By how much arrays of n x n numbers are stacked in a program."""
    shapes = {tuple(map(int, shape.split(","))) for shape in ARRAY.findall(text)}
    return {prod(shape[:-2]) for shape in shapes if shape[-2:] == (n, n)}


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize("chip", SLICES)
def test_the_kernel_compiles_for_all_stages_of_the_paper(chip, name):
    stage = STAGES[name]
    text = compiled(open_machine(SLICES[chip]), stage, 2).as_text()
    assert text.count('custom_call_target="tpu_custom_call"') == 2
    assert max(squares(text, stage.window_tokens)) <= max(stage.heads, 8)  # masks: 8 at most


@pytest.mark.parametrize("shifted", [False, True])
def test_attention_of_stage_one_on_clips_moves_less_than_three_gigabytes(shifted):
    """Swin-T, 8 clips of 32 x 224 x 224: with plain XLA 27 and 38."""
    stage = STAGES["T clip 1"]
    moved = {
        backend: compiled(open_machine(SLICES["v5e"]), stage, 8, shifted=shifted, backend=backend)
        for backend in ("pallas_tpu", "xla")
    }
    moved = {name: program.cost_analysis()["bytes accessed"] for name, program in moved.items()}
    assert moved["pallas_tpu"] < 3e9 and moved["xla"] > 25e9


@pytest.mark.parametrize("mesh", [MeshConfig(4, 1, 1), MeshConfig(2, 1, 2)], ids=str)
def test_a_training_step_holds_the_kernel_and_sums_gradients_once(mesh):
    model = replace(MODEL, window=(2, 3, 3))
    placed = make_mesh(mesh, open_machine("v5e:2x2").devices)
    ours = trainer(microbatch=2)._replace(mesh=placed, model=model)
    state = abstract_state(model, ours.heads, placed)
    clips = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=batch_sharding(placed)),
        batch("clips"),
    )
    text = make_train_step(ours).lower(state, {"clips": clips}).compile().as_text()
    assert text.count('custom_call_target="tpu_custom_call"') == 4  # two blocks, there and back
    assert max(squares(text, 18)) <= 4  # heads
    if mesh.tensor == 1:
        every = collectives(text)
        assert [c for c in every if c.in_loop] == []
        assert {c.kind for c in every} == {"all-reduce"}
        parameters = sum(prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
        assert sum(c.elements for c in every if "f32" in c.types) <= parameters + 20
