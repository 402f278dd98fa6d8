"""Says what pictures, clips and RGB-D pictures show.

    python -m omnivore_jax.predict FILE... --weights=F [--depth=F] [--head=H] [--views=4x3]
        [--mode=all|depth|rgb] [--top=5] [--json] [--report=FILE.html]
        [--cameras=8] [--up=auto|y|z] [--unit=1]

FILE is a picture, a clip, or a folder of them; what it is is told by its content. A picture with
--depth=MAP.png (16-bit grey), or with a map beside it by one of the usual names (NAME.depth.png,
depth/NAME.png, ...), is RGB-D. The focal length comes from depth.json or intrinsics.txt near the
map, else from --fx. Weights are a file of ours or the folder of a run. The head is the one of the
file's modality; --head takes another: an image head judges depth maps, a video head stills.

A mesh or point cloud (PLY, GLB, glTF, OBJ, STL) is drawn as RGB-D from --cameras sides, and the
probabilities are averaged (pip install -r requirements-scenes.txt). Its unit is the metre.

A file that is damaged is named, the others are answered, and the exit code is 2.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from absl import flags

from omnivore_jax.core import options
from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local, check_output, location
from omnivore_jax.core.types import Mode
from omnivore_jax.data.depth import BASELINES, Intrinsics

if TYPE_CHECKING:
    from omnivore_jax.inference.media import Medium
    from omnivore_jax.inference.prediction import Prediction

WEIGHTS = options.weights()
HEAD = options.head()
VIEWS = options.views()
MODE = options.mode()
TOP = flags.DEFINE_integer("top", 5, "How many classes are named.", lower_bound=1)
DEPTH = options.depth()
FX = options.fx()
BASELINE = flags.DEFINE_float(
    "baseline", BASELINES["kv2"], "Metres between the eyes of the depth sensor.", lower_bound=0.0
)
DEPTH_SCALE = flags.DEFINE_float(
    "depth_scale", 0.001, "Metres in one unit of the depth map.", lower_bound=0.0
)
CAMERAS = options.cameras()
UP = options.up()
UNIT = options.unit()
THREADS = options.threads()
CACHE = options.compile_cache()
JSON = options.json()
REPORT = options.report()


def main(argv: Sequence[str]) -> int:
    paths = [Path(path) for path in argv[1:]]
    if not paths:
        raise UserError("no file given; name a picture, a clip or a folder of them")
    options.require(WEIGHTS, "give a file of weights or the folder of a run")
    weights = location(WEIGHTS.value, "--weights")
    check_local(DEPTH.value, "--depth")
    page = location(REPORT.value, "--report") if REPORT.value else None
    if page is not None:
        check_output(page)
    # seconds of imports that --help and mistakes need not wait for
    from omnivore_jax.core import compile_cache
    from omnivore_jax.inference.media import Finder
    from omnivore_jax.inference.prediction import Asker, Question
    from omnivore_jax.inference.scenes import Cameras, UpAxis
    from omnivore_jax.inference.trained import open_trained
    from omnivore_jax.ingest.meter import show_progress

    compile_cache.open_cache(CACHE.value)
    defaults = Intrinsics(FX.value, BASELINE.value, DEPTH_SCALE.value)
    cameras = Cameras(CAMERAS.value, cast(UpAxis, UP.value), UNIT.value)
    finder = Finder(Path(DEPTH.value) if DEPTH.value else None, defaults, cameras)
    media = finder.find(paths)
    mode = cast(Mode, MODE.value)
    question = Question(HEAD.value, VIEWS.value, mode, TOP.value, page is not None)
    asker = Asker(open_trained(weights), question, THREADS.value or os.cpu_count() or 1)
    asker.check(media.items)
    for path, why in media.others:
        print(f"left out: {path} is {why}", file=sys.stderr)
    predictions = []
    # printed answers are their own progress
    quiet = len(media.items) == 1 or not JSON.value
    with nullcontext(lambda: None) if quiet else show_progress(len(media.items)) as advance:
        for prediction in asker.ask(media.items):
            predictions.append(prediction)
            if not JSON.value:
                print(_text(prediction), flush=True)
            advance()
    if page is not None:
        from omnivore_jax.reporting.predictions import write_predictions

        write_predictions(page, WEIGHTS.value, [_row(p) for p in predictions])
    if JSON.value:
        print(json.dumps([_json(prediction) for prediction in predictions], indent=2))
    elif page is not None:
        print(page)
    faults = [prediction for prediction in predictions if prediction.fault]
    for prediction in faults:
        print(f"{prediction.medium.path} cannot be read: {prediction.fault}", file=sys.stderr)
    return 2 if faults else 0


def _text(prediction: "Prediction") -> str:
    medium = prediction.medium
    if prediction.fault:
        return f"{_printable(medium.path)}: cannot be read"
    lines = [
        f"{_printable(medium.path)}: {medium.kind}, head {prediction.head}",
        f"    view {prediction.view}",
        *(f"    {100 * answer.probability:5.1f} %  {answer.name}" for answer in prediction.answers),
    ]
    return "\n".join(lines)


def _json(prediction: "Prediction") -> dict[str, Any]:
    medium = prediction.medium
    said = {"file": _printable(medium.path), "modality": medium.kind}
    if prediction.fault:
        return said | {"fault": prediction.fault}
    depth = {} if medium.depth is None else {"depth": _printable(medium.depth)}
    answers = [
        {"class": answer.name, "index": answer.index, "probability": answer.probability}
        for answer in prediction.answers
    ]
    return said | depth | {"head": prediction.head, "view": prediction.view, "answers": answers}


def _row(prediction: "Prediction") -> Any:
    from omnivore_jax.reporting.predictions import Row

    sample = prediction.shown
    return Row(
        name=_printable(prediction.medium.path),
        kind=prediction.medium.kind,
        head=prediction.head,
        view=prediction.view,
        answers=[(answer.name, answer.probability) for answer in prediction.answers],
        fault=prediction.fault,
        rgb=_frames(prediction.medium, None if sample is None else sample.rgb),
        disparity=_frames(prediction.medium, None if sample is None else sample.disparity),
    )


def _frames(medium: "Medium", views: Any) -> Any:
    """Frames for the page: of the first view, of a scene the pictures of all cameras."""
    if views is None:
        return None
    return views[0] if medium.scene is None else views[:, 0]


def _printable(path: Path) -> str:
    """Writes the bytes of a file name that are no text as escapes."""
    return str(path).encode(errors="backslashreplace").decode()


if __name__ == "__main__":
    run(main)
