"""Figures are laid beside the paper's where dataset, view and model are those of a row."""

from dataclasses import replace

import numpy as np
import pytest

from omnivore_jax.data.datasets import PUBLIC, OpenDataset
from omnivore_jax.data.demo import EmbeddedDataset
from omnivore_jax.data.protocol import PROTOCOLS
from omnivore_jax.inference import paper
from omnivore_jax.inference.exam import Evaluation, Exam
from omnivore_jax.model.compiled import CompiledModel
from omnivore_jax.model.variants import model_config
from omnivore_jax.tasks.classification import Classification


def evaluation(dataset, views, n=None, head="", classes=0, mode="all"):
    """One whose result has the right size and nothing else."""
    public = PUBLIC[dataset]
    n = public.num_val if n is None else n
    zeros = np.zeros(n, np.int32)
    names = tuple(map(str, range(classes or public.classes)))
    samples = OpenDataset(EmbeddedDataset("demo_image", "test"), public.kind, names)
    exam = Exam(dataset, head or public.head, names, PROTOCOLS[views], samples, mode)
    floats = zeros.astype(np.float32)
    result = Classification(public.classes, zeros, zeros, zeros, floats, floats, [])
    return Evaluation(exam, result, 1)


FIGURES = {"top1": 0.84, "top5": 0.97}


def test_differences_are_points_beside_the_row_of_the_same_training():
    done = evaluation("imagenet", "center_224")
    lines, why = paper.compare(done, FIGURES, paper.B, False)
    assert why == "" and [(x.table, x.figure, x.paper) for x in lines] == [
        ("2", "top1", 84.0),
        ("2", "top5", 96.8),
    ]
    np.testing.assert_allclose([x.difference for x in lines], [0.0, 0.2], atol=1e-9)
    lines, _ = paper.compare(done, FIGURES, paper.B, True)
    assert [(x.table, x.paper) for x in lines] == [("4", 85.3), ("4", 97.5)]
    lines, _ = paper.compare(evaluation("kinetics400", "4x3", 19_100), FIGURES, paper.L, False)
    assert lines == []  # L is trained with IN21K alone


@pytest.mark.parametrize(
    ("wishes", "says"),
    [
        ({"n": 49_999}, "49,999 samples of 50,000"),
        ({"head": "image21k"}, "head 'image21k' is not that of the dataset"),
        ({"classes": 999}, "999 classes of 1,000"),
        ({"dataset": "kinetics400", "views": "1x1"}, "the view is 1 x 1, the paper's 4x3"),
        ({"dataset": "kinetics400", "views": "4x3", "n": 12_000}, "12,000 samples of about 20,000"),
        ({"dataset": "sunrgbd", "views": "center_224_depth", "mode": "depth"}, "saw depth alone"),
        ({"dataset": "ucf101", "views": "1x3"}, "the view is 1 x 3"),
    ],
)
def test_what_is_not_the_papers_is_not_compared_and_the_reason_said(wishes, says):
    asked = {"dataset": "imagenet", "views": "center_224"} | wishes
    lines, why = paper.compare(evaluation(**asked), FIGURES, paper.B, False)
    assert lines == [] and says in why


def test_a_dataset_or_a_model_that_the_paper_does_not_have():
    done = evaluation("pets", "center_224")
    exam = replace(done.exam, name="mine")
    assert paper.compare(replace(done, exam=exam), FIGURES, paper.B, False) == ([], "")
    assert paper.compare(done, FIGURES, "tiny", False)[1] == "the paper has no row of tiny on pets"
    large = replace(done, exam=replace(done.exam, protocol=PROTOCOLS["center_384"]))
    assert {x.paper for x in paper.compare(large, FIGURES, paper.L, False)[0]} == {96.1}


def test_rows_name_what_there_is_and_percents():
    assert {row.dataset for row in paper.ROWS} <= PUBLIC.keys()
    assert all(30 < value < 100 for row in paper.ROWS for value in row.figures.values())
    keys = [(row.table, row.dataset, row.variant, row.size) for row in paper.ROWS]
    assert len(set(keys)) == len(keys)


def test_a_file_of_other_people_stands_beside_both_rows_for_nobody_knows():
    lines, _ = paper.compare(evaluation("imagenet", "center_224"), FIGURES, paper.B, None)
    assert [(x.table, x.paper) for x in lines if x.figure == "top1"] == [("2", 84.0), ("4", 85.3)]

    def model(heads, **card):
        return CompiledModel(model_config("tiny"), heads, {}, card=card)

    told = paper.trained_with_in21k
    assert told(model({"image": 1000})) is False and told(model({paper.IN21K: 21_841})) is True
    assert told(model({"image": 1000}, source={"file": "swinB_imagenet21k.torch"})) is None
