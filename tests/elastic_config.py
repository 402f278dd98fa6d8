"""The demo with a model of some 36,000 parameters, of which the largest are divided over devices.

Random is all that can be: mixup, drop path, RGB drop, colours.
"""

from configs import demo


def get_config():
    config = demo.get_config()
    config.name = "elastic"
    with config.unlocked():
        config.model.update(
            {"embed_dim": 16, "depths": (1, 1), "num_heads": (2, 2), "window": (2, 2, 2)}
        )
    config.model.drop_path = 0.1
    for name in demo.DATASETS.values():
        config.data[name].batch_size = 8
        config.data[name].mixup = 0.8
    config.mix.group = 2
    config.train.steps = 24
    config.train.batch_size = 12  # of a mixed step
    config.checkpoint.every = 2
    config.eval.every = 0
    config.eval.retrieval = 0
    config.log.update({"tensorboard": False, "every": 1})
    return config
