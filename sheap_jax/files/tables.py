"""Tables as text, as any spreadsheet saves them."""

import codecs
import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sheap_jax.files.regular import open_regular

DELIMITERS = (",", ";", "\t")
_MOST_LINE = 2**24
_PART = 2**20  # bytes that are read at once


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
    with _open_text(path) as text:
        lines = _lines(text, path)
        head = next(lines, "")
        if head[:4].lower() == "sep=":  # how Excel states the delimiter
            delimiter, skipped = head[4:5], 1
        else:
            delimiter, skipped, lines = max(DELIMITERS, key=head.count), 0, itertools.chain([head], lines)
        yield from _rows(lines, columns, delimiter, path, skipped)


def _rows(lines: Iterator[str], columns: Sequence[str], delimiter: str, path: Path, skipped: int) -> Iterator[Row]:
    """The rows below the line of names; `skipped` lines came before it."""
    rows = csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
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


def _open_text(path: Path) -> io.TextIOWrapper:
    """The file for reading text, whatever its encoding. A table may be larger than the memory."""
    try:
        stream = open_regular(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        encoding = _encoding(stream, path)
    except BaseException:
        stream.close()
        raise
    stream.seek(0)
    return io.TextIOWrapper(stream, encoding=encoding, errors="replace", newline="")


def _encoding(stream: BinaryIO, path: Path) -> str:
    """UTF-8 if all of the file is."""
    if stream.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    stream.seek(0)
    decoder, is_utf8 = codecs.getincrementaldecoder("utf-8")(), True
    while part := stream.read(_PART):
        if b"\0" in part:
            raise ValueError(f"{path} is no text: save the table as CSV")
        is_utf8 = is_utf8 and _decodes(decoder, part)
    return "utf-8-sig" if is_utf8 and _decodes(decoder, b"", final=True) else "cp1252"


def _decodes(decoder: codecs.IncrementalDecoder, data: bytes, *, final: bool = False) -> bool:
    try:
        decoder.decode(data, final)
    except UnicodeDecodeError:
        return False
    return True


def _lines(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """The lines with their ends, each short enough for the memory."""
    while line := text.readline(_MOST_LINE + 1):
        if len(line) > _MOST_LINE:
            raise ValueError(f"{path} has a line of more than {_MOST_LINE} letters: it is no table")
        yield line
