"""What the devices tell each other in a step, counted in the compiled program."""

import math

import jax
import pytest

from omnivore_jax.train.collectives import collectives
from omnivore_jax.train.mesh import SMALLEST_SHARDED, MeshConfig
from omnivore_jax.train.state import abstract_state
from tests.train.miniature import MODEL, batch, step_of, trainer

PROGRAM = """HloModule step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%exchange (p: bf16[8,128]) -> bf16[8,128] {
  ROOT %permuted = (bf16[8,128]{1,0:T(8,128)(2,1)}, bf16[8,128]{1,0}, u32[], u32[]) collective-permute-start(%p), source_target_pairs={{0,1}}
}

%round (carry: (s32[], f32[4])) -> (s32[], f32[4]) {
  %part = bf16[8,128] fusion(%x), kind=kCustom, calls=%exchange
  ROOT %next = (s32[], f32[4]) tuple(%i, %x)
}

%more (carry: (s32[], f32[4])) -> pred[] {
  ROOT %less = pred[] compare(%i, %n), direction=LT
}

ENTRY %main (a: f32[4]) -> f32[4] {
  %all-reduce.1 = (f32[10]{0:T(128)S(1)}, /*index=1*/f32[2,4,4]{2,1,0:T(1,128)}) all-reduce(%a, %b), channel_id=1, replica_groups=mesh['axis_0'=4] {'axis_0'}, to_apply=%add
  %gathered = (f32[16]{0}, f32[64]{0}) all-gather-start(%a), dimensions={0}
  %value = f32[10] get-tuple-element(%all-reduce.1), index=0
  %count = s32[]{:T(128)} all-reduce(%c), to_apply=%add
  %rounds = (s32[], f32[4]) while(%t), condition=%more, body=%round
  ROOT %out = f32[4] get-tuple-element(%rounds), index=1
}
"""  # noqa: E501


def test_collectives_are_read_with_their_bytes_and_their_loops():
    every = {c.kind + " " + " ".join(c.types): c for c in collectives(PROGRAM)}
    assert len(every) == len(collectives(PROGRAM)) == 4
    assert every["all-reduce f32"][2:] == (42, 168, 32, False)
    assert every["all-gather f32"][2:] == (64, 256, 64, False)  # without its operand
    assert every["all-reduce s32"][2:] == (1, 4, 1, False)
    assert every["collective-permute bf16"][2:] == (1024, 2048, 1024, True)


@pytest.mark.parametrize("mesh", [MeshConfig(8, 1, 1), MeshConfig(2, 4, 1)], ids=str)
def test_gradients_meet_once_after_the_last_micro_batch_in_float32(mesh):
    ours = trainer(mesh, microbatch=1)
    state = abstract_state(MODEL, ours.heads, ours.mesh)
    step = step_of(mesh, 1)
    text = step.lower(state, {"reliefs": batch("reliefs", mesh)}).compile().as_text()
    every = collectives(text)
    assert " while(" in text
    assert [c for c in every if c.in_loop] == []
    assert {c.types for c in every} <= {frozenset({"f32"}), frozenset({"s32"})}
    params = dict(state.params, heads={"reliefs": state.params["heads"]["reliefs"]})
    trained = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))
    reduced, collected = (
        sum(c.elements for c in every if c.kind == kind and "f32" in c.types)
        for kind in ("all-reduce", "all-gather")
    )
    assert {c.kind for c in every} <= {"all-reduce", "all-gather"}
    assert trained <= reduced <= trained + 10  # and a few figures
    # What fsdp divides is gathered once.
    large = sum(n for leaf in jax.tree.leaves(params) if (n := leaf.size) >= SMALLEST_SHARDED)
    assert collected == (large if mesh.fsdp > 1 else 0)
