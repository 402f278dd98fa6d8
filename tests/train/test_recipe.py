import pytest

from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.tasks.classification import ClassificationTask
from omnivore_jax.train.recipe import Recipe, TrainDataset


def test_the_defaults_are_the_papers_for_rgb():
    task, recipe, preprocessing = TrainDataset(ClassificationTask("image", 1000))
    assert (recipe.mixup, recipe.cutmix, recipe.switch_prob) == (0.8, 1.0, 0.5)
    assert task.smoothing == 0.1 and preprocessing.mean == (0.485, 0.456, 0.406)
    assert (preprocessing.disparity_mean, preprocessing.disparity_std) == (0.0418, 0.0295)


@pytest.mark.parametrize(
    "wrong",
    [{"microbatch": -1}, {"erase": 1.5}, {"jitter": (0.1, 0.1, 0.1, 0.6)}, {"mixup": -0.1}],
    ids=str,
)
def test_an_impossible_setting_is_named_with_its_remedy(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=.*;"):
        Recipe(**wrong)


def test_a_deviation_of_zero_is_refused():
    with pytest.raises(ValueError, match="all must be above 0"):
        Preprocessing(std=(0.0, 1.0, 1.0))
