"""The PyTorch model of the hub folder against the released one.

Golden.py says how the references came about.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from omnivore_jax.weights.torch.hub.omnivore import (  # noqa: E402  (needs torch)
    Omnivore,
    WindowAttention,
)
from tests.golden import golden  # noqa: E402

FILLS = {"n02": "tiny.npz", "fanin": "tiny_fanin.npz"}
TINY = {
    "embed_dim": 24, "depths": [2, 2, 2, 2], "num_heads": [1, 2, 4, 8], "window": [4, 7, 7],
    "patch": [2, 4, 4], "mlp_ratio": 4, "window_index": "released", "depth_embed": "summed",
}  # fmt: skip
INTERIM = [f"interim{i}" for i in range(4)]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for a busy core cost more than they bring
    yield
    torch.set_num_threads(threads)


@cache
def golden_model(fill):
    model = Omnivore({"model": TINY, "heads": golden.HEADS})
    model.load_state_dict(golden_state(fill))
    return model.eval()


def golden_state(fill="n02"):
    named = Omnivore({"model": TINY, "heads": golden.HEADS}).state_dict().items()
    return {
        name: torch.from_numpy(golden.fill_array(name, value.shape, fill)) for name, value in named
    }


@cache
def references(fill):
    with np.load(Path(golden.__file__).with_name(FILLS[fill])) as file:
        return {name: file[name] for name in file.files if name != "__meta__"}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("case", golden.CASE_SHAPES)
@torch.no_grad()
def test_it_computes_what_the_released_model_does(case, fill):
    model, x = golden_model(fill), torch.from_numpy(golden.make_input(case))
    want = {
        key.removeprefix(f"{case}/"): value
        for key, value in references(fill).items()
        if key.startswith(case)
    }
    maps = {f"s{i}": value for i, value in enumerate(model.features(x, INTERIM).values())}
    maps["s-1"] = model.trunk.embed(x.movedim(1, -1)).movedim(-1, 1)
    feature = model.features(x)
    np.testing.assert_allclose(feature, want["features"], rtol=0, atol=2e-5)
    for head, classify in model.heads.items():
        np.testing.assert_allclose(
            classify(feature), want[f"logits_{head}"], rtol=0, atol=1e-5, err_msg=head
        )
    for stage, found in maps.items():
        for key, value in golden.sample(found.movedim(1, -1).numpy()).items():
            np.testing.assert_allclose(
                value, want[f"{stage}/{key}"], rtol=0, atol=2e-5, err_msg=f"{stage} {key}"
            )


def test_a_released_file_loads_as_it_is_with_its_index_buffers():
    state = golden_state()
    index = torch.zeros(4 * 7 * 7, 4 * 7 * 7, dtype=torch.int64)
    state |= {
        name.replace("_bias_table", "_index"): index
        for name in state
        if name.endswith("_bias_table")
    }
    parts = {
        part: {
            name.removeprefix(f"{part}."): value
            for name, value in state.items()
            if name.startswith(part)
        }
        for part in ("trunk", "heads")
    }
    model = Omnivore({"model": TINY, "heads": golden.HEADS})
    model.load_state_dict(parts)
    np.testing.assert_array_equal(
        model.heads["video"][1].weight.detach(), parts["heads"]["video.1.weight"]
    )


def test_loading_is_strict():
    model, state = Omnivore({"model": TINY, "heads": golden.HEADS}), golden_state()
    lacking = {name: value for name, value in state.items() if name != "trunk.norm.bias"}
    with pytest.raises(RuntimeError, match=r"Missing key.*trunk\.norm\.bias"):
        model.load_state_dict(lacking)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*heads\.epic\.bias"):
        model.load_state_dict(state | {"heads.epic.bias": torch.zeros(3)})
    other = {"trunk.layers.0.blocks.0.attn.relative_position_index": torch.zeros(392, 392)}
    with pytest.raises(ValueError, match="is of 392 tokens, a window of this model has 196"):
        model.load_state_dict(state | other)


def test_wrong_inputs_are_named():
    model = golden_model("n02")
    with pytest.raises(
        ValueError, match="head='sound' is not in this model; it has image, rgbd, video"
    ):
        model(torch.zeros(1, 3, 32, 32), head="sound")
    with pytest.raises(ValueError, match="the input has 2 channels; this model takes 3"):
        model(torch.zeros(1, 2, 1, 32, 32))
    with pytest.raises(
        ValueError, match="stages: 'stage1' is not a map of this model; use last, stage2, stage3"
    ):
        model.features(torch.zeros(1, 3, 32, 32), ["stage1"])
    with pytest.raises(ValueError, match=r"rgb is torch.float32 \[8, 8, 3\]; give uint8"):
        model.preprocess(torch.zeros(8, 8, 3))


@torch.no_grad()
def test_training_mode_and_a_batch_of_pictures_change_nothing():
    model, x = golden_model("n02"), torch.from_numpy(golden.make_input("image112"))
    expected = model(x, "video")
    try:
        np.testing.assert_array_equal(model.train()(x[:, :, 0], "video"), expected)
    finally:
        model.eval()


def test_gradients_reach_the_input_after_a_run_in_inference_mode():
    model = golden_model("n02")
    x = torch.zeros(1, 3, 1, 64, 60)
    with torch.inference_mode():
        model.features(x)
    x.requires_grad_()
    model(x)[0, 0].backward()
    assert x.grad is not None and x.grad.abs().max() > 0


def plain_attention(module, x):
    """Shifted-window attention of one clip [t, h, w, c], a mask for every window."""
    size, heads = np.array(x.shape[:3]), module.heads
    window = np.minimum(size, module.window)
    shift = np.where(module.shifted & (size > module.window), np.array(module.window) // 2, 0)
    padded = -(-size // window) * window
    tokens = np.zeros((*padded, x.shape[-1]))
    tokens[: size[0], : size[1], : size[2]] = x
    # Where a token of the shifted map comes from, and from which side of the seam of every axis.
    axes = [np.roll(np.arange(n), -s) for n, s in zip(padded, shift, strict=True)]
    weights = {name: p.detach().double().numpy() for name, p in module.named_parameters()}
    table = weights["relative_position_bias_table"]
    out = np.zeros_like(tokens)
    for corner in np.ndindex(*(padded // window)):
        at = [axis[k * n : (k + 1) * n] for axis, k, n in zip(axes, corner, window, strict=True)]
        place = np.stack(np.meshgrid(*at, indexing="ij"), -1).reshape(-1, 3)
        inside = np.stack(np.meshgrid(*map(np.arange, window), indexing="ij"), -1).reshape(-1, 3)
        t, h, w = np.moveaxis(inside[:, None] - inside[None] + np.array(module.window) - 1, -1, 0)
        _, H, W = 2 * np.array(module.window) - 1
        bias = table[(t * H + h) * W + w].transpose(2, 0, 1)
        wrapped = place < np.array([axis[0] for axis in axes])
        apart = (wrapped[:, None] != wrapped[None]).any(-1)
        qkv = tokens[tuple(place.T)] @ weights["qkv.weight"].T + weights["qkv.bias"]
        q, k, v = qkv.reshape(len(place), 3, heads, -1).transpose(1, 2, 0, 3)
        logits = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]) + bias - 100.0 * apart
        p = np.exp(logits - logits.max(-1, keepdims=True))
        mixed = (p / p.sum(-1, keepdims=True)) @ v
        out[tuple(place.T)] = mixed.transpose(1, 0, 2).reshape(len(place), -1)
    out = out @ weights["proj.weight"].T + weights["proj.bias"]
    return out[: size[0], : size[1], : size[2]]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(6, 9, 8), (4, 6, 3), (2, 5, 9), (7, 3, 3), (1, 3, 3)])
@torch.no_grad()
def test_windows_of_a_kind_together_are_every_window_with_its_own_mask(size, shifted):
    torch.manual_seed(0)
    model = {"window": (2, 3, 3), "window_index": "geometric"}
    module = WindowAttention(model, 8, 2, shifted=shifted)
    torch.nn.init.normal_(module.relative_position_bias_table)
    x = torch.randn(2, *size, 8)
    out = module(x)
    for row, clip in zip(out, x, strict=True):
        np.testing.assert_allclose(row, plain_attention(module, clip.numpy()), rtol=0, atol=2e-6)


PEAK = """
import re, sys
import torch
sys.path.insert(0, sys.argv[1])
from omnivore import WindowAttention
def resident(key):
    return int(re.search(key + r":\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024
module = WindowAttention({"window": (16, 7, 7), "window_index": "geometric"}, 128, 4, shifted=True)
x = torch.randn(1, 16, 56, 56, 128)
before = resident("VmRSS")
with torch.inference_mode():
    module(x)
print(resident("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_block_of_swin_b_holds_no_mask_of_every_window():
    """At 32 frames such a mask would have 0.6 GB, and so would the logits of all windows."""
    hub = Path(__file__).parents[3] / "omnivore_jax" / "weights" / "torch" / "hub"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PEAK, str(hub)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 400, "MiB; the tokens and their q, k and v have 100"
