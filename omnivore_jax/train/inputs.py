"""From the samples of a batch, as the host sent them, to what the model and the loss take.

One micro-batch at a time.

Order: to 0..1, colours, erasing, standardising, RGB drop, mixing. Only a micro-batch is ever held
in floating point.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, PyTree, Shaped

from omnivore_jax.core.types import Batch
from omnivore_jax.model.preprocess import standardise, to_unit
from omnivore_jax.train import keys, photometric
from omnivore_jax.train.mesh import BATCH
from omnivore_jax.train.microbatch import Split
from omnivore_jax.train.mix import blend_pixels, draw_blend, partners
from omnivore_jax.train.recipe import TrainDataset


class Inputs(NamedTuple):
    """A micro-batch, ready for the model."""

    x: Float[Array, "b t h w c"]
    targets: PyTree[Array]
    label: Shaped[Array, "b ..."]
    """The plain label, for accuracy."""
    mask: Bool[Array, "b"]
    keys: Key[Array, "b"]
    """One a sample, for the model."""


def divide(batch: Batch, split: Split, mesh: Mesh) -> Batch:
    """Views every array of a batch as [devices, samples of a device, ...]."""

    def view(array):
        array = array.reshape(split.shards, split.local, *array.shape[1:])
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, BATCH))

    return jax.tree.map(view, batch)


def micro_batch(
    divided: Batch,
    split: Split,
    number: Int[Array, ""] | int,
    dataset: TrainDataset,
    key: PRNGKeyArray,
    mesh: Mesh,
) -> Inputs:
    """Takes and augments micro-batch `number` of a divided batch.

    `key` is that of the dataset's part of the step.
    """
    at = number * split.micro + jnp.arange(split.micro)
    own, slots = _take(divided, split, at, number), _slots(split, at)
    uses = keys.sample_keys(key, slots)
    x = _augmented(own, uses, dataset)
    task, share = dataset.task, jnp.ones(own.mask.shape)
    targets = task.targets(own.label, own.label, share)
    if dataset.mixes:
        groups = keys.group_keys(key, slots // split.group)
        blend = draw_blend(groups, dataset.recipe, x.shape[2:4])
        other_x, other = _partner(x, own, divided, split, at, dataset, key)
        alone = ~(own.mask & other.mask)  # padding is nobody's partner
        blend = blend._replace(own=jnp.where(alone, 1.0, blend.own), paste=blend.paste & ~alone)
        x = blend_pixels(x, other_x, blend)
        targets = task.targets(own.label, other.label, blend.own)
    x = jax.lax.with_sharding_constraint(x, NamedSharding(mesh, BATCH))
    return Inputs(x, targets, own.label, own.mask, uses[keys.MODEL])


def _slots(split: Split, at: Int[Array, "m"]) -> Int[Array, "b"]:
    """Positions in the global batch of rows `at` of every device."""
    return (jnp.arange(split.shards)[:, None] * split.local + at).reshape(-1)


def _take(
    divided: Batch, split: Split, at: Int[Array, "m"], number: Int[Array, ""] | int | None = None
) -> Batch:
    """Takes rows `at` of every device; those of micro-batch `number` are consecutive.

    Cut out, not gathered.
    """

    def rows(array):
        if number is None:
            array = array[:, at]
        elif split.count > 1:
            array = jax.lax.dynamic_slice_in_dim(array, number * split.micro, split.micro, axis=1)
        return array.reshape(-1, *array.shape[2:])

    return jax.tree.map(rows, divided)


def _augmented(
    batch: Batch, uses: Key[Array, "uses b"], dataset: TrainDataset
) -> Float[Array, "b t h w c"]:
    recipe = dataset.recipe
    x = to_unit(batch, dataset.preprocessing)
    x = photometric.colour(x, uses[keys.COLOUR], recipe)
    x = photometric.erase(x, uses[keys.ERASE], recipe.erase)
    x = standardise(x, dataset.preprocessing)
    return photometric.drop_rgb(x, uses[keys.RGB_DROP], recipe.rgb_drop)


def _partner(
    x: Array,
    own: Batch,
    divided: Batch,
    split: Split,
    at: Array,
    dataset: TrainDataset,
    key: PRNGKeyArray,
):
    """The partner of each sample: its augmented pixels and its row of the batch.

    A micro-batch of whole groups holds its partners already. Otherwise they are taken from the
    batch and augmented again: what is drawn for a sample depends on its position alone, so they
    come out as in their own micro-batch.
    """
    if split.micro % split.group == 0:
        return _reverse(x, split), Batch(
            None, None, _reverse(own.label, split), _reverse(own.mask, split)
        )
    there = jnp.asarray(partners(split.local, split.group))[at]
    other = _take(divided, split, there)
    return _augmented(other, keys.sample_keys(key, _slots(split, there)), dataset), other


def _reverse(array: Array, split: Split) -> Array:
    """Reverses every group of a micro-batch."""
    groups = array.reshape(split.shards, -1, split.group, *array.shape[1:])
    return jnp.flip(groups, 2).reshape(array.shape)
