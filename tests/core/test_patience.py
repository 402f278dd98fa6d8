import pytest

from omnivore_jax.core.patience import MAX_PAUSE, Patience


def test_pauses_grow_and_the_bound_is_kept():
    now, pauses = [0.0], []

    def sleep(pause):
        pauses.append(pause)
        now[0] += pause

    assert not Patience(20.0, lambda: now[0], sleep).until(lambda: False)
    assert now[0] == pytest.approx(20.0) and max(pauses) == MAX_PAUSE and len(pauses) < 30
    assert pauses[:-1] == sorted(pauses[:-1])


def test_what_holds_already_is_not_waited_for():
    def sleep(_):
        raise AssertionError("slept")

    assert Patience(0.0, sleep=sleep).until(lambda: True)
    assert not Patience(0.0, sleep=sleep).until(lambda: False)
