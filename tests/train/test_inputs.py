from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from omnivore_jax.train.inputs import make_supply, micro_batch
from omnivore_jax.train.keys import dataset_key, group_keys
from omnivore_jax.train.mesh import MeshConfig, batch_shards, make_mesh
from omnivore_jax.train.microbatch import split_batch
from omnivore_jax.train.mix import draw_blend
from tests.train.miniature import SAMPLES, SIDE, batch, datasets

KEY = dataset_key(0, jnp.int32(7), "reliefs")
OFF = {"mixup": 0.0, "cutmix": 0.0, "rgb_drop": 0.0, "erase": 0.0}


def changed(dataset, smoothing=0.1, **recipe):
    task = replace(dataset.task, smoothing=smoothing)
    return dataset._replace(task=task, recipe=replace(dataset.recipe, **recipe))


def inputs_of(dataset, mesh=None, group=6, samples=None):
    """Runs every micro-batch and puts the samples back into the order of the batch."""
    mesh = make_mesh(MeshConfig(), jax.devices()[:1]) if mesh is None else make_mesh(mesh)
    samples = jax.device_get(batch("reliefs")) if samples is None else samples
    split = split_batch(len(samples.mask), batch_shards(mesh.shape), dataset)

    @jax.jit
    def run(samples, number):
        return micro_batch(make_supply(samples, split, dataset, KEY, group, mesh), number)[:4]

    rounds = jax.device_get([run(samples, number) for number in range(split.count)])

    def gather(*arrays):
        whole = np.stack([a.reshape(split.shards, split.micro, *a.shape[1:]) for a in arrays], 1)
        return whole.reshape(SAMPLES, *whole.shape[3:])

    return [gather(*arrays) for arrays in zip(*rounds, strict=True)]


@pytest.fixture(scope="module")
def dataset():
    return datasets()["reliefs"]


@pytest.fixture(scope="module")
def whole(dataset):
    return inputs_of(dataset)


@pytest.mark.parametrize(
    ("mesh", "microbatch"),
    [(None, 8), (None, 1), (MeshConfig(data=-1, tensor=2), 2)],
    ids=["parts of groups", "partners elsewhere", "groups over four devices"],
)
def test_what_a_sample_becomes_depends_neither_on_micro_batches_nor_on_devices(
    dataset, whole, mesh, microbatch
):
    for found, expected in zip(
        inputs_of(changed(dataset, microbatch=microbatch), mesh), whole, strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_without_augmentation_pixels_are_standardised_and_targets_one_hot(dataset):
    samples = jax.device_get(batch("reliefs"))
    x, targets, label, mask = inputs_of(changed(dataset, smoothing=0.0, **OFF))
    rgb = (samples.rgb / 255 - np.array(dataset.preprocessing.mean)) / np.array(
        dataset.preprocessing.std
    )
    disparity = (samples.disparity.clip(0.01, 75) / 75 - 0.0418) / 0.0295
    np.testing.assert_allclose(x, np.concatenate([rgb, disparity], -1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(targets, np.eye(5)[samples.label])
    np.testing.assert_array_equal(label, samples.label)
    np.testing.assert_array_equal(mask, samples.mask)


def test_a_sample_is_mixed_with_its_neighbour_by_the_blend_of_its_group_but_never_with_padding(
    dataset,
):
    plain, one_hot, _, mask = inputs_of(changed(dataset, smoothing=0.0, **OFF))
    x, targets, _, _ = inputs_of(changed(dataset, smoothing=0.0, **OFF | {"mixup": 0.8}))
    recipe = replace(dataset.recipe, cutmix=0.0)
    blend = jax.jit(lambda keys: draw_blend(keys, recipe, (SIDE, SIDE)))(
        group_keys(KEY, jnp.arange(3))
    )
    own = np.asarray(blend.own, np.float64)
    assert not mask[13] and mask[12], "the last sample has padding for a neighbour"
    for i in range(SAMPLES):
        partner = i + 1 if i % 2 == 0 else i - 1
        share = own[i // 6] if mask[i] and mask[partner] else 1
        np.testing.assert_allclose(x[i], share * plain[i] + (1 - share) * plain[partner], atol=2e-5)
        np.testing.assert_allclose(
            targets[i], share * one_hot[i] + (1 - share) * one_hot[partner], atol=1e-6
        )


def test_a_batch_that_is_not_padded_to_the_devices_says_to_what(dataset):
    samples = jax.tree.map(lambda array: array[:13], jax.device_get(batch("reliefs")))
    with pytest.raises(ValueError, match="a batch of 13 on 1 devices; pad it to 14 with masked"):
        inputs_of(dataset, samples=samples)


def test_dropped_rgb_is_zero_after_standardising_and_depth_stays(dataset):
    plain = inputs_of(changed(dataset, smoothing=0.0, **OFF))[0]
    x = inputs_of(changed(dataset, smoothing=0.0, **OFF | {"rgb_drop": 0.5}))[0]
    dropped = (x[..., :3] == 0).all((1, 2, 3, 4))
    assert 0 < dropped.sum() < SAMPLES
    np.testing.assert_array_equal(x[..., 3], plain[..., 3])
    np.testing.assert_array_equal(x[~dropped], plain[~dropped])
