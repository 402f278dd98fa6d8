import ctypes
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from omnivore_jax.core import memory


@pytest.fixture
def fresh():
    """Asks again what is asked once a process."""
    memory.in_order.cache_clear()
    yield
    memory.in_order.cache_clear()


def branches(x):
    """Sums of what could be computed at once, each of which is large and ends small."""
    return sum(jnp.max(jnp.sort(x * i) @ x) for i in range(8))


def temporaries(options):
    program = jax.jit(branches, compiler_options=options)
    return program.lower(jnp.ones((64, 64))).compile().memory_analysis().temp_size_in_bytes


def test_a_program_that_is_computed_in_order_takes_less_memory(fresh):
    options = dict(memory.in_order("cpu"))
    assert options == memory.IN_ORDER
    assert temporaries(options) < temporaries({}) / 2


def test_nothing_is_asked_of_other_compilers_and_of_those_that_do_not_know_it(fresh, monkeypatch):
    assert memory.in_order("tpu") == memory.in_order("gpu") == {}
    monkeypatch.setattr(memory, "IN_ORDER", {"xla_cpu_no_such_option": True})
    assert memory.in_order("cpu") == {}


def test_what_a_long_compilation_leaves_is_given_back(monkeypatch):
    trimmed = []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(malloc_trim=trimmed.append))
    monkeypatch.setattr(memory.sys, "platform", "linux")
    memory.return_after_compilation.__wrapped__()
    for event, seconds in ((memory.COMPILED, 2.0), (memory.COMPILED, 0.01), ("/other", 2.0)):
        jax.monitoring.record_event_duration_secs(event, seconds)
    assert trimmed == [0]


def test_systems_without_such_an_allocator_are_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace())
    memory.return_after_compilation.__wrapped__()
    monkeypatch.setattr(memory.sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("a library was opened"))
    memory.return_after_compilation.__wrapped__()
