import socket
import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix, log_loss, recall_score, top_k_accuracy_score

from omnivore_jax.core.types import Batch
from omnivore_jax.data.loader import eval_batches
from omnivore_jax.data.sample import Sample
from omnivore_jax.eval import predictor
from omnivore_jax.eval.evaluator import Evaluator
from omnivore_jax.eval.predictor import Feed, Predictor
from omnivore_jax.model.config import ModelConfig
from omnivore_jax.model.params import abstract_model, merge
from omnivore_jax.model.preprocess import Preprocessing
from omnivore_jax.tasks.classification import ClassificationTask
from tests.params import random_params

MODEL = ModelConfig(
    "miniature", embed_dim=16, depths=(1,), num_heads=(2,), window=(1, 4, 4), init_std=0.15
)
HEADS = {"digit": 10, "half": 2}
SPEC = Preprocessing()
TASK = ClassificationTask("digit", 10)
N = 157


class Digits:
    """Handwritten digits, 8 x 8, in grey; with depth, the ink stands out of the paper."""

    def __init__(self, depth: bool = False, n: int = N):
        self.images, self.labels = load_digits(return_X_y=True)
        self.depth, self.n = depth, n

    def __len__(self) -> int:
        return self.n

    def load(self, index: int, seed: int) -> Sample:
        grey = self.images[index].reshape(1, 8, 8, 1)
        disparity = (1 + grey / 8).astype(np.float32) if self.depth else None
        return Sample(
            np.repeat(15 * grey, 3, -1).astype(np.uint8),
            disparity,
            int(self.labels[index]),
            f"digit {index}",
        )


@jax.jit
def linear(params, batch: Batch) -> jax.Array:
    """A classifier that is not ours to be judged: logistic regression, fitted by scikit-learn."""
    return batch.rgb[..., 0].reshape(len(batch.rgb), -1) @ params["kernel"] + params["bias"]


class Logits:
    """A predictor whose logits come from a function of (params, batch)."""

    def __init__(self, logits):
        self.logits = jax.jit(logits)

    def judge(self, params, batch, task, feed):
        return jax.jit(task.judge)(self.logits(params, batch), batch.label)


def classify(logits, params, batches, classes):
    task = ClassificationTask("digit", classes)
    return Evaluator(Logits(logits)).evaluate(params, batches, task, Feed(SPEC))


@pytest.fixture(scope="module")
def fitted():
    """Parameters of the classifier, rough on purpose, and scikit-learn's own probabilities."""
    images, labels = load_digits(return_X_y=True)
    regression = LogisticRegression(max_iter=3).fit(15 * images[200:400], labels[200:400])
    params = jax.device_put({"kernel": regression.coef_.T, "bias": regression.intercept_})
    return params, regression.predict_proba(15 * images[:N]), labels[:N]


@pytest.fixture(scope="module")
def params():
    return jax.device_put(random_params(MODEL, HEADS))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("batch_size", [32, 157])
def test_figures_are_those_of_scikit_learn_on_a_split_that_no_batch_divides(fitted, batch_size):
    params, probabilities, labels = fitted
    result = classify(linear, params, eval_batches(Digits(), batch_size), classes=10)
    predicted = probabilities.argmax(1)
    assert 0.3 < result.top1 < 0.99
    assert result.n == N and result.ids == [f"digit {i}" for i in range(N)]
    assert np.array_equal(result.label, labels) and np.array_equal(result.predicted, predicted)
    assert result.top1 == pytest.approx(np.mean(predicted == labels))
    assert result.top5 == pytest.approx(top_k_accuracy_score(labels, probabilities, k=5))
    assert result.loss == pytest.approx(log_loss(labels, probabilities), rel=1e-4)
    assert np.array_equal(result.confusion, confusion_matrix(labels, predicted))
    np.testing.assert_allclose(result.recall, recall_score(labels, predicted, average=None))
    assert result.row() == {"n": N, "loss": result.loss, "top1": result.top1, "top5": result.top5}


def logits_of(values) -> dict[str, jax.Array]:
    return {"logits": jnp.array(values, jnp.float32)}


def judge(logits, labels, classes=3):
    """Classifies samples whose logits are given."""
    n = len(labels)
    rgb = np.zeros((n, 1, 4, 4, 3), np.uint8)
    batch = Batch(rgb, None, np.array(labels, np.int32), np.ones(n, bool))
    return classify(
        lambda given, _: given["logits"], logits_of(logits), [(batch, [""] * n)], classes
    )


