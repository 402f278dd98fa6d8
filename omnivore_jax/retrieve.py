"""Finds the nearest neighbours of samples among those of any modality, and classifies by them.

    python -m omnivore_jax.retrieve query QUERIES.npz GALLERY.npz [--k=20] [--tau=0.07]
        [--neighbours=5] [--json]

The files are what `features` wrote with the same weights: RGB against RGB-D, depth, clips, in any
pairing. Search is exact. Where both have classes with common names, the queries are classified by a
vote of their k neighbours, weighted by exp(similarity / tau) (paper, section 5 and App. B.4).
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError

K = flags.DEFINE_integer("k", 20, "Neighbours that vote.", lower_bound=1)
TAU = flags.DEFINE_float("tau", 0.07, "Temperature of their votes.", lower_bound=1e-6)
NEIGHBOURS = flags.DEFINE_integer("neighbours", 5, "Neighbours that are listed.", lower_bound=1)
JSON = flags.DEFINE_bool("json", False, "Print the neighbours and the figures as JSON.")


def main(argv: Sequence[str]) -> int:
    if len(argv) != 4 or argv[1] != "query":
        asked = " ".join(argv[1:]) or "nothing"
        raise UserError(f"cannot retrieve {asked}; use query QUERIES.npz GALLERY.npz")
    # seconds of imports that --help and mistakes need not wait for
    from omnivore_jax.inference import feature_set, neighbours

    queries, gallery = feature_set.load(Path(argv[2])), feature_set.load(Path(argv[3]))
    found = neighbours.find(queries, gallery, K.value, TAU.value, NEIGHBOURS.value)
    if JSON.value:
        print(json.dumps(found.json(), indent=2))
        return 0
    for id, answers in zip(found.ids, found.answers, strict=True):
        print(id)
        for answer in answers:
            print(f"    {answer.similarity:.3f}  {answer.id}  {answer.name or ''}".rstrip())
    if found.knn is not None:
        print(
            f"{found.knn.n:,} queries of classes that the gallery has: top-1 "
            f"{100 * found.knn.top1:.2f} % (chance {100 * found.knn.chance:.2f} %)"
        )
    return 0


if __name__ == "__main__":
    run(main)
