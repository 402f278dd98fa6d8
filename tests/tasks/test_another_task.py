"""A task of another shape than classification fits the step, the evaluator and the optimiser.

Per-pixel labels, a head that reads maps of two stages, an auxiliary loss on one of them.
"""

from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from sklearn.metrics import jaccard_score

from omnivore_jax.core.tree import flatten
from omnivore_jax.eval.evaluator import Evaluator
from omnivore_jax.eval.predictor import Feed, Predictor
from omnivore_jax.model.layers import Linear
from omnivore_jax.model.params import abstract_model, merge
from omnivore_jax.model.preprocess import Preprocessing, preprocess
from omnivore_jax.train.mesh import MeshConfig, batch_sharding
from omnivore_jax.train.recipe import Recipe, TrainDataset
from omnivore_jax.train.state import init_state
from omnivore_jax.train.step import make_train_step
from tests.train import miniature

CLASSES, IGNORE = 3, 255


class MapHead(nnx.Module):
    """Scores every pixel from the map of stage 0, with an auxiliary score from stage 1."""

    stages = ("premerge0", "premerge1")

    def __init__(self, config, classes, *, key):
        one, two = jax.random.split(key)
        self.near = Linear(config.width(0), classes, std=0.1, key=one)
        self.auxiliary = Linear(config.width(1), classes, std=0.1, key=two)

    def score(self, pooled, maps, keys, rate):
        def up(scores, factor):
            return jnp.repeat(jnp.repeat(scores[:, 0], factor, 1), factor, 2)

        near, far = self.near(maps["premerge0"]), self.auxiliary(maps["premerge1"])
        return {"scores": up(near, 4), "auxiliary": up(far, 8)}


@dataclass(frozen=True)
class MapSpec:
    classes: int

    def make(self, config, *, key):
        return MapHead(config, self.classes, key=key)


@dataclass(frozen=True)
class MapResult:
    confusion: np.ndarray
    n: int

    @property
    def score(self):
        both = np.diag(self.confusion)
        return float(np.mean(both / (self.confusion.sum(0) + self.confusion.sum(1) - both)))

    @property
    def score_name(self):
        return "mIoU"

    def row(self):
        return {"n": self.n, "miou": self.score}


@dataclass(frozen=True)
class MapTask:
    """Labels int32 [b h w]; 255 is nobody's."""

    head: str = "map"
    head_dropout: float = 0.0
    spec: MapSpec = MapSpec(CLASSES)
    mixes: bool = False
    labels: str = "map"

    def check_classes(self, names, dataset):
        return None

    def named(self, names):
        return self

    def targets(self, label, other, own):
        return {"label": label}

    def sums(self, output, targets, label, mask):
        own = self._loss(output["scores"], targets["label"])
        loss = own + 0.4 * self._loss(output["auxiliary"], targets["label"])
        return {"loss": jnp.where(mask, loss, 0).sum(), "count": mask.sum()}

    def _loss(self, scores, label):
        known = label != IGNORE
        logs = jax.nn.log_softmax(scores)
        own = jnp.take_along_axis(logs, jnp.where(known, label, 0)[..., None], -1)[..., 0]
        return -jnp.where(known, own, 0).sum((1, 2)) / jnp.maximum(known.sum((1, 2)), 1)

    def means(self, sums):
        return {"loss": float(sums["loss"]) / int(sums["count"]), "n": int(sums["count"])}

    def restore(self, output, size, *, flipped):
        raise NotImplementedError

    def fuse(self, output, fusion):
        return jax.tree.map(lambda x: x.mean(1), output)

    def judge(self, output, label):
        known, predicted = label != IGNORE, jnp.argmax(output["scores"], -1)
        pairs = jnp.where(known, label * CLASSES + predicted, CLASSES**2)
        return jax.vmap(lambda p: jnp.bincount(p.ravel(), length=CLASSES**2))(pairs)

    def result(self, judged, ids):
        return MapResult(judged.sum(0).reshape(CLASSES, CLASSES), len(judged))


TASK = MapTask()


def batch(mesh):
    """Photographs whose pixels are labelled by their brightness; the border is left out."""
    sample = jax.device_get(miniature.batch("pictures"))
    grey = sample.rgb[:, 0].mean(-1)
    label = np.digitize(grey, (80, 130)).astype(np.int32)
    label[:, :2] = IGNORE
    return sample._replace(label=label), batch_sharding(mesh)


@cache
def trained(mesh):
    datasets = {
        "maps": TrainDataset(TASK, Recipe(microbatch=1)),
        "pictures": miniature.datasets(microbatch=2, mix_prob=0.0)["pictures"],
    }
    trainer = miniature.trainer(mesh)._replace(datasets=datasets)
    state = init_state(trainer.model, trainer.heads, 0, trainer.mesh)
    before = jax.device_get(state.params["heads"]["map"])
    step, losses = make_train_step(trainer), []
    host, sharding = batch(trainer.mesh)
    placed = {  # every step is a mixed one, so that one program serves them all
        "maps": jax.device_put(host, sharding),
        "pictures": miniature.batch("pictures", mesh),
    }
    for _ in range(5):
        state, metrics = step(state, placed)
        losses.append(TASK.means(jax.device_get(metrics["datasets"]["maps"]))["loss"])
    return trainer, state, losses, before


def test_labels_of_every_pixel_are_trained_five_steps_on_eight_devices_and_scored():
    trainer, state, losses, before = trained(MeshConfig(data=8))
    assert losses[-1] < losses[0] and np.isfinite(losses).all()
    after = flatten(jax.device_get(state.params["heads"]["map"]))
    assert all(np.abs(leaf - flatten(before)[path]).max() > 0 for path, leaf in after.items())
    host, sharding = batch(trainer.mesh)
    predictor = Predictor(trainer.model, trainer.heads, mesh=trainer.mesh)
    evaluator = Evaluator(predictor, lambda b: jax.device_put(b, sharding))
    result = evaluator.evaluate(state.params, [(host, ["x"] * 13)], TASK, Feed(Preprocessing()))
    scores = predicted(trainer, state.params, host)
    known = host.label[:13] != IGNORE
    oracle = jaccard_score(host.label[:13][known], scores.argmax(-1)[known], average="macro")
    assert result.n == 13 and result.row()["miou"] == result.score
    np.testing.assert_allclose(result.score, oracle, atol=1e-3)


def predicted(trainer, params, host):
    """Scores of the real samples, on one device with the module itself."""
    params = jax.device_put(jax.device_get(params), jax.devices()[0])
    model = merge(abstract_model(trainer.model, trainer.heads)[0], params)
    x = preprocess(jax.tree.map(lambda leaf: leaf[:13], host), Preprocessing())
    return np.asarray(jax.jit(lambda x: model(x, "map")["scores"])(x))


def test_one_device_gives_the_losses_of_eight():
    np.testing.assert_allclose(trained(None)[2], trained(MeshConfig(data=8))[2], rtol=1e-4)
