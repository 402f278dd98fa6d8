"""Tests run with shapes checked, on 8 simulated devices, and keep what they compile."""

import gc
import os
from pathlib import Path

from jaxtyping import install_import_hook

from tests.xla import FLAGS

os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}"
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # PyTorch's threads wait in loops where cores lack
install_import_hook("omnivore_jax", "beartype.beartype")

import jax  # noqa: E402  (after the environment is set)

CACHE = Path(__file__).parent.parent / ".cache" / "jax"
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_traceback_in_locations_limit", 0)  # nobody reads where an operation was made
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

HEAVY = (
    "tests/test_elastic",
    "tests/test_rows_of_transfer",
    "tests/test_rows_of_joint_training",
    "train/test_trajectory",
    "train/test_step",
    "tasks/test_another_task",
    "model/test_omnivore",
    "weights/torch/test_file",
    "golden/test_golden",
    "weights/test_conversion",
    "train/test_update",
)
"""Modules that take longest: with `--dist loadfile` the last one must not be one of them."""


def pytest_collection_finish():
    """What imports have made stays: the collector need not look through it thousands of times."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_collection_modifyitems(items):
    def rank(item):
        path = item.path.with_suffix("").as_posix()
        return next((i for i, name in enumerate(HEAVY) if path.endswith(name)), len(HEAVY))

    items.sort(key=rank)  # stable: the others keep their order