def test_what_padding_holds_is_never_counted():
    labels, mask = np.array([1, 2, 2, 0], np.int32), np.array([True, True, False, False])
    batch = Batch(np.full((4, 1, 4, 4, 3), 255, np.uint8), None, labels, mask)
    logits = logits_of([[0, 9, 0], [9, 0, 0], [0, 0, np.nan], [np.inf, 0, 0]])
    result = classify(lambda given, _: given["logits"], logits, [(batch, ["a", "b"])], classes=3)
    assert (result.n, result.top1, result.ids) == (2, 0.5, ["a", "b"]) and np.isfinite(result.loss)


def test_of_equal_scores_the_first_class_wins_so_a_constant_is_not_always_right():
    result = judge(np.zeros((3, 3)), [0, 1, 2])
    assert result.rank.tolist() == [0, 1, 2] and result.predicted.tolist() == [0, 0, 0]


def test_a_score_that_is_not_a_number_is_never_right():
    result = judge([[np.nan, 1, 0], [np.nan, 1, 0], [np.nan] * 3], [0, 1, 2])
    assert result.top1 == 0


def test_top_5_of_five_classes_is_left_out_and_a_class_without_samples_has_no_recall():
    result = judge(np.eye(5)[[0, 1, 2]], [0, 1, 3], classes=5)
    assert result.top5 is None and set(result.row()) == {"n", "loss", "top1"}
    np.testing.assert_array_equal(result.recall, [1, 1, np.nan, 0, np.nan])


def test_a_label_that_the_head_lacks_and_an_empty_split_are_errors():
    with pytest.raises(ValueError, match="labels run from 0 to 3, but the head has 3 classes"):
        judge(np.zeros((2, 3)), [0, 3])
    with pytest.raises(ValueError, match="the split gave no batches"):
        classify(linear, {}, [], classes=3)


@cache
def ours():
    return Evaluator(Predictor(MODEL, HEADS))


@jax.jit
def by_hand(params, x):
    """Scores of normalised inputs and their last map, with the module itself."""
    model = merge(abstract_model(MODEL, HEADS)[0], params)
    return model(x, head="digit"), model.features(x, ["last"])["last"]


def test_depth_alone_has_colours_of_zero_and_rgb_alone_three_channels(params):
    samples = [Digits(depth=True).load(i, 0) for i in range(32)]
    rgb = (np.stack([s.rgb for s in samples]) / 255 - SPEC.mean) / SPEC.std
    depth = (
        np.stack([s.disparity for s in samples]) / 75 - SPEC.disparity_mean
    ) / SPEC.disparity_std
    inputs = {
        "all": np.concatenate([rgb, depth], -1),
        "depth": np.concatenate([0 * rgb, depth], -1),
        "rgb": rgb,
    }
    found, labels = {}, [s.label for s in samples]
    for mode, x in inputs.items():
        batches = eval_batches(Digits(depth=True, n=32), 32)
        found[mode] = ours().evaluate(params, batches, TASK, Feed(SPEC, mode)).losses
        logits, _ = by_hand(params, x.astype(np.float32))
        logits = np.asarray(logits)
        np.testing.assert_allclose(
            found[mode], logsumexp(logits, 1) - logits[range(32), labels], rtol=1e-4
        )
    assert not np.allclose(found["all"], found["depth"]) and not np.allclose(
        found["all"], found["rgb"]
    )


def test_a_split_compiles_once_and_copies_nothing_in_passing(params, monkeypatch):
    traces = []
    inputs = predictor._inputs
    monkeypatch.setattr(predictor, "_inputs", lambda *a: traces.append(1) or inputs(*a))
    evaluator = Evaluator(Predictor(MODEL, HEADS))
    with jax.transfer_guard("disallow"):
        for _ in range(2):
            evaluator.evaluate(params, eval_batches(Digits(), 32), TASK, Feed(SPEC))
    assert len(traces) == 1


def test_features_have_length_1_and_are_the_mean_of_the_last_map_after_the_final_norm(params):
    with jax.transfer_guard("disallow"):
        found = ours().features(params, eval_batches(Digits(), 32), Feed(SPEC))
    assert (
        found.feature.dtype == np.float32
        and found.feature.shape == (N, 16)
        and found.ids[-1] == f"digit {N - 1}"
    )
    x = (np.stack([Digits().load(i, 0).rgb for i in range(32)]) / 255 - SPEC.mean) / SPEC.std
    pooled = np.asarray(by_hand(params, x.astype(np.float32))[1]).mean((1, 2, 3))
    oracle = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    np.testing.assert_allclose(found.feature[:32], oracle, atol=1e-5)


