"""Tests run with shapes checked, on 8 simulated devices, and keep what they compile."""

import os
from pathlib import Path

from jaxtyping import install_import_hook

os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 " + os.environ.get(
    "XLA_FLAGS", ""
)  # compiles 3 x faster
os.environ["JAX_PLATFORMS"] = "cpu"
install_import_hook("omnivore_jax", "beartype.beartype")

import jax  # noqa: E402  (after the environment is set)

CACHE = Path(__file__).parent.parent / ".cache" / "jax"
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
