"""Tables as text, as any spreadsheet saves them."""

import codecs
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from sheap_jax.files.regular import read_whole

DELIMITERS = (",", ";", "\t")


class Row(NamedTuple):
    """A line of a table."""

    line: int  # in the file, from 1
    cells: dict[str, str]  # by the names of the columns, in lower case

    def number(self, column: str) -> float:
        """The number in a column. ValueError that names both."""
        try:
            return float(self.cells[column])
        except ValueError:
            raise ValueError(f"{column} is {self.cells[column]!r}, expected a number") from None


def read_table(path: Path, *, columns: Sequence[str]) -> Iterator[Row]:
    """The lines of a text table whose first line names at least `columns`. Empty lines are left out.

    Delimiters are commas, semicolons or tabs; with the latter two a decimal may be a comma. Encodings are UTF-8, UTF-16
    (as spreadsheets save "Unicode text") and the one of Windows.

    Raises ValueError that names the file, and the line where it has one.
    """
    text = _decode(path)
    if text[:4].lower() == "sep=":  # how Excel states the delimiter
        delimiter, skipped = text[4:5], 1
        text = text.partition("\n")[2]
    else:
        head = text.partition("\n")[0]
        delimiter, skipped = max(DELIMITERS, key=head.count), 0
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        names = [name.strip().lower() for name in next(rows, [])]
        missing = [name for name in columns if name not in names]
        if missing:
            raise ValueError(f"{path} lacks the column {', '.join(missing)}; its first line names the columns")
        for cells in rows:
            if any(cell.strip() for cell in cells):
                yield _row(cells, names, delimiter, path, rows.line_num + skipped)
    except csv.Error as error:
        raise ValueError(f"{path}, line {rows.line_num + skipped}: {error}") from error


def _row(cells: list[str], names: list[str], delimiter: str, path: Path, line: int) -> Row:
    filled = len(cells)
    while filled > len(names) and not cells[filled - 1].strip():
        filled -= 1
    if filled > len(names):
        raise ValueError(
            f"{path}, line {line}: {filled} cells for {len(names)} columns; quote names with {delimiter!r}"
        )
    values = [cell.strip() for cell in cells] + [""] * (len(names) - len(cells))
    by_name = dict(zip(names, values, strict=False))
    if delimiter != ",":
        by_name |= {name: value.replace(",", ".") for name, value in by_name.items() if name != "file"}
    return Row(line, by_name)


def _decode(path: Path) -> str:
    try:
        data = read_whole(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        raise ValueError(f"{path} is no text: save the table as CSV")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")