def test_eight_devices_give_the_figures_of_one(params):
    mesh = jax.make_mesh((2, 4), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
    divided, whole = NamedSharding(mesh, P(("data", "fsdp"))), NamedSharding(mesh, P())
    place = lambda batch: jax.device_put(batch, divided)  # noqa: E731
    evaluator = Evaluator(Predictor(MODEL, HEADS, mesh=mesh), place)
    batches = eval_batches(Digits(), 32)
    everywhere = jax.device_put(params, whole)
    with jax.transfer_guard("disallow"):
        many = evaluator.evaluate(everywhere, batches, TASK, Feed(SPEC))
    one = ours().evaluate(params, eval_batches(Digits(), 32), TASK, Feed(SPEC))
    assert many.n == N and many.ids == one.ids and np.mean(many.predicted == one.predicted) > 0.99
    np.testing.assert_allclose(many.losses, one.losses, atol=1e-5)


def test_depth_of_a_dataset_without_depth_and_an_unknown_head_are_errors(params):
    with pytest.raises(ValueError, match="mode='depth', but the dataset has no depth"):
        ours().evaluate(params, eval_batches(Digits(n=3), 3), TASK, Feed(SPEC, "depth"))
    with pytest.raises(
        ValueError, match="head='letter' is not in this model; use one of digit, half"
    ):
        letters = ClassificationTask("letter", 10)
        ours().evaluate(params, eval_batches(Digits(n=3), 3), letters, Feed(SPEC))


def test_views_of_a_sample_are_fused_before_it_is_judged(params):
    """Three views in front of time: the mean of their logits or probabilities."""
    views = [np.stack([Digits().load(3 * i + v, 0).rgb for v in range(3)]) for i in range(4)]
    batch = Batch(np.stack(views), None, np.arange(4, dtype=np.int32), np.ones(4, bool))
    x = (batch.rgb.reshape(12, 1, 8, 8, 3) / 255 - SPEC.mean) / SPEC.std
    logits = np.asarray(by_hand(params, x.astype(np.float32))[0]).reshape(4, 3, 10)
    oracle = {"logits": logits.mean(1), "probs": np.log(softmax(logits, -1).mean(1))}
    for fusion, fused in oracle.items():
        feed = Feed(SPEC, views=3, fusion=fusion)
        losses = ours().evaluate(params, [(batch, ["a"] * 4)], TASK, feed).losses
        expected = logsumexp(fused, 1) - fused[range(4), range(4)]
        np.testing.assert_allclose(losses, expected, rtol=1e-4)


TWO = """
import sys, jax, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from omnivore_jax.core import dist
from omnivore_jax.data.loader import eval_batches, on_devices
from omnivore_jax.eval.evaluator import Evaluator
from omnivore_jax.eval.predictor import Feed, Predictor
from tests.eval.test_evaluator import HEADS, MODEL, N, SPEC, TASK, Digits
from tests.params import random_params

jax.config.update("jax_num_cpu_devices", 2)
dist.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
mesh = jax.make_mesh((2, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2)
place_whole = jax.jit(lambda params: params, out_shardings=NamedSharding(mesh, P()))
params = place_whole(random_params(MODEL, HEADS))
put = on_devices(NamedSharding(mesh, P(("data", "fsdp"))), {"digits": 32})
place = lambda batch: put({"digits": batch})["digits"]
shard = jax.process_index(), jax.process_count()
evaluator = Evaluator(Predictor(MODEL, HEADS, mesh=mesh), place)
with jax.transfer_guard("disallow"):
    result = evaluator.evaluate(params, eval_batches(Digits(), 16, shard), TASK, Feed(SPEC))
    seen = evaluator.features(params, eval_batches(Digits(), 16, shard), Feed(SPEC))
assert np.array_equal(seen.label, result.label)
print("result", result.n, len(result.ids), result.loss, *np.bincount(seen.label), flush=True)
"""


@pytest.mark.slow
def test_two_processes_both_have_the_figures_of_one(params):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    calls = [[sys.executable, "-c", TWO, port, str(process)] for process in range(2)]
    root = Path(__file__).parent.parent.parent
    both = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True, cwd=root) for call in calls]
    said = []
    for process in both:
        out, _ = process.communicate(timeout=180)
        said += [line.split() for line in out.splitlines() if line.startswith("result")]
    one = ours().evaluate(params, eval_batches(Digits(), 32), TASK, Feed(SPEC))
    assert len(said) == 2 and said[0] == said[1]
    _, n, ids, loss, *counts = said[0]
    assert (int(n), int(ids)) == (N, 0) and float(loss) == pytest.approx(one.loss, rel=1e-5)
    assert [int(count) for count in counts] == np.bincount(one.label).tolist()
