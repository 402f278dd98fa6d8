"""The folder of a run.

It remembers the config that the run was started with and refuses another.
"""

import json
import platform
import sys
from collections.abc import Mapping
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import logging

from omnivore_jax.core import dist
from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import write_json
from omnivore_jax.core.mirror import Mirror

FREE = (
    *("log.*", "checkpoint.*", "hardware.*", "mesh.*", "eval.batch_size"),
    *("attention.*", "model.dtype", "model.drop_path", "model.dropout", "model.scan"),  # Compute
    *(
        "data.root",
        "data.bad_budget",
        "data.check_val",
        "data.workers",
        "data.threads",
        "data.prefetch",
        "data.max_host_gib",
    ),
    *("data.*.microbatch", "data.*.remat", "data.*.num_train", "data.*.num_val", "data.*.views"),
)
"""Keys that may change between two starts of a run: how it is run, not what it learns from."""

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def open_workdir(
    mirror: Mirror, config: Mapping[str, Any], allow_change: bool, *, read_only: bool = False
) -> None:
    """Makes the folder, or checks that the run in it has the same config; writes `config.json`.

    `read_only` only checks, for a folder that somebody else's run is in.

    Raises:
        UserError: it cannot be made, hosts do not share it, or the config differs (lists the
        differences).

    """
    error = None
    if dist.is_primary():
        try:
            _open(mirror, json.loads(json.dumps(config)), allow_change, read_only)
            mirror.push()
        except UserError as mistake:
            error = str(mistake)
    error = dist.broadcast(error)
    if error is not None:
        raise UserError(error)
    if not (mirror.workdir / "config.json").exists():
        raise UserError(
            f"--workdir={mirror.workdir} is not the same folder on every host; use one that they "
            "share"
        )


def _open(mirror: Mirror, config: dict[str, Any], allow_change: bool, read_only: bool) -> None:
    workdir = mirror.workdir
    try:
        if not read_only:
            mirror.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"--workdir={workdir} cannot be made: {error.strerror}; choose another folder"
        ) from error
    path = mirror.folder / "config.json"
    if path.exists():
        differences = config_differences(_stored(path), config)
        if differences and not allow_change:
            raise UserError(
                f"the config differs from that of the run in {workdir}: {'; '.join(differences)}; "
                "use another --workdir, or --allow_config_change to go on with the new values"
            )
        for difference in differences:
            logging.warning("config changed: %s", difference)
    if not read_only:
        stored = {"config": config, "versions": versions(), "command": command()}
        write_json(path, stored, sort_keys=True)


def _stored(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())["config"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not the config of a run; put it back, or use another --workdir"
        ) from error


def config_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Lists the keys whose values differ, but for those that cannot change a result."""
    before, after = _leaves(old), _leaves(new)
    keys = [key for key in {**before, **after} if before.get(key) != after.get(key)]
    return [
        f"{key} was {before.get(key, 'absent')!r}, is {after.get(key, 'absent')!r}"
        for key in sorted(keys)
        if not _is_free(key)
    ]


def _is_free(key: str) -> bool:
    return any(fnmatch(key, pattern) for pattern in FREE)


def versions() -> dict[str, str]:
    """Python's and those of the packages that compute."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in PACKAGES
    }


def command() -> str:
    """The command line of this process."""
    return " ".join(["python -m omnivore_jax.main", *sys.argv[1:]])


def host_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """What must be the same on every host: the config, but where files lie, and the versions."""
    leaves = json.loads(json.dumps(_leaves(config)))
    own = ("data.root", "data.workers", "data.threads", "data.prefetch")
    return {key: leaves[key] for key in leaves if key not in own} | versions()


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    leaves = {}
    for key, value in tree.items():
        path = f"{prefix}{key}"
        leaves |= _leaves(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return leaves
