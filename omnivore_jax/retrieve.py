"""Finds the nearest neighbours of samples among those of any modality, and classifies by them.

    python -m omnivore_jax.retrieve query QUERIES GALLERY [--k=20] [--tau=0.07] [--neighbours=5]
        [--engine=exact|faiss] [--faiss_index=Flat] [--json] [--report=FILE.html] [--data_root=D]
        [--shown=12]
    python -m omnivore_jax.retrieve report FOUND.json --report=FILE.html [--data_root=D]
        [--shown=12]
    python -m omnivore_jax.retrieve index --dataset=NAME --weights=F --out=FOLDER [--data_root=D]
        [--split=train] [--mode=all|depth|rgb] [--views=...]

query: both are what `features` or `index` wrote with the same weights: RGB against RGB-D, depth,
clips, in any pairing. Search is exact, with --engine=faiss any index of FAISS. Where both have
classes with common names, the queries are classified by a vote of their k neighbours, weighted by
exp(similarity / tau) (paper, section 5 and App. B.4). --report draws queries, evenly spread, and
what they found, from the datasets or files themselves.

report: draws the same page of what `query --json` printed, where the features lie as then.

index: features of a dataset in a folder, which is searched where it lies, however large (1.28
million of 1,024 numbers are 5.2 GB). A command that was killed goes on where it was. On several
hosts give the same command to all, with --distributed, or --coordinator, --num_processes and
--process_id.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from absl import flags

from omnivore_jax.core import options
from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_output, location
from omnivore_jax.core.types import Mode

K = flags.DEFINE_integer("k", 20, "Neighbours that vote.", lower_bound=1)
TAU = flags.DEFINE_float("tau", 0.07, "Temperature of their votes.", lower_bound=1e-6)
NEIGHBOURS = flags.DEFINE_integer("neighbours", 5, "Neighbours that are listed.", lower_bound=1)
ENGINE = flags.DEFINE_enum("engine", "exact", ["exact", "faiss"], "What searches.")
FAISS_INDEX = flags.DEFINE_string("faiss_index", "Flat", "Of faiss.index_factory: HNSW32, ...")
REPORT = options.report()
SHOWN = flags.DEFINE_integer("shown", 12, "Queries on the page.", lower_bound=1)
JSON = options.json()
WEIGHTS = options.weights()
DATASET = options.dataset()
DATA_ROOT = options.data_root()
SPLIT = options.split()
VIEWS = options.views()
MODE = options.mode()
OUT = flags.DEFINE_string("out", "", "index: the folder of features.")
BATCH_SIZE = options.batch_size()
THREADS = options.threads()
CACHE = options.compile_cache()
DISTRIBUTED = options.distributed()


def main(argv: Sequence[str]) -> int:
    if len(argv) == 4 and argv[1] == "query":
        return query(argv[2], argv[3])
    if len(argv) == 3 and argv[1] == "report":
        return report(argv[2])
    if len(argv) == 2 and argv[1] == "index":
        return index()
    asked = " ".join(argv[1:]) or "nothing"
    raise UserError(
        f"cannot retrieve {asked}; use query QUERIES GALLERY, index --dataset=NAME --out=FOLDER, "
        "or report FOUND.json --report=FILE.html"
    )


def index() -> int:
    """Extracts the features of a dataset into a folder."""
    options.require(WEIGHTS, "give a file of weights or the folder of a run")
    options.require(DATASET, "name one, --dataset=imagenet for example")
    out = Path(options.require(OUT, "name a folder"))
    weights = location(WEIGHTS.value, "--weights")
    location(DATA_ROOT.value, "--data_root")
    check_output(out / "file" if out.is_dir() else out)
    # seconds of imports that --help and mistakes need not wait for
    from omnivore_jax.core import compile_cache, dist
    from omnivore_jax.inference import exam, extraction
    from omnivore_jax.inference.hall import Hall
    from omnivore_jax.inference.trained import open_trained
    from omnivore_jax.ingest.meter import show_progress
    from omnivore_jax.train.mesh import MeshConfig, make_mesh

    if options.is_shared(DISTRIBUTED):
        dist.initialize_from_flags()
    compile_cache.open_cache(CACHE.value)
    trained = open_trained(weights)
    mode = cast(Mode, MODE.value)
    request = exam.Request(
        DATASET.value, DATA_ROOT.value, SPLIT.value, views=VIEWS.value, mode=mode
    )
    with show_progress(len(exam.open_split(trained, request)[0]), "samples") as advance:
        hall = Hall(make_mesh(MeshConfig()), BATCH_SIZE.value, THREADS.value, advance)
        count = extraction.write_index(out, trained, request, hall)
    if dist.is_primary():
        print(f"{out}: {count:,} features")
    return 0


def query(asked: str, among: str) -> int:
    """Searches a gallery for queries."""
    page = location(REPORT.value, "--report") if REPORT.value else None
    if page is not None:
        check_output(page)
    # seconds of imports that --help and mistakes need not wait for
    from omnivore_jax.eval.knn import nearest
    from omnivore_jax.inference import feature_set, neighbours
    from omnivore_jax.inference.faiss_search import FaissSearch

    search = FaissSearch(FAISS_INDEX.value) if ENGINE.value == "faiss" else nearest
    queries, gallery = feature_set.load(asked), feature_set.load(among)
    found = neighbours.find(queries, gallery, K.value, TAU.value, NEIGHBOURS.value, search)
    done = neighbours.Search(asked, among, found)
    if page is not None:
        _draw(page, done, queries, gallery)
    if JSON.value:
        print(json.dumps(done.json(), indent=2))
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


def report(path: str) -> int:
    """Draws what a search found."""
    page = location(options.require(REPORT, "name a page that ends in .html"), "--report")
    check_output(page)
    from omnivore_jax.inference import feature_set, neighbours  # half a second

    done = neighbours.read_search(location(path, "FILE"))
    queries, gallery = (feature_set.load(name) for name in (done.queries, done.gallery))
    if queries.ids != done.found.ids:
        raise UserError(f"{done.queries} has other samples than {path}; search again")
    _draw(page, done, queries, gallery)
    print(page)
    return 0


def _draw(page: Path, done: Any, queries: Any, gallery: Any) -> None:
    from omnivore_jax.inference.showing import samples_of
    from omnivore_jax.reporting.retrieval_page import shown, write_retrieval
    from omnivore_jax.reporting.sheets import places

    found = done.found
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
    write_retrieval(page, f"{done.queries} among {done.gallery}.", rows, figures)


if __name__ == "__main__":
    run(main)
