"""Tables that people write themselves: the rows of a CSV or Parquet file, as text."""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omnivore_jax.core.errors import UserError

Row = Mapping[str, str]
"""The cells of a row by column; "" where there is nothing in it."""


def read_header(path: Path) -> list[str]:
    """Reads the names of the columns.

    Raises:
        UserError: the file cannot be read, or pyarrow is missing for Parquet.

    """
    if path.suffix == ".parquet":
        return list(_parquet(path).schema_arrow.names)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # Excel begins with a mark
            return [name.strip() for name in next(csv.reader(file), [])]
    except (csv.Error, UnicodeDecodeError) as error:
        raise _no_table(path, error) from error


def read_rows_of(path: Path) -> Iterator[Row]:
    """Reads the rows below the header; raises UserError where the file is no table."""
    if path.suffix == ".parquet":
        for batch in _parquet(path).iter_batches():
            for cells in batch.to_pylist():
                yield {name: _text(value) for name, value in cells.items()}
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            columns = [name.strip() for name in next(reader, [])]
            for number, cells in enumerate(reader, 1):
                if len(cells) > len(columns):
                    raise UserError(
                        f"{path}: row {number} has {len(cells)} cells, the header names "
                        f"{len(columns)} columns; put quotes around a cell that holds a comma"
                    )
                missing = [""] * (len(columns) - len(cells))
                if cells:  # an empty line is no row
                    cells = [cell.strip() for cell in cells]
                    yield dict(zip(columns, cells + missing, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise _no_table(path, error) from error


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _parquet(path: Path) -> Any:
    try:
        from pyarrow import ArrowInvalid, parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"{path} needs pyarrow; pip install pyarrow, or save the table as CSV"
        ) from None
    try:
        return parquet.ParquetFile(path)
    except ArrowInvalid as error:
        raise _no_table(path, error) from error


def _no_table(path: Path, error: Exception) -> UserError:
    line = " ".join(str(error).split())
    return UserError(f"{path} cannot be read ({line}); save it as CSV in UTF-8")
