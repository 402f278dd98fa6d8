"""The paper's joint pre-training recipe (section 4, Appendix A), shared by swin_t, s, b and l.

Sources: P = the paper; C = the released training YAML, where the paper gives no number; K = general
knowledge.
"""

from ml_collections import ConfigDict

MIXTURES = {
    "in1k": ("imagenet", "kinetics400", "sunrgbd"),  # Table 2
    "in21k": ("imagenet21k", "imagenet", "kinetics400", "sunrgbd"),  # Table 4
    "in21k_alone": ("imagenet21k",),  # what "finetuned" of Table 8 starts from
}


def joint(
    name: str, *, model: str, drop_path: float, mixture: str, microbatch: dict[str, int]
) -> ConfigDict:
    """Joint training on IN1K + K400 + SUN RGB-D (Table 2), with IN21K at ratio 0.1 (Table 4).

    `mixture`: a name in MIXTURES.
    """
    if mixture not in MIXTURES:
        raise ValueError(f"the mixture {mixture!r} is not known; use one of {', '.join(MIXTURES)}")
    alone, in21k = mixture == "in21k_alone", "imagenet21k" in MIXTURES[mixture]
    config = ConfigDict()
    config.name = name
    config.init_from = ""  # a checkpoint to start from; empty: from scratch (P 4)

    config.model = ConfigDict()
    config.model.name = model
    config.model.position_bias = "auto"  # as init_from has it, else factored (P 3.1)
    config.model.window_index = "geometric"
    config.model.depth_embed = "summed"  # P 3.1
    config.model.drop_path = drop_path  # P A
    config.model.dtype = (
        "bfloat16"  # compute only; parameters, LayerNorm, softmax and loss are float32
    )
    config.model.scan = True  # stages of many blocks compile as a loop
    config.attention = ConfigDict({"backend": "auto"})

    # ------------------------------------------------------------------ data
    config.data = ConfigDict()
    config.data.root = ""  # empty: $OMNIVORE_DATA, else data/
    config.data.bad_budget = 0.001  # the run stops when more of a dataset's records cannot be read
    config.data.workers = 0  # worker processes a host; 0: threads only
    config.data.threads = 0  # decoding threads a host or a worker; 0: what the host has
    config.data.max_host_gib = 0.0  # samples read ahead; 0: a share of the host's memory
    config.data.prefetch = 2  # steps held ready

    picture = {
        "kind": "image",
        "batch_size": 4096,  # P 4: for each dataset
        "frames": 1,
        "size": 224,  # P 4
        "crop": "random_resized",  # C
        "interpolation": "bicubic",  # C
        "flip": 0.5,  # P A
        "rand_augment": True,  # P A: as DeiT; C: m9, mstd .5, 2 ops
        "jitter": (0.4, 0.4, 0.4, 0.4),  # P A: 0.4; C: hue too
        "erase": 0.25,  # P A
        **mixing(),
    }
    config.data.imagenet21k = ConfigDict(
        picture
        | {
            "ratio": 1.0 if alone else 0.1,  # P 4.3
            "head": "image21k",
            "classes": 21841,  # K: fall 2011 release
            "num_train": 14_197_122,  # K
            "num_val": 0,
            "microbatch": microbatch["image"],
        }
    )
    config.data.imagenet = ConfigDict(
        picture
        | {
            "ratio": 1.0,  # P 4
            "head": "image",
            "classes": 1000,
            "num_train": 1_281_167,
            "num_val": 50_000,
            "microbatch": microbatch["image"],
        }
    )
    config.data.kinetics400 = ConfigDict(
        {
            "kind": "video",
            "ratio": 1.0,  # P 4
            "head": "video",
            "classes": 400,
            "num_train": 240_000,  # P 4: about; the manifest's count decides a run
            "num_val": 20_000,
            "batch_size": 4096,  # P 4
            "microbatch": microbatch["video"],
            "frames": 32,  # P 4
            # P A: 32 frames at stride 2 (C: 2 s, then 32 uniform: clip = "seconds")
            "clip": "stride",
            "views": "4x3",  # P A: 4 clips x 3 crops in the last evaluation
            "stride": 2,
            "size": 224,
            "crop": "random_resized",  # C: after short side 256
            "interpolation": "bilinear",  # C
            "flip": 0.5,  # C
            "head_dropout": 0.5,  # P A
            "remat": "block",  # C: activation checkpointing for clips
            **mixing(),
        }
    )
    config.data.sunrgbd = ConfigDict(
        {
            "kind": "rgbd",
            "ratio": 10.0,  # P 4
            "head": "rgbd",
            "classes": 19,
            "num_train": 4_845,
            "num_val": 4_659,
            "batch_size": 4096,  # P 4
            "microbatch": microbatch["image"],
            "frames": 1,
            "size": 224,
            "crop": "random_resized",  # C
            "interpolation": "bilinear",  # C
            "flip": 0.5,
            "jitter": (0.4, 0.4, 0.4, 0.4),  # C: RGB only
            "erase": 0.25,  # C: all 4 channels
            "rgb_drop": 0.5,  # P A
            "head_dropout": 0.5 if in21k else 0.0,  # P A: only with IN21K
            **mixing(),
        }
    )
    for name in set(MIXTURES["in21k"]) - set(MIXTURES[mixture]):
        del config.data[name]

    # -------------------------------------------------------------- training
    config.train = ConfigDict()
    config.train.epochs = 90.0 if alone else 500.0  # P 4; alone K: as Swin Transformer on IN21K
    config.train.steps = 0  # 0: from the epochs; else it wins
    config.train.seed = 0
    config.train.batching = "separate"  # P 4.3: one dataset a step; "mixed" is the ablation
    config.train.batch_size = 0  # of a mixed step, over all datasets; 0: the largest of theirs

    config.optimizer = ConfigDict()
    config.optimizer.peak = 2e-3  # P A
    config.optimizer.start = 2e-6  # C
    config.optimizer.cooldown = 2e-4  # C: where the cosine ends and the cool-down starts
    config.optimizer.end = 1e-6  # C
    config.optimizer.warmup = 0.1  # P A: the first tenth, linear
    config.optimizer.cooldown_start = 0.9  # P A: the last tenth, linear
    config.optimizer.decay = 0.05  # P A; none on biases, norms and position tables (C)
    config.optimizer.clip = 0.0  # C: off
    config.optimizer.ema = 0.9999  # P A: "decay of 1e-4"
    config.mix = ConfigDict({"group": 32})  # C: samples that share one lambda, a GPU's batch

    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})  # -1: all remaining devices
    config.checkpoint = ConfigDict({"every": 500, "keep_last": 2, "keep_best": True})
    config.eval = ConfigDict(
        {"every": 2000, "batch_size": 256, "retrieval": 6000}
    )  # steps; about 3 epochs
    config.log = ConfigDict(
        {
            "every": 20,
            "tensorboard": True,
            "compile_cache": "",
            "profile": "",
            "hang_minutes": 30.0,
        }
    )
    config.hardware = ConfigDict(
        {"platform": "tpu", "chips": 64, "teraflops": 197.0, "utilisation": 0.3, "memory_gib": 16.0}
    )  # TPU v5e
    return config


def mixing() -> dict[str, float]:
    """Mixup, cutmix and label smoothing, the same for every dataset (P A, C)."""
    return {"mixup": 0.8, "cutmix": 1.0, "mix_prob": 1.0, "switch_prob": 0.5, "smoothing": 0.1}
