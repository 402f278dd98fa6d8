"""From a download to a prepared dataset: what `prepare` does on one machine."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from omnivore_jax.core.errors import UserError
from omnivore_jax.data.decode import use_one_thread
from omnivore_jax.ingest.encode import smaller
from omnivore_jax.ingest.inpaint import inpainted
from omnivore_jax.ingest.layouts.base import LayoutOptions, Listing
from omnivore_jax.ingest.layouts.predicted import Predictions, with_depth
from omnivore_jax.ingest.layouts.table import LAYOUTS
from omnivore_jax.ingest.plan import Inventory, ShardPlan, claim, cut, finish, items_of
from omnivore_jax.ingest.shards import REPORTS, write_shard

Meter = Callable[[int], AbstractContextManager[Callable[[], None]]]
"""Takes how many items there are, and gives what is called after each."""


class Work(NamedTuple):
    """Which part of a dataset a machine makes, and how."""

    machine: tuple[int, int]
    """(i, n): every n-th shard from the i-th on."""
    rows: int
    """Samples of a shard; 0: by kind and number of samples."""
    threads: int
    """Files that are read at once."""
    overwrite: bool
    """Whether another dataset in the folder may be replaced."""
    short_side: int = 0
    """Pixels at which pictures and clips are encoded again; 0: stored as they are."""
    inpaint: bool = False
    """Whether the holes of depth maps are filled."""
    predictions: Predictions | None = None
    """Depth maps that lie elsewhere and make RGB-D of pictures."""


class Preparation(NamedTuple):
    """A dataset after one machine has done its work."""

    listing: Listing
    plans: Sequence[ShardPlan]
    """All shards, those of other machines too."""
    inventory: Inventory


def prepare(
    layout: str, source: Path, out: Path, options: LayoutOptions, work: Work, meter: Meter
) -> Preparation:
    """Makes the shards of this machine, and the manifest if all shards are there.

    `layout`: a name in the table of layouts.

    Raises:
        UserError: the source does not hold the layout, or `out` or an option cannot be used for it.

    """
    if out.resolve().is_relative_to(source.resolve()):
        raise UserError(f"--out={out} lies inside --src={source}; choose a folder outside it")
    listing = LAYOUTS[layout].list(source, options)
    if work.predictions is not None:
        listing = with_depth(listing, work.predictions, options)
    if work.short_side and (listing.kind == "rgbd" or listing.labels == "map"):
        maps = "label" if listing.labels == "map" else "depth"
        raise UserError(
            f"--short_side={work.short_side}, but pictures with {maps} maps are stored as they "
            "are: one belongs to the other pixel by pixel; leave it out"
        )
    if work.inpaint and listing.kind != "rgbd":
        raise UserError(f"--inpaint, but --src={source} has no depth maps; leave it out")
    plans = cut(listing, work.rows)
    index, machines = work.machine
    own = plans[index::machines]
    _make_folder(out)
    claim(out, source, listing, plans, overwrite=work.overwrite)
    with (
        ThreadPoolExecutor(work.threads, "prepare", use_one_thread) as pool,
        meter(sum(plan.stop - plan.start for plan in own)) as advance,
    ):
        for plan in own:
            # Shard by shard: the items of a whole dataset would not fit.
            items = items_of(listing, plan)
            if work.short_side:
                items = [smaller(item, listing.kind, work.short_side) for item in items]
            if work.inpaint:
                items = [inpainted(item) for item in items]
            write_shard(out, plan.name, items, listing.kind, pool, advance)
    command = f"omnivore_jax.prepare {layout}"
    if work.short_side:
        command += f" --short_side={work.short_side}"
    if work.inpaint:
        command += " --inpaint"
    inventory = finish(out, listing, plans, command)
    return Preparation(listing, plans, inventory)


def _make_folder(out: Path) -> None:
    try:
        (out / REPORTS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--out={out} cannot be made ({error.strerror}); choose another folder"
        ) from error
