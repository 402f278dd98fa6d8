import pytest
from omnivore_jax.train.task import TaskConfig, heads


def test_the_defaults_are_the_papers_for_rgb():
    task = TaskConfig(head="image", classes=1000)
    assert (task.mixup, task.cutmix, task.smoothing, task.switch_prob) == (0.8, 1.0, 0.1, 0.5)
    assert task.preprocessing.mean == (0.485, 0.456, 0.406)
    assert (task.preprocessing.disparity_mean, task.preprocessing.disparity_std) == (0.0418, 0.0295)


@pytest.mark.parametrize(
    "wrong",
    [
        {"head": ""},
        {"classes": 0},
        {"microbatch": -1},
        {"erase": 1.5},
        {"smoothing": 1.0},
        {"jitter": (0.1, 0.1, 0.1, 0.6)},
        {"mixup": -0.1},
        {"std": (0.0, 1.0, 1.0)},
    ],
    ids=str,
)
def test_an_impossible_setting_is_named_with_its_remedy(wrong):
    with pytest.raises(ValueError, match=f"^{next(iter(wrong))}=.*;|all must be above 0"):
        TaskConfig(**{"head": "image", "classes": 10} | wrong)


def test_two_datasets_share_a_head_only_with_the_same_classes():
    tasks = {
        "one": TaskConfig("image", 10),
        "two": TaskConfig("image", 10),
        "three": TaskConfig("video", 4),
    }
    assert heads(tasks) == {"image": 10, "video": 4}
    with pytest.raises(
        ValueError, match=r"data.four.classes=11, but another dataset gives head 'image' 10 classes"
    ):
        heads(tasks | {"four": TaskConfig("image", 11)})
