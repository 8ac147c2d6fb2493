"""Reading configurations: Python files, command-line overrides and the JSON beside a checkpoint.

All three go through `replace`, so that a typo or a wrong type is the same clear error everywhere.
"""

import argparse
import ast
import dataclasses
import difflib
import importlib.util
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any

from sheap_jax.config import Config


class ConfigError(ValueError):
    """A configuration field that does not exist or has the wrong type."""


def parse_arguments(arguments: list[str], *, default: str, description: str) -> Config:
    """`--config FILE --config.field=value --config.part.field value` to a configuration.

    Raises ConfigError for unknown fields and wrong types, naming the field and the nearest existing one.
    """
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    parser.add_argument("--config", default=default, help=f"Python file with get_config() (default: {default})")
    known, rest = parser.parse_known_args(arguments)
    config = load_file(known.config)
    for name, text in _pairs(rest):
        config = replace(config, name.split("."), _literal(text))
    return config


def load_file(path: str | Path) -> Config:
    """The configuration that a Python file's `get_config()` returns.

    "FILE:BASE" is `get_config(BASE)`: files that change another one (configs/ablations) take it as an argument.
    """
    name, _, base = str(path).partition(":")
    path = Path(name)
    if not path.is_file():
        choices = ", ".join(sorted(str(p) for p in path.parent.glob("*.py"))) or "none"
        raise ConfigError(f"there is no configuration file {path}; in {path.parent}/ there are: {choices}")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise ConfigError(f"{path} defines no get_config() that returns a sheap_jax.config.Config")
    try:
        inspect.signature(module.get_config).bind(*[base] if base else [])
    except TypeError as error:
        raise ConfigError(f"{path} changes no other configuration: pass it without :{base}") from error
    return module.get_config(base) if base else module.get_config()


def derive(base: str | Path, name: str, changes: dict[str, Any]) -> Config:
    """The configuration in the file `base` with the fields in `changes` ("losses.depth": 0.0), called `<base>-<name>`.

    Raises ConfigError for unknown fields and wrong types.
    """
    config = load_file(base)
    for field, value in ({"name": f"{config.name}-{name}"} | changes).items():
        config = replace(config, field.split("."), value)
    return config


def save_json(config: Config, path: str | Path) -> None:
    Path(path).write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def load_json(path: str | Path) -> Config:
    """The configuration saved by `save_json`. Fields missing in the file keep their defaults."""
    try:
        values = json.loads(Path(path).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} holds no readable configuration: {error}") from error
    return _convert(values, Config, str(path))


def replace(config: Any, names: list[str], value: Any, *, where: str = "config") -> Any:
    """A copy of a dataclass with one nested field set, checked against the field's annotation."""
    name, *rest = names
    hints = typing.get_type_hints(type(config))
    if name not in hints:
        raise ConfigError(_unknown(where, name, list(hints)))
    path = f"{where}.{name}"
    if not rest:
        return dataclasses.replace(config, **{name: _convert(value, hints[name], path)})
    inner = getattr(config, name)
    if not dataclasses.is_dataclass(inner):
        raise ConfigError(f"{path} is {inner!r}, it has no field {rest[0]!r}")
    return dataclasses.replace(config, **{name: replace(inner, rest, value, where=path)})


def _unknown(where: str, name: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(name, choices, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(choices)}"
    return f"{where} has no field {name!r}; {hint}"


def _convert(value: Any, kind: Any, path: str) -> Any:
    """`value` as `kind`, or a ConfigError that says what came and what was wanted."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in arguments:
            return None
        return _convert(value, next(a for a in arguments if a is not type(None)), path)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if isinstance(value, kind):
            return value
        if isinstance(value, dict):
            hints = typing.get_type_hints(kind)
            for name in value:
                if name not in hints:
                    raise ConfigError(_unknown(path, name, list(hints)))
            return kind(**{name: _convert(v, hints[name], f"{path}.{name}") for name, v in value.items()})
    elif origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(v, arguments[0], f"{path}[{i}]") for i, v in enumerate(value))
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif kind in (int, bool, str) and type(value) is kind:
        return value
    wanted = kind.__name__ if isinstance(kind, type) else str(kind)
    raise ConfigError(f"{path} must be {wanted}, not {value!r} ({type(value).__name__})")


def _literal(text: str) -> Any:
    """A Python literal where the text is one, else the text itself."""
    lowered = {"true": True, "false": False, "none": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _pairs(arguments: list[str]) -> list[tuple[str, str]]:
    """`--config.a=1 --config.b 2` as [("a", "1"), ("b", "2")]."""
    pairs, remaining = [], list(arguments)
    while remaining:
        argument = remaining.pop(0)
        if not argument.startswith("--config."):
            raise ConfigError(f"unknown argument {argument!r}; fields are set as --config.<field>=<value>")
        name, equals, text = argument.removeprefix("--config.").partition("=")
        if not equals:
            if not remaining or remaining[0].startswith("--"):
                raise ConfigError(f"{argument} needs a value: {argument}=<value>")
            text = remaining.pop(0)
        pairs.append((name, text))
    return pairs
