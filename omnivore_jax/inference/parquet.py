"""Tables as Parquet, where pyarrow is installed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omnivore_jax.core.errors import UserError
from omnivore_jax.core.files import new_file

SUFFIX = ".parquet"


def check_installed(path: Path, flag: str, other: str) -> None:
    """Refuses a Parquet file where pyarrow is missing.

    Raises:
        UserError: it is; `other` is the suffix of files that can be written without.

    """
    if path.suffix == SUFFIX and find_spec("pyarrow") is None:
        raise UserError(f"--{flag}={path} needs pyarrow; pip install pyarrow, or name a {other}")


def write(path: Path, columns: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> None:
    """Writes columns, lists or arrays of one or two axes; `notes` are kept with them.

    Raises:
        UserError: the disk does not take it.

    """
    import pyarrow  # pyright: ignore[reportMissingImports]
    from pyarrow import parquet  # pyright: ignore[reportMissingImports]

    def column(values: Any) -> Any:
        if getattr(values, "ndim", 1) == 1:
            return pyarrow.array(values)
        return pyarrow.FixedSizeListArray.from_arrays(values.reshape(-1), values.shape[1])

    table = pyarrow.table({name: column(values) for name, values in columns.items()})
    with new_file(path) as draft:
        parquet.write_table(table.replace_schema_metadata(notes), draft)


def read(path: Path) -> tuple[Any, dict[str, str]]:
    """Reads a table (pyarrow.Table) and its notes.

    Raises:
        UserError: pyarrow is missing, or this is no Parquet file.

    """
    with _told_as_one_line(path):
        from pyarrow import parquet  # pyright: ignore[reportMissingImports]

        table = parquet.read_table(path)
    notes = table.schema.metadata or {}
    return table, {name.decode(): text.decode() for name, text in notes.items()}


@contextmanager
def _told_as_one_line(path: Path) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise UserError(f"{path} needs pyarrow; pip install pyarrow") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # pyarrow's own errors are of this kind
        raise UserError(f"{path} is no Parquet file ({error})") from error
