"""Lists in small files of MATLAB: splits, names, mappings."""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from omnivore_jax.core.errors import UserError


def read_lists(path: Path, names: Sequence[str]) -> list[list[Any]]:
    """Reads arrays or cell arrays by their names, each as a list of one axis.

    Raises:
        UserError: the file cannot be read, is not of version 7 or before, or has no such array.

    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = loadmat(path, squeeze_me=True)
        return [np.atleast_1d(content[name]).ravel().tolist() for name in names]
    except KeyError as error:
        there = ", ".join(key for key in content if not key.startswith("__")) or "nothing"
        raise UserError(
            f"{path} has no {error.args[0]!r}, only {there}; download it again"
        ) from None
    except (MatReadError, zlib.error, OSError, ValueError, TypeError, NotImplementedError) as error:
        raise UserError(
            f"{path} cannot be read ({' '.join(str(error).split())}); download it again"
        ) from error
