"""Draws the report of a run again from what its folder holds, beside other runs.

    python -m omnivore_jax.report WORKDIR [--compare=DIR,DIR] [--json]

Without --compare, evaluated runs beside WORKDIR whose names go on from its own (demo-image beside
demo) are compared.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from omnivore_jax.core import options
from omnivore_jax.core.command import run
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local

COMPARE = flags.DEFINE_list(
    "compare", None, "Folders of other runs; those beside WORKDIR by default."
)
JSON = options.json()


def main(argv: Sequence[str]) -> int:
    if len(argv) != 2:
        raise UserError(
            f"{len(argv) - 1} folders given; name one: python -m omnivore_jax.report WORKDIR"
        )
    check_local(argv[1], "WORKDIR")
    for path in COMPARE.value or ():
        check_local(path, "--compare")
    # a second of imports that --help and mistakes need not wait for
    from omnivore_jax.reporting import (
        render,
        report,
    )

    workdir = Path(argv[1])
    page = render.write_page(
        workdir, None if COMPARE.value is None else [Path(path) for path in COMPARE.value]
    )
    found = report.load(workdir)
    if JSON.value:
        print(json.dumps({"page": str(page)} | (report.figures(found) if found else {}), indent=2))
        return 0
    if found:
        print(render.summary_table(found) + "\n")
    print(page)
    return 0


if __name__ == "__main__":
    run(main)
