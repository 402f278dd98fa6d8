"""Features of some samples as they are stored: what `features` writes and `retrieve` reads.

FILE.npz       feature float32 [n c] of length 1, ids [n], label int64 [n] (-1: none), classes, and
               origin, a JSON text that says of which weights, dataset, view and mode they are;
               maps are feature [n t h w c]
FILE.parquet   columns id, label, class, feature; classes and origin as notes of the file
FOLDER         feature.npy, which is read where it lies (memory-mapped), and samples.npz, the rest
"""

import json
import zipfile
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int64

from omnivore_jax.core.buckets import local_copy
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import location, new_file, new_folder
from omnivore_jax.inference import parquet

NO_LABEL = -1
ARRAY, SAMPLES = "feature.npy", "samples.npz"


class FeatureSet(NamedTuple):
    """Features of some samples, and what they are of."""

    feature: Float32[np.ndarray, "n ..."]
    """Pooled after the final norm, of length 1 [n c], the mean over the views of a sample; or maps
    of a stage [n t h w c]."""
    ids: tuple[str, ...]
    label: Int64[np.ndarray, " n"]
    classes: tuple[str, ...]
    origin: Mapping[str, Any]

    @property
    def names(self) -> list[str | None]:
        """The class of every sample; None where it has none."""
        return [None if k == NO_LABEL else self.classes[k] for k in self.label.tolist()]


def check_output_name(path: Path) -> None:
    """Refuses names that say no form (UserError)."""
    if path.suffix not in (".npz", parquet.SUFFIX):
        raise UserError(f"--out={path}; name a file that ends in .npz or .parquet")
    parquet.check_installed(path, "out", ".npz")


def save(path: Path, features: FeatureSet) -> None:
    """Writes features in the form that the name asks for; a reader sees all of them, or none.

    Raises:
        UserError: the disk does not take it, or the form has no place for maps.

    """
    if path.suffix == parquet.SUFFIX:
        _save_table(path, features)
        return
    arrays = {"feature": features.feature} | _about(features)
    with new_file(path) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


@contextmanager
def new_index(folder: Path, shape: tuple[int, ...]):
    """Gives an array of features to be filled and a function that says of what they are.

    The folder comes about whole when the block ends, or not at all.

    Raises:
        UserError: the destination is something else, or the disk does not take it.

    """
    with new_folder(folder, "index", lambda names: names - {ARRAY, SAMPLES}) as draft:
        array = np.lib.format.open_memmap(draft / ARRAY, "w+", np.float32, shape)

        def describe(features: FeatureSet) -> None:
            np.savez(draft / SAMPLES, **_about(features))

        yield array, describe
        array.flush()


def load(path: str | Path) -> FeatureSet:
    """Reads what `save` or `new_index` wrote.

    Raises:
        UserError: it is not there, damaged, or something else.

    """
    path = local_copy(location(path, "FILE"))
    if path.suffix == parquet.SUFFIX:
        features = _load_table(path)
    else:
        features = _load_arrays(path)
    if not len(features.feature) == len(features.ids) == len(features.label) > 0:
        raise UserError(f"{path} holds no features of its samples; make it again")
    return features


def _about(features: FeatureSet) -> dict[str, Any]:
    """Gives all but the features themselves as arrays."""
    return {
        "ids": np.array([_printable(id) for id in features.ids]),
        "label": features.label,
        "classes": np.array([_printable(name) for name in features.classes], str),
        "origin": np.array(json.dumps(dict(features.origin))),
    }


def _load_arrays(path: Path) -> FeatureSet:
    try:
        with np.load(path / SAMPLES if path.is_dir() else path, allow_pickle=False) as arrays:
            # a folder's lies beside
            feature = np.load(path / ARRAY, "r") if path.is_dir() else arrays["feature"]
            return FeatureSet(
                feature if path.is_dir() else np.asarray(feature, np.float32),
                tuple(arrays["ids"].tolist()),
                np.asarray(arrays["label"], np.int64),
                tuple(arrays["classes"].tolist()),
                json.loads(str(arrays["origin"])),
            )
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(
            f"{path} holds no features ({error}); make it with omnivore_jax.features"
        ) from error


def _save_table(path: Path, features: FeatureSet) -> None:
    if features.feature.ndim > 2:
        raise UserError(f"--out={path}: maps have no place in a table; name a file that ends .npz")
    columns = {
        "id": [_printable(id) for id in features.ids],
        "label": features.label,
        "class": [None if name is None else _printable(name) for name in features.names],
        "feature": features.feature,
    }
    classes = [_printable(name) for name in features.classes]
    notes = {"classes": json.dumps(classes), "origin": json.dumps(dict(features.origin))}
    parquet.write(path, columns, notes)


def _load_table(path: Path) -> FeatureSet:
    table, notes = parquet.read(path)
    try:
        flat = table["feature"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        return FeatureSet(
            np.asarray(flat, np.float32).reshape(table.num_rows, -1),
            tuple(table["id"].to_pylist()),
            np.asarray(table["label"].to_numpy(), np.int64),
            tuple(json.loads(notes["classes"])),
            json.loads(notes["origin"]),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(
            f"{path} holds no features ({error}); make it with omnivore_jax.features"
        ) from error


def _printable(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()
