"""From the samples of a batch, as the host sent them, to what the model and the loss take.

One micro-batch at a time.

Order: to 0..1, colours, erasing, standardising, RGB drop, mixing. Only a micro-batch is ever held
in floating point. How groups are mixed is drawn once for the whole batch: a beta distribution is a
loop of trials, which inside the accumulation loop would wait for all devices in every round.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, PyTree, Shaped

from omnivore_jax.core.types import Batch
from omnivore_jax.model.preprocess import standardise, to_unit
from omnivore_jax.train import keys, photometric
from omnivore_jax.train.mesh import BATCH
from omnivore_jax.train.microbatch import Split
from omnivore_jax.train.mix import Blend, blend_pixels, draw_blend
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


class Supply(NamedTuple):
    """One dataset's part of a step, from which its micro-batches are taken."""

    batch: Batch
    """Arrays as [devices, slots of a device, ...]."""
    split: Split
    dataset: TrainDataset
    key: PRNGKeyArray
    group: int
    """Slots that share a blend."""
    blend: Blend | None
    """Of every group, whole on every device; None where nothing is mixed."""
    mesh: Mesh


def make_supply(
    batch: Batch, split: Split, dataset: TrainDataset, key: PRNGKeyArray, group: int, mesh: Mesh
) -> Supply:
    """Divides a batch over the devices and draws how its groups are mixed.

    `key` is that of the dataset's part of the step.

    Raises:
        ValueError: the batch is not padded to the slots of the split.

    """
    slots = batch.mask.shape[0]
    if slots != split.slots:
        raise ValueError(
            f"a batch of {slots} on {split.shards} devices; pad it to {split.slots} with masked "
            "samples"
        )

    def view(array):
        array = array.reshape(split.shards, split.local, *array.shape[1:])
        return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, BATCH))

    blend = None
    if dataset.mixes:
        groups = jnp.arange(-(-slots // group))
        blend = draw_blend(keys.group_keys(key, groups), dataset.recipe, batch.rgb.shape[2:4])
        # Few numbers: every device draws them all.
        blend = jax.lax.with_sharding_constraint(blend, NamedSharding(mesh, PartitionSpec()))
    return Supply(jax.tree.map(view, batch), split, dataset, key, group, blend, mesh)


def micro_batch(supply: Supply, number: Int[Array, ""] | int) -> Inputs:
    """Takes and augments micro-batch `number` of a step."""
    split, task = supply.split, supply.dataset.task
    at = number * split.micro + jnp.arange(split.micro)
    own, slots = _take(supply, at, number), _slots(split, at)
    uses = keys.sample_keys(supply.key, slots)
    x = _augmented(own, uses, supply.dataset)
    targets = task.targets(own.label, own.label, jnp.ones(own.mask.shape))
    if supply.blend is not None:
        blend = jax.tree.map(lambda field: field[slots // supply.group], supply.blend)
        other_x, other = _partner(x, own, supply, at)
        alone = ~(own.mask & other.mask)  # padding is nobody's partner
        blend = blend._replace(own=jnp.where(alone, 1.0, blend.own), paste=blend.paste & ~alone)
        x = blend_pixels(x, other_x, blend)
        targets = task.targets(own.label, other.label, blend.own)
    x = jax.lax.with_sharding_constraint(x, NamedSharding(supply.mesh, BATCH))
    return Inputs(x, targets, own.label, own.mask, uses[keys.MODEL])


def _slots(split: Split, at: Int[Array, "m"]) -> Int[Array, "b"]:
    """Positions in the global batch of rows `at` of every device."""
    return (jnp.arange(split.shards)[:, None] * split.local + at).reshape(-1)


def _take(supply: Supply, at: Int[Array, "m"], number: Int[Array, ""] | int | None = None) -> Batch:
    """Takes rows `at` of every device; those of micro-batch `number` are consecutive.

    Cut out, not gathered.
    """
    split = supply.split

    def rows(array):
        if number is None:
            array = array[:, at]
        elif split.count > 1:
            array = jax.lax.dynamic_slice_in_dim(array, number * split.micro, split.micro, axis=1)
        return array.reshape(-1, *array.shape[2:])

    return jax.tree.map(rows, supply.batch)


def _augmented(
    batch: Batch, uses: Key[Array, "uses b"], dataset: TrainDataset
) -> Float[Array, "b t h w c"]:
    recipe = dataset.recipe
    x = to_unit(batch, dataset.preprocessing)
    x = photometric.colour(x, uses[keys.COLOUR], recipe)
    if recipe.erase_mode == "zero":
        x = photometric.erase(x, uses[keys.ERASE], recipe.erase)
    x = standardise(x, dataset.preprocessing)
    if recipe.erase_mode == "pixel":
        x = photometric.erase_with_noise(x, uses[keys.ERASE], recipe.erase)
    return photometric.drop_rgb(x, uses[keys.RGB_DROP], recipe.rgb_drop)


def _partner(
    x: Float[Array, "b t h w c"], own: Batch, supply: Supply, at: Int[Array, "m"]
) -> tuple[Float[Array, "b t h w c"], Batch]:
    """The partner of each sample: its augmented pixels and its row of the batch.

    A micro-batch of whole pairs holds its partners already. Otherwise they are taken from the
    batch and augmented again: what is drawn for a sample depends on its slot alone, so they come
    out as in their own micro-batch.
    """
    split = supply.split
    if split.micro % 2 == 0:
        return _swap(x, split), Batch(None, None, _swap(own.label, split), _swap(own.mask, split))
    other = _take(supply, at ^ 1)
    uses = keys.sample_keys(supply.key, _slots(split, at ^ 1))
    return _augmented(other, uses, supply.dataset), other


def _swap(array: Shaped[Array, "b ..."], split: Split) -> Shaped[Array, "b ..."]:
    """Swaps the two samples of every pair."""
    pairs = array.reshape(split.shards, -1, 2, *array.shape[1:])
    return jnp.flip(pairs, 2).reshape(array.shape)
