"""Finds the nearest neighbours of samples among those of any modality, and classifies by them.

    python -m omnivore_jax.retrieve query QUERIES.npz GALLERY.npz [--k=20] [--tau=0.07]
        [--neighbours=5] [--json] [--report=FILE.html] [--data_root=D] [--shown=12]

The files are what `features` wrote with the same weights: RGB against RGB-D, depth, clips, in any
pairing. Search is exact. Where both have classes with common names, the queries are classified by a
vote of their k neighbours, weighted by exp(similarity / tau) (paper, section 5 and App. B.4).
--report draws queries, evenly spread, and what they found, from the datasets or files themselves.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_output

K = flags.DEFINE_integer("k", 20, "Neighbours that vote.", lower_bound=1)
TAU = flags.DEFINE_float("tau", 0.07, "Temperature of their votes.", lower_bound=1e-6)
NEIGHBOURS = flags.DEFINE_integer("neighbours", 5, "Neighbours that are listed.", lower_bound=1)
REPORT = flags.DEFINE_string("report", "", "A page of pictures, FILE.html.")
SHOWN = flags.DEFINE_integer("shown", 12, "Queries on the page.", lower_bound=1)
DATA_ROOT = flags.DEFINE_string(
    "data_root", "", "Where datasets lie; default: $OMNIVORE_DATA, else data/."
)
JSON = flags.DEFINE_bool("json", False, "Print the neighbours and the figures as JSON.")


def main(argv: Sequence[str]) -> int:
    if len(argv) != 4 or argv[1] != "query":
        asked = " ".join(argv[1:]) or "nothing"
        raise UserError(f"cannot retrieve {asked}; use query QUERIES.npz GALLERY.npz")
    page = Path(REPORT.value) if REPORT.value else None
    if page is not None:
        check_output(page)
    # seconds of imports that --help and mistakes need not wait for
    from omnivore_jax.inference import feature_set, neighbours

    queries, gallery = feature_set.load(Path(argv[2])), feature_set.load(Path(argv[3]))
    found = neighbours.find(queries, gallery, K.value, TAU.value, NEIGHBOURS.value)
    if page is not None:
        _draw(page, argv[2:], queries, gallery, found)
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
    if page is not None:
        print(page)
    return 0


def _draw(page: Path, names: Sequence[str], queries: Any, gallery: Any, found: Any) -> None:
    from omnivore_jax.inference.showing import samples_of
    from omnivore_jax.reporting.retrieval_page import shown, write_retrieval
    from omnivore_jax.reporting.sheets import places

    chosen = places(len(queries.ids), SHOWN.value).tolist()
    at = {id: k for k, id in enumerate(gallery.ids)}
    modes = [features.origin.get("mode", "all") for features in (queries, gallery)]
    rows = []
    for k, query in zip(chosen, samples_of(queries, chosen, DATA_ROOT.value), strict=True):
        name, answers = queries.names[k], found.answers[k]
        pictures = samples_of(gallery, [at[answer.id] for answer in answers], DATA_ROOT.value)
        near = [
            shown(
                sample,
                modes[1],
                answer.name or answer.id,
                similarity=answer.similarity,
                right=None if name is None or answer.name is None else answer.name == name,
            )
            for answer, sample in zip(answers, pictures, strict=True)
        ]
        rows.append((shown(query, modes[0], name or queries.ids[k]), near))
    figures = None if found.knn is None else found.knn.row()
    write_retrieval(page, f"{names[0]} among {names[1]}.", rows, figures)


if __name__ == "__main__":
    run(main)
