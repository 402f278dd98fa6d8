"""Peak rates of accelerators, of which a run's use (MFU) is a share."""

import statistics
import time

import jax
import jax.numpy as jnp

TERAFLOPS = {
    "TPU v4": 275.0,
    "TPU v5 lite": 197.0,
    "TPU v5": 459.0,
    "TPU v5p": 459.0,
    "TPU v6 lite": 918.0,
    "NVIDIA A100-SXM4-40GB": 312.0,
    "NVIDIA A100-SXM4-80GB": 312.0,
    "NVIDIA H100 80GB HBM3": 989.0,
    "NVIDIA H200": 989.0,
}
"""Of a device in bfloat16 without sparsity, by the names that JAX gives them.

Sources: docs.cloud.google.com/tpu/docs, a page each; NVIDIA's data sheets of A100, H100 and H200.
"""


PRODUCTS = 5
"""Of matrices, of which the median counts."""


def peak_teraflops(stated: float | None) -> float | None:
    """Gives the peak of this machine's devices; `stated` where they are not in the table."""
    return TERAFLOPS.get(jax.devices()[0].device_kind, stated)


def measured_teraflops(dtype: str) -> float:
    """Times products of two square matrices on one device: what a program can hope for here."""
    n = 2048 if jax.default_backend() == "cpu" else 8192
    x = jax.random.normal(jax.random.key(0), (n, n), jnp.float32).astype(dtype)
    product = jax.jit(lambda x: x @ x)
    jax.block_until_ready(product(x))
    seconds = []
    for _ in range(PRODUCTS):
        began = time.perf_counter()
        jax.block_until_ready(product(x))
        seconds.append(time.perf_counter() - began)
    return 2 * n**3 / statistics.median(seconds) / 1e12
