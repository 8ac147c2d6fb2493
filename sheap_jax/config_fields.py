"""The fields of a configuration for `--help`: names, values, and the comments beside them in config.py."""

import ast
import dataclasses
import inspect
import io
import shutil
import textwrap
import tokenize
from collections.abc import Iterator
from typing import Any

from sheap_jax.config import Config

_COLUMN = 44  # where comments begin


def describe_fields(config: Config) -> str:
    """One field after the other, as it is set on the command line, with its value in `config`."""
    width = max(60, shutil.get_terminal_size().columns)
    lines = [f"The fields, with their values in {config.name!r}:"]
    for name, value, comment in _fields(config):
        entry = f"  --config.{name}={_written(value)}"
        texts = textwrap.wrap(comment, width - _COLUMN - 1)
        if texts and len(entry) < _COLUMN - 1:
            entry = f"{entry:{_COLUMN}}{texts.pop(0)}"
        lines += [entry, *(" " * _COLUMN + text for text in texts)]
    return "\n".join(lines)


def _fields(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, str]]:
    """Dotted name, value and comment of each field, nested ones in place of what holds them."""
    comments = field_comments(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value, comments[field.name]


def field_comments(kind: type) -> dict[str, str]:
    """By field of a dataclass: the comment in its lines, else the one in the line above; "" without one."""
    source = textwrap.dedent(inspect.getsource(kind))
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token for token in tokens if token.type == tokenize.COMMENT}
    found, body = {}, ast.parse(source).body[0]
    assert isinstance(body, ast.ClassDef)
    for node in body.body:
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        lines = [line for line in range(node.lineno, (node.end_lineno or node.lineno) + 1) if line in comments]
        above = node.lineno - 1
        if not lines and above in comments and comments[above].line.strip().startswith("#"):
            lines = [above]
        found[node.target.id] = " ".join(comments[line].string.lstrip("# ") for line in lines)
    return found


def _written(value: Any) -> str:
    """A value as the command line takes it."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return '"(' + ",".join(repr(item) for item in value) + (',)"' if len(value) == 1 else ')"')
    return str(value)
