# ruff: noqa
# fmt: off
"""Golden references for omnivore_jax: the rule that rebuilds weights and inputs, in numpy only.

The outputs in <model>.npz (fill "n02") and <model>_fanin.npz (fill "fanin") were computed in
float32 by the released PyTorch model (facebookresearch/omnivore at 1d55abd) in eval mode on exactly
these weights and inputs.

Weights: for the full state-dict name of the released layout ("trunk...." / "heads...."),
    z = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)   # float64, torch's
                                                                                  shape (out, in,
                                                                                  ...)
    relative_position_bias_table -> 0.5 z;  any bias -> 0.1 z;  norm weights -> 1 + 0.1 z;  other
                                            weights -> 0.02 z
  "fanin" differs only in trunk weights that are not norms, tables or biases: z /
  sqrt(prod(shape[1:])); every block then contributes O(1), so a geometric mistake (mask, roll, bias
  index) shows 10-30 times louder. relative_position_index is a buffer.
Inputs: np.random.default_rng(seed).standard_normal(shape).astype(float32), layout (B, C, T, H, W).

Keys, for each case NAME:
  NAME/logits_image|logits_rgbd|logits_video  [B, classes]: every head on this input
  NAME/features           [B, C]: pooled trunk output (final norm, mean over T, H, W)
  NAME/s{i}/shape         channels-last shape (B, D, H, W, C) of the output of stage i, un-normed;
                          s-1 is the patch embedding after its norm
  NAME/s{i}/meanstd       float64 (mean, std);  NAME/s{i}/first64: .ravel()[:64];
                          NAME/s{i}/spread256: .ravel()[linspace(0, size-1, 256).astype(int64)]
  NAME/err64              max |float32 run - float64 run| of [features, image, rgbd, video logits]
Gradient cases: G_NAME/loss and G_NAME/<param name>/norm, /first8 (torch layout): mean cross entropy
of the head against
  labels arange(B) * 7 % classes, eval mode. Names as in the state dict.
__meta__: a json string (config, cases, torch version).

tiny_trajectory.npz: 30 training steps of the released model (tiny, fill "fanin", float64) as an
oracle for loss, schedule, AdamW exclusions, unused heads and EMA. rng = default_rng(seed); at step
s the dataset is order[s % len(order)], x = rng.standard_normal(shape).astype(float32) (B, C, T, H,
W), then y = rng.integers(0, classes, B). Soft targets: smoothing .1 (1 - .1 + .1/K on the label,
.1/K elsewhere), mean cross entropy. Learning rate at f = s / total: linear 2e-6 -> peak for f < .1,
cosine peak -> 2e-4 for f < .9, linear 2e-4 -> 1e-6; AdamW (.9, .999, 1e-8), decay .05 except
biases, position tables and every norm parameter; parameters without a gradient in a step are not
touched (PyTorch, grads None); no dropout, no drop path; EMA with decay .9 of all parameters after
each step, starting from the initial ones. Keys: losses, lr, grad_norm (global, over parameters that
have one), param_norm and ema_norm after the last step in the order of __meta__["names"]. float32
against float64: losses and gradient norms 1e-6, final norms 2.4e-4 relative (the key third of a qkv
bias has no true gradient: its updates are noise).

float32 noise is under 1e-6 in features and 5e-7 in logits. How loud single mistakes are (tiny; fill
n02 / fanin, logits): tanh GELU 3e-5 / 1.4e-4; LayerNorm eps 1e-6 3e-5 / 7e-6 (2e-3 on the patch
embedding); roll the wrong way 2e-3..3e-2 / 5e-2..2e-1; no shift mask 1e-3..4e-2 / 3e-2..3e-1; bias
transposed 2e-3 / 4e-2; merging order 8e-2 / 2e-1; T=1 padded in front 9e-2 / 3e-1. Mask -1e9 for
-100: not visible.
"""

import zlib
import numpy as np

HEADS = {"image": 1000, "rgbd": 19, "video": 400}
# ctor: arguments of the official SwinTransformer3D as in its factory functions
CONFIGS = {
    "tiny": dict(embed_dim=24, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8], window_size=(4, 7, 7), drop_path_rate=0.1),
}
COMMON = dict(pretrained2d=False, patch_size=(2, 4, 4), patch_norm=True, depth_mode="summed_rgb_d_tokens")

# name -> (shape B,C,T,H,W ; seed)
CASE_SHAPES = {
    "image224": ((2, 3, 1, 224, 224), 1),
    "rgbd224": ((2, 4, 1, 224, 224), 2),
    "video32": ((1, 3, 32, 224, 224), 3),
    "video8": ((1, 3, 8, 224, 224), 4),
    "image240x320": ((1, 3, 1, 240, 320), 5),  # window padding, then merge padding of odd sizes
    "image226x230": ((1, 3, 1, 226, 230), 6),  # not a multiple of the patch
    "video5": ((1, 3, 5, 224, 224), 7),  # odd frames: padded at the END with one zero frame
    "video4": ((1, 3, 4, 224, 224), 8),  # T'=2 < window
    # T'=2, stage 4 is 4x4 < window: the [:N,:N] quirk is active
    "video4_112": ((1, 3, 4, 112, 112), 9),
    "image112": ((2, 3, 1, 112, 112), 10),  # quirk active for a still (W<7)
    "video10_96x128": ((1, 3, 10, 96, 128), 11),  # T'=5: tiny pads time 5->8 and shifts in time
    "video18_96x128": ((1, 3, 18, 96, 128), 12),  # T'=9
    "rgbdvideo4_112": ((1, 4, 4, 112, 112), 13),  # depth with T>1
}
CASES = {
    "tiny": list(CASE_SHAPES),
}
GRAD_CASES = {
    "tiny": [("image224", "image"), ("rgbd224", "rgbd"), ("video10_96x128", "video"), ("video4_112", "video")]
}


def fill_array(name, shape, fill="n02"):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    z = rng.standard_normal(tuple(shape))
    if name.endswith("relative_position_bias_table"):
        z = 0.5 * z
    elif name.endswith(".bias"):
        z = 0.1 * z
    elif "norm" in name:
        z = 1.0 + 0.1 * z
    elif fill == "fanin" and not name.startswith("heads."):
        z = z / np.sqrt(np.prod(shape[1:]))
    else:
        z = 0.02 * z
    return z.astype(np.float32)


def make_input(case):
    shape, seed = CASE_SHAPES[case]
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sample(x_channels_last):
    """What is kept of a big channels-last array."""
    f = np.asarray(x_channels_last, dtype=np.float32).ravel()
    idx = np.linspace(0, f.size - 1, 256).astype(np.int64)
    return dict(
        shape=np.array(x_channels_last.shape),
        first64=f[:64].copy(),
        spread256=f[idx],
        meanstd=np.array([f.mean(dtype=np.float64), f.std(dtype=np.float64)]),
    )
