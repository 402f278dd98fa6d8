"""The flag --config: a Python file whose `get_config` gives a ConfigDict.

Whatever goes wrong in the file is one line with the file, the line and the error's own words.
"""

import sys
import sysconfig
import textwrap
import traceback
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import check_local

PACKAGE = Path(__file__).resolve().parent.parent
"""Our own folder; `configs/` lies beside it."""
MODULE = "_config_file"
MAX_WORDS = 400
"""Characters of an error that are shown."""


def define_flag() -> flags.FlagHolder:
    """Defines --config=PATH[:ARGUMENT], and --config.KEY=VALUE for every key of the file."""
    holder = config_flags.DEFINE_config_file(
        "config", None, "What to run: configs/NAME.py[:ARGUMENT].", lock_config=True
    )
    flags.FLAGS["config"].parser = _Parser()
    return holder


def load(argument: str) -> ConfigDict:
    """Runs `get_config` of PATH[:ARGUMENT]; the file may import `configs.` wherever we started.

    Raises:
        UserError: it cannot be read, fails, or gives no ConfigDict; the error is the cause.

    """
    check_local(argument, "--config")
    name, *arguments = argument.split(":", 1)
    path, module = Path(name), types.ModuleType(MODULE)
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UserError(f"--config={name} cannot be read: {error.strerror}") from error
    module.__file__ = name
    sys.modules[MODULE] = module  # as an import does: dataclasses look for their module there
    try:
        with _configs_importable():
            exec(compile(source, name, "exec"), module.__dict__)
            get_config = module.__dict__.get("get_config")
            config = get_config(*arguments) if callable(get_config) else None
    except (Exception, SystemExit) as error:  # the file is the user's and may fail in any way
        raise UserError(_line(argument, module, error)) from error
    if not callable(get_config):
        raise UserError(f"--config={argument}: {name} has no get_config; define that function")
    if not isinstance(config, ConfigDict):
        raise UserError(
            f"--config={argument}: get_config in {name} returns a {type(config).__name__}; return "
            "a ConfigDict"
        )
    return config


class _Parser(flags.ArgumentParser):
    """Loads the file as soon as the flag is read, since its keys are flags too."""

    def parse(self, argument: str) -> Any:
        config = load(argument)
        config.lock()
        return config

    def flag_type(self) -> str:
        return "config file"


@contextmanager
def _configs_importable() -> Iterator[None]:
    before = list(sys.path)
    sys.path.append(str(PACKAGE.parent))
    try:
        yield
    finally:
        sys.path[:] = before


def _line(argument: str, module: types.ModuleType, error: BaseException) -> str:
    """Says in one line what failed where."""
    words = textwrap.shorten(str(error), MAX_WORDS, placeholder=" ...")
    file, number = _place(module, error)
    if isinstance(error, SyntaxError):  # its text ends with the place
        words = error.msg
    return f"--config={argument}: {file}, line {number}: {type(error).__name__}: {words}"


def _place(module: types.ModuleType, error: BaseException) -> tuple[str, int]:
    """Finds the line to blame: the innermost one that is of the user's files, not of a library."""
    if isinstance(error, SyntaxError) and error.filename:
        return error.filename, error.lineno or 1
    paths = sysconfig.get_paths()
    libraries = (*(paths[key] for key in ("stdlib", "purelib", "platlib")), str(PACKAGE))
    frames = [
        (frame.filename, frame.lineno or 1)
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", *libraries))
    ]
    if frames:
        return frames[-1]
    call = getattr(module, "get_config", None)  # it does not take what it was called with
    return str(module.__file__), call.__code__.co_firstlineno if call else 1
