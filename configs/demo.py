"""The demo.

One small model, trained jointly on handwritten digits as pictures, as moving clips and as reliefs
(RGB-D).

    python -m omnivore_jax.main --config=configs/demo.py          # one dataset a step (the paper's
                                                                  way)
    python -m omnivore_jax.main --config=configs/demo.py:mixed    # every step carries all three
    python -m omnivore_jax.main --config=configs/demo.py:image    # one alone, for its steps of the
                                                                  joint run
    python -m omnivore_jax.main --config=configs/demo.py:maps     # the joint model goes on to label
                                                                  the pixels of reliefs

Figures without a source were found by trying (README, "The demo").
"""

from ml_collections import ConfigDict

DATASETS = {"image": "demo_image", "video": "demo_video", "rgbd": "demo_rgbd"}
EPOCHS = 17.5  # 5,412 joint steps
MAP_EPOCHS = 4.0  # 375 steps


def get_config(variant: str = "joint") -> ConfigDict:
    """`variant`: joint, mixed, maps, or image, video, rgbd for one dataset alone."""
    if variant not in ("joint", "mixed", "maps", *DATASETS):
        raise ValueError(
            f"configs/demo.py:{variant} is not known; use joint, mixed, maps, image, video or rgbd"
        )
    config = ConfigDict()
    config.name = "demo" if variant == "joint" else f"demo-{variant}"
    config.init_from = "runs/demo" if variant == "maps" else ""
    config.model = ConfigDict(
        {
            "name": "demo",
            "position_bias": "joint",
            "window_index": "geometric",
            "depth_embed": "summed",
            "drop_path": 0.0,
            "dtype": "float32",
            # .02 is made for widths of 96 and more; at 32 it needs four times the steps
            "init_std": 0.15,
        }
    )
    config.attention = ConfigDict({"backend": "auto"})

    config.data = ConfigDict(
        {"root": "", "bad_budget": 0.001, "workers": 0, "threads": 2, "prefetch": 4}
    )
    rows = {"image": image(), "video": video(), "rgbd": rgbd()}
    for name, row in rows.items():
        if variant in ("joint", "mixed", name):
            config.data[DATASETS[name]] = ConfigDict(row)
    if variant == "maps":
        config.data["demo_maps"] = ConfigDict(maps())

    config.train = ConfigDict(
        {
            # so one dataset alone has just the steps that it has in the joint run
            "epochs": MAP_EPOCHS if variant == "maps" else EPOCHS,
            "steps": 0,
            "seed": 0,
            "batching": "mixed" if variant == "mixed" else "separate",
            "batch_size": 159 if variant == "mixed" else 0,  # 60 + 39 + 60
        }
    )
    config.optimizer = ConfigDict(
        {
            "peak": 3e-3,
            "start": 0.0,
            "cooldown": 0.0,
            "end": 0.0,
            "warmup": 0.0,
            "warmup_steps": 60,
            "cooldown_start": 1.0,
            "betas": (0.9, 0.95),  # .999 is made for longer runs
            "decay": 0.05,
            "clip": 1.0,
            "ema": 0.99,
        }
    )
    config.mix = ConfigDict({"group": 32})
    config.mesh = ConfigDict({"data": -1, "fsdp": 1, "tensor": 1})
    config.checkpoint = ConfigDict({"every": 1000, "keep_last": 2, "keep_best": True})
    config.eval = ConfigDict({"every": 2000, "batch_size": 250, "retrieval": 6000})
    config.log = ConfigDict(
        {
            "every": 50,
            "tensorboard": True,
            "compile_cache": "",
            "profile": "",
            "hang_minutes": 30.0,
        }
    )
    config.hardware = ConfigDict(
        {"platform": "cpu", "chips": 1, "teraflops": 0.1, "utilisation": 0.3, "memory_gib": 16.0}
    )  # 2 CPU cores
    return config


def image() -> dict:
    return common() | {
        "kind": "image",
        "head": "image",
        "classes": 10,
        "ratio": 1.0,
        "batch_size": 64,
        "frames": 1,
    }


def video() -> dict:
    return common() | {
        "kind": "video",
        "head": "video",
        "classes": 30,
        "ratio": 0.65,
        "batch_size": 32,
        "frames": 8,
    }


def rgbd() -> dict:
    return common() | {
        "kind": "rgbd",
        "head": "rgbd",
        "classes": 10,
        "ratio": 1.0,
        "batch_size": 64,
        "frames": 1,
        # without it depth alone is not learned, and nor is retrieval of depth maps
        "rgb_drop": 0.5,
        "disparity_max": 1.5,
        "disparity_mean": 0.416,
        "disparity_std": 0.048,
    }


def maps() -> dict:
    row = rgbd() | {
        "task": "segmentation",
        "head": "maps",
        "classes": 11,
        "channels": 64,
        "auxiliary_channels": 32,
        "head_dropout": 0.1,
    }
    del row["smoothing"]
    return row


def common() -> dict:
    return {
        "source": "embedded",
        "num_train": 6000,
        "num_val": 1000,
        "size": 32,
        "crop": "shift",  # up to 2 pixels
        "flip": 0.0,
        "channel_shuffle": True,
        "gain": 0.2,
        "smoothing": 0.1,
        "mixup": 0.0,
        "cutmix": 0.0,
        "mean": (0.35, 0.35, 0.35),
        "std": (0.25, 0.25, 0.25),
    }
