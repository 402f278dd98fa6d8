import pytest

from omnivore_jax.checkpoint.retention import list_steps, superfluous


@pytest.mark.parametrize(
    ("steps", "good", "best", "keep_last", "deleted"),
    [
        ([1, 2, 3], [1, 2, 3], None, 2, [1]),
        ([1, 2, 3], [1, 2, 3], 1, 1, [2]),
        ([1, 2, 3], [1, 2], None, 1, [1]),  # 3 is being written
        ([1, 2, 3], [1, 3], None, 2, [2]),  # 2 was never finished or is damaged
        ([1, 2, 3], [], None, 1, []),
    ],
)
def test_what_is_deleted(steps, good, best, keep_last, deleted):
    assert superfluous(steps, good, best, keep_last) == deleted


def test_steps_are_numbers_and_the_newest_comes_first(tmp_path):
    for name in ("9", "10", "100.orbax-checkpoint-tmp", "8.deleted", "plots"):
        (tmp_path / name).mkdir()
    (tmp_path / "11").write_text("a file")
    assert list_steps(tmp_path) == [10, 9] and list_steps(tmp_path / "nowhere") == []
