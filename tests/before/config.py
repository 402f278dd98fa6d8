"""The demo with a model of 6,736 parameters, in batches of eight: the run that `run/` is of."""

from configs import demo


def get_config():
    config = demo.get_config()
    config.name = "before"
    with config.unlocked():
        config.model.update(
            {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 1), "window": (2, 2, 2)}
        )
    for name in demo.DATASETS.values():
        config.data[name].batch_size = 8
    config.mix.group = 4
    config.train.steps = 8
    config.checkpoint.every = 4
    config.eval.every = 0
    config.eval.retrieval = 0
    config.log.tensorboard = False
    return config
