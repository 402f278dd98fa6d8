"""Pictures for the report: training samples as the model is given them, and what queries found."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from omnivore_jax.core import dist
from omnivore_jax.core.mirror import Mirror
from omnivore_jax.core.types import IGNORE, Batch
from omnivore_jax.data.batches import stack
from omnivore_jax.experiment.evaluation import RunEvaluator
from omnivore_jax.experiment.retrieval import Neighbours, Part
from omnivore_jax.experiment.settings import Settings
from omnivore_jax.experiment.splits import Readable, RunData
from omnivore_jax.model.upernet import resize
from omnivore_jax.reporting import label_maps, sheets
from omnivore_jax.reporting.render import SAMPLES as SAMPLES_PAGE
from omnivore_jax.reporting.render import write_samples
from omnivore_jax.reporting.report import Found, MapSheet, RetrievalSheet, SampleSheet
from omnivore_jax.train.inputs import make_supply, micro_batch
from omnivore_jax.train.keys import dataset_key
from omnivore_jax.train.mesh import batch_sharding, batch_shards
from omnivore_jax.train.microbatch import split_batch

SAMPLES, QUERIES, ANSWERS, MAPS = 8, 6, 4, 8


def training_samples(name: str, settings: Settings, data: RunData, mesh: Mesh) -> SampleSheet:
    """Augments a few training samples exactly as a step does, evenly spread over the dataset."""
    training = settings.training[name]
    training = training._replace(recipe=dataclasses.replace(training.recipe, microbatch=0))
    split = split_batch(SAMPLES, batch_shards(mesh.shape), training)
    count, dataset = split.slots, Readable(data.train[name])
    batch = stack([dataset.load(i * len(dataset) // count + i, seed=i) for i in range(count)])

    def augment(batch: Batch) -> jax.Array:
        key = dataset_key(settings.train.seed, jnp.int32(0), name)
        supply = make_supply(batch, split, training, key, settings.mix.group, mesh)
        return micro_batch(supply, 0).x

    placed = jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, batch_sharding(mesh), lambda i: x[i]), batch
    )
    x = jax.device_get(
        jax.jit(augment, out_shardings=NamedSharding(mesh, PartitionSpec()))(placed)
    )[:SAMPLES]
    kind, labels = settings.datasets[name].kind, batch.label[:SAMPLES]
    return sheets.sample_sheet(
        name, kind, x, labels, data.train[name].classes, training.preprocessing
    )


def show_samples(settings: Settings, data: RunData, mesh: Mesh, mirror: Mirror) -> None:
    """Writes the page that shows what a run is about to train on, before it does."""
    samples = [training_samples(name, settings, data, mesh) for name in data.train]
    if dist.is_primary():
        path = mirror.folder / SAMPLES_PAGE
        lead = (
            "Training samples as the first step would take them: cropped, augmented and mixed; "
            "only the standardising was undone. Disparity is in false colours, bright is near."
        )
        write_samples(path, settings.name, lead, samples)
        logging.info("what the model sees: %s", mirror.shown(path))


def map_sheet(
    name: str, data: RunData, mesh: Mesh, evaluator: RunEvaluator, params: Any
) -> MapSheet:
    """Shows label maps of a few validation pictures, evenly spread, beside what the model makes."""
    dataset, classes = data.val[name], data.val[name].classes
    chosen = sheets.places(len(dataset), MAPS)
    shards = batch_shards(mesh.shape)
    filled = np.resize(chosen, -(-len(chosen) // shards) * shards)
    batch = stack([dataset.load(int(i), 0) for i in filled])
    output = evaluator.outputs(name, batch, params)
    scores = np.asarray(resize(jnp.asarray(output.scores), batch.label.shape[1:]))
    truth, rgb = batch.label[: len(chosen)], batch.rgb[: len(chosen), 0]
    predicted = np.argmax(scores[: len(chosen)], -1).astype(np.uint8)
    predicted = np.where(truth == IGNORE, IGNORE, predicted)
    shown = np.union1d(truth, predicted)

    def small(pictures: np.ndarray) -> np.ndarray:
        return sheets.thumbnails(pictures[:, None])[:, 0]

    return MapSheet(
        names=tuple(label_maps.caption(labels, classes) for labels in truth),
        pictures=small(rgb),
        truth=small(label_maps.overlay(rgb, truth)),
        predicted=small(label_maps.overlay(rgb, predicted)),
        legend=tuple((classes[k], label_maps.colour_of(k)) for k in shown.tolist() if k != IGNORE),
    )


def retrieval_sheet(found: Sequence[Neighbours], data: RunData) -> RetrievalSheet | None:
    """Shows what the first picture of each of a few classes finds.

    None where nothing was looked for.
    """
    if not found:
        return None
    first = found[0]
    common = set(first.query_concepts).intersection(*(n.gallery_concepts for n in found))
    of_class = {
        c: int(np.argmax(first.query_concepts == c))
        for c in sorted(common) or np.unique(first.query_concepts)
    }
    chosen = np.array(list(of_class.values())[:QUERIES])
    samples = stack([first.queries.load(int(i), 0) for i in chosen])
    return RetrievalSheet(
        query=first.pair.query,
        names=tuple(first.query_concepts[chosen]),
        pictures=sheets.thumbnails(samples.rgb),
        found=tuple(_found(neighbours, chosen, data) for neighbours in found),
        chosen="the first validation picture of each class that all galleries have",
    )


def _found(neighbours: Neighbours, chosen: np.ndarray, data: RunData) -> Found:
    indices = neighbours.indices[chosen, :ANSWERS]
    shown = [_shown(neighbours.gallery, row, neighbours.pair.mode) for row in indices]
    right = neighbours.gallery_concepts[indices] == neighbours.query_concepts[chosen, None]
    classes = data.train[neighbours.pair.gallery].classes

    def names_of(row: np.ndarray) -> tuple[str, ...]:
        return tuple(classes[neighbours.gallery.load(int(i), 0).label] for i in row)

    names = tuple(map(names_of, indices))
    return Found(neighbours.pair.gallery, neighbours.pair.shows, names, right, np.stack(shown))


def _shown(gallery: Part, indices: np.ndarray, mode: str) -> np.ndarray:
    """Pictures of some gallery samples: depth in false colours, clips as they are."""
    batch = stack([gallery.load(int(i), 0) for i in indices])
    pictures = sheets.false_colours(batch.disparity) if mode == "depth" else batch.rgb
    return sheets.thumbnails(sheets.some_frames(pictures, sheets.FRAMES["retrieval"]))
