import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, jax, jax.numpy as jnp
from omnivore_jax.core import compile_cache
said = compile_cache.open_cache(sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
from omnivore_jax.core.quiet import quiet_libraries
quiet_libraries()
jax.jit(lambda x: x * 3 + 1)(jnp.ones(3)).block_until_ready()
print(said())
"""


def run(choice, environment):
    call = [sys.executable, "-W", "error", "-c", PROGRAM, choice]
    base = {"PATH": "/usr/bin:/bin", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(call, capture_output=True, text=True, env=base | environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout.strip()


def test_a_second_process_compiles_nothing_and_a_damaged_entry_ends_no_run(tmp_path):
    first, second = (run(f"{tmp_path}/a", {"HOME": str(tmp_path)}) for _ in range(2))
    assert first.startswith(f"compile cache: {tmp_path}/a, 0 hits") and "0 misses" not in first
    assert second.endswith(", 0 misses") and " 0 hits" not in second
    for entry in Path(tmp_path / "a").glob("*-cache"):
        entry.write_bytes(b"damaged")
    assert run(f"{tmp_path}/a", {"HOME": str(tmp_path)}).startswith("compile cache: ")


@pytest.mark.parametrize(
    ("choice", "environment", "place"),
    [
        ("", {"HOME": "{}"}, "{}/.cache/omnivore_jax/jax"),
        ("", {"HOME": "/", "XDG_CACHE_HOME": "{}/x"}, "{}/x/omnivore_jax/jax"),
        ("", {"HOME": "/", "JAX_COMPILATION_CACHE_DIR": "{}/y"}, "{}/y"),
        ("off", {"HOME": "{}"}, "off"),
    ],
)
def test_programs_are_kept_where_the_user_wants_them(tmp_path, choice, environment, place):
    given = {key: value.format(tmp_path) for key, value in environment.items()}
    assert run(choice, given).startswith(f"compile cache: {place.format(tmp_path)}")
    assert any(tmp_path.rglob("*-cache")) == (choice != "off")
