import pytest

from benchmarks.costs import Operation, named, part, summed

PROGRAM = """
  %ynn_fusion.3 = f32[8,4]{1,0} fusion(%x, %y), kind=kCustom, calls=%f, metadata={op_name="jit(step)/jvp(mlp)/linear/dot_general" source_file="a.py"}
  ROOT %copy.1 = f32[8]{0} copy(%x)
"""  # noqa: E501


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("jit(step)/jvp(attention)/windows/exp", ("attention: windows", "forward")),
        ("jit(step)/transpose(jvp(mlp))/gelu/mul", ("mlp: gelu", "backward")),
        (
            "jit(step)/transpose(jvp(attention))/jit(_roll_static)/pad",
            ("attention: moves of tokens, sums", "backward"),
        ),
        ("jit(step)/optimizer/mul", ("optimizer", "")),
        ("jit(step)/reduce_sum", ("batch, loss, norm of the gradient", "forward")),
        ("", ("copies of XLA", "")),
    ],
)
def test_an_operation_belongs_to_the_scope_that_made_it(name, found):
    assert part(name) == found


def test_times_are_added_up_and_loops_do_not_count_beside_what_they_run():
    ran = [Operation("ynn_fusion.3", 1.0), Operation("while.2", 9.0), Operation("copy.1", 0.5)]
    sums = summed([*ran, ran[0]], named(PROGRAM))
    assert sums == {("mlp: linear", "forward"): 2.0, ("copies of XLA", ""): 0.5}
