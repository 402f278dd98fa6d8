"""Peak rates of accelerators, of which a run's use (MFU) is a share."""

import jax

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


def peak_teraflops(stated: float | None) -> float | None:
    """Gives the peak of this machine's devices; `stated` where they are not in the table."""
    return TERAFLOPS.get(jax.devices()[0].device_kind, stated)
