"""Draws the report of a run again from what its folder holds, beside other runs.

    python -m omnivore_jax.report WORKDIR [--compare=DIR,DIR] [--json]

Without --compare, evaluated runs beside WORKDIR whose names go on from its own (demo-image beside
demo) are compared.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack

from absl import flags

from omnivore_jax.core import options
from omnivore_jax.core.buckets import ObjectPath
from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import location
from omnivore_jax.core.mirror import mirrored

COMPARE = flags.DEFINE_list(
    "compare", None, "Folders of other runs; those beside WORKDIR by default."
)
JSON = options.json()


def main(argv: Sequence[str]) -> int:
    if len(argv) != 2:
        raise UserError(
            f"{len(argv) - 1} folders given; name one: python -m omnivore_jax.report WORKDIR"
        )
    workdir = location(argv[1], "WORKDIR")
    others = [location(path, "--compare") for path in COMPARE.value or ()]
    for path in (workdir, *others):
        if isinstance(path, ObjectPath) and not path.exists():
            raise UserError(f"{path} holds no run; name one that is there")
    # a second of imports that --help and mistakes need not wait for
    from omnivore_jax.reporting import (
        render,
        report,
    )

    with ExitStack() as stack:
        mirror = stack.enter_context(mirrored(workdir))
        beside = [stack.enter_context(mirrored(path, read_only=True)).folder for path in others]
        page = render.write_page(mirror.folder, None if COMPARE.value is None else beside)
        found, page = report.load(mirror.folder), mirror.shown(page)
    if JSON.value:
        print(json.dumps({"page": str(page)} | (report.figures(found) if found else {}), indent=2))
        return 0
    if found:
        print(render.summary_table(found) + "\n")
    print(page)
    return 0


if __name__ == "__main__":
    run(main)
