import numpy as np
import pytest

from omnivore_jax.eval.metrics import mean_score, parameter_account
from omnivore_jax.model.variants import model_config
from omnivore_jax.tasks.classification import Classification


def result(ranks):
    rank = np.array(ranks, np.int32)
    floats = rank.astype(np.float32)
    return Classification(3, rank, rank, rank, floats, floats, [])


def test_every_dataset_counts_the_same_in_the_mean():
    assert mean_score({"large": result([0] * 99 + [1]), "small": result([0, 2])}) == pytest.approx(
        (0.99 + 0.5) / 2
    )


def test_the_account_of_swin_t_is_that_of_the_released_model():
    """FACTS 1.3: a trunk with the depth embedding, of 3,360 parameters, and three heads."""
    heads = {"image": 1000, "video": 400, "rgbd": 19}
    account = parameter_account(
        model_config("omnivore_swin_t", position_bias="joint"), heads, {"rgbd"}
    )
    assert account.trunk == 27_853_830 and account.joint == 28_945_041
    assert account.heads == {"image": 769_000, "video": 307_600, "rgbd": 14_611}
    assert account.separate == {
        "image": 27_853_830 - 3_360 + 769_000,
        "video": 27_853_830 - 3_360 + 307_600,
        "rgbd": 27_853_830 + 14_611,
    }
    assert account.saved == pytest.approx(2.924, abs=1e-3)
