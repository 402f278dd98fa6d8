"""FAISS as the engine of a search, where it is installed: any of its indexes, by their names."""

import logging

import numpy as np
from jaxtyping import Float32, Int

from omnivore_jax.core.errors import UserError

ROWS = 65_536
"""Rows of the gallery that are copied at once."""
TRAINING_ROWS = 262_144
"""Most rows of the gallery, evenly spread, that an index with clusters is trained on."""


class FaissSearch:
    """Finds neighbours with an index of FAISS; exact with "Flat", else as its recall is."""

    def __init__(self, description: str):
        """`description`: of `faiss.index_factory`: Flat, IVF1024,Flat, HNSW32, ...

        Raises:
            UserError: FAISS is not installed.

        """
        logging.getLogger("faiss.loader").setLevel(logging.WARNING)  # names each of its builds
        try:
            import faiss  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError("--engine=faiss needs FAISS; pip install faiss-cpu") from error
        self._faiss = faiss
        self.description = description

    def __call__(
        self, query: Float32[np.ndarray, "q c"], gallery: Float32[np.ndarray, "n c"], k: int
    ) -> tuple[Int[np.ndarray, "q k"], Float32[np.ndarray, "q k"]]:
        """Finds the k rows of the gallery closest to every query, and their cosines.

        Raises:
            UserError: FAISS knows no such index, or it finds fewer than k.

        """
        try:
            index = self._faiss.index_factory(
                gallery.shape[1], self.description, self._faiss.METRIC_INNER_PRODUCT
            )
            if not index.is_trained:
                step = -(-len(gallery) // TRAINING_ROWS)
                index.train(np.ascontiguousarray(gallery[::step]))
            for at in range(0, len(gallery), ROWS):
                index.add(np.ascontiguousarray(gallery[at : at + ROWS]))
            similarities, indices = index.search(np.ascontiguousarray(query), k)
        except RuntimeError as error:  # of C++, with its file and line in front
            said = str(error).strip().splitlines()[-1]
            raise UserError(f"--faiss_index={self.description}: FAISS says {said}") from error
        if (indices < 0).any():
            raise UserError(
                f"--faiss_index={self.description} finds fewer than {k} neighbours of a query; "
                "use fewer clusters, or --engine=exact"
            )
        return indices, similarities
