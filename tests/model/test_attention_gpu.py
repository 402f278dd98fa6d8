"""What attention moves on an H100 by the compiler of GPUs, without one."""

from importlib.util import find_spec

import pytest
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from benchmarks.attention import compiled, paper_stages, trust_cudnn
from benchmarks.traffic import moved
from omnivore_jax.experiment.topology import open_machine

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("jax_cuda13_plugin") is None,
        reason="the compiler for GPUs is not installed: pip install -r requirements-gpu.txt",
    ),
]


@pytest.mark.parametrize("shifted", [False, True])
def test_stage_one_on_clips_moves_less_than_3_2_gigabytes_by_cudnn(shifted, monkeypatch):
    """Swin-T, 8 clips of 32 x 224 x 224, forward and backward; plain mathematics 33 GB."""
    for name in ("check_cudnn_version", "check_compute_capability"):  # as they were, afterwards
        monkeypatch.setattr(cudnn, name, getattr(cudnn, name))
    trust_cudnn()
    machine, stage = open_machine("h100:1"), paper_stages()["T clip 1"]
    text = {
        backend: compiled(machine, stage, 8, shifted=shifted, backend=backend).as_text()
        for backend in ("cudnn", "xla")
    }
    assert moved(text["cudnn"]) < 3.2e9 and moved(text["xla"]) > 25e9
    assert "1024,3,392,392" in text["xla"] and "1024,3,392,392" not in text["cudnn"]
