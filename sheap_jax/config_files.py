"""Reading configurations: Python files, command-line overrides and the JSON beside a checkpoint.

All three go through `_convert`, so that a typo or a wrong type is the same clear error everywhere.
"""

import ast
import contextlib
import dataclasses
import difflib
import importlib.util
import inspect
import json
import traceback
import types
import typing
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from sheap_jax.command_line import make_parser
from sheap_jax.config import REMOVED_FIELDS, Config
from sheap_jax.config_fields import describe_fields
from sheap_jax.files.json_files import read_json
from sheap_jax.files.urls import open_path, scheme_of
from sheap_jax.files.whole_file import whole_file

# In an installed package they lie inside it (pyproject.toml), in a checkout beside it.
CONFIGS = Path(__file__).parent / "configs"
if not CONFIGS.is_dir():
    CONFIGS = Path(__file__).parents[1] / "configs"


class ConfigError(ValueError):
    """A configuration that cannot be: a field that does not exist, a value it cannot have, a file that is not there."""


def parse_arguments(
    arguments: list[str], *, default: str, description: str, others: Sequence[ArgumentParser] = ()
) -> Config:
    """`--config FILE --config.field=value --config.part.field value` to a configuration.

    `--help` among them prints the fields with the values that they would have, and ends the process. `others` know the
    options that are no fields; here they are only let through.

    Raises ConfigError for unknown fields and wrong types, naming the field and the nearest existing one.
    """
    usage = "sheap train [--config NAME] [--config.FIELD=VALUE ...]"
    parser = make_parser("train", description, urls=("config",), usage=usage, allow_abbrev=False, parents=others)
    names = ", ".join(config_names())
    what = f"one of {names}; or your own file with get_config(), or a run's config.json"
    parser.add_argument("--config", default=default, metavar="NAME", help=what)
    known, rest = parser.parse_known_args([word for word in arguments if word not in ("-h", "--help")])
    config = load_file(known.config)
    for name, text in _pairs(rest):
        names = name.split(".")
        config = replace(config, names, text if _is_text(config, names) else _literal(text))
    if "-h" in arguments or "--help" in arguments:
        parser.epilog = describe_fields(config)
        parser.print_help()
        parser.exit()
    return config


def config_names() -> list[str]:
    """Names of the configurations that come with the package: "base", "ablations/mlp"."""
    files = [path.relative_to(CONFIGS) for path in CONFIGS.rglob("*.py")]
    return sorted((file.with_suffix("").as_posix() for file in files), key=lambda name: ("/" in name, name))


def find_file(name: str) -> Path:
    """The file that is meant: "small" is the package's, "mine.py" that of the folder one works in.

    Where there is no such file, "small.py" and "configs/small.py" are the package's as well.
    """
    path = Path(name)
    parts = path.parts[1:] if path.parts[:1] == ("configs",) else path.parts
    packaged = CONFIGS.joinpath(*parts)
    if path.is_absolute() or ".." in parts or path.suffix not in ("", ".py") or (path.suffix and path.is_file()):
        return path
    return packaged.with_suffix(".py") if packaged.with_suffix(".py").is_file() else path


def load_file(path: str | Path) -> Config:
    """The configuration that a Python file's `get_config()` returns, or that a run's config.json holds.

    "FILE:BASE" is `get_config(BASE)`: files that change another one (configs/ablations) take it as an argument.

    Raises ConfigError, naming the file and, where Python stopped, the line.
    """
    if scheme_of(path) is not None:
        return load_json(open_path(path))
    name, _, base = str(path).partition(":")
    path = find_file(name)
    if path.is_dir():
        inside = path / "config.json"
        hint = f"a run's configuration is {inside}" if inside.exists() else "name a file in it"
        raise ConfigError(f"{path} is a folder: {hint}")
    if not path.is_file():
        raise ConfigError(_no_such_file(path))
    if path.suffix == ".json":
        return load_json(path)
    if path.suffix != ".py":
        raise ConfigError(f"{path} is no configuration: it must be a .py with get_config(), or a run's config.json")
    get_config = _get_config(path)
    try:
        inspect.signature(get_config).bind(*[base] if base else [])
    except TypeError as error:
        if base:
            raise ConfigError(f"{path} changes no other configuration: pass it without :{base}") from error
        raise ConfigError(f"{path} changes another configuration: pass it as {path}:BASE.py") from error
    with _python_errors(path):
        config = get_config(base) if base else get_config()
    if not isinstance(config, Config):
        raise ConfigError(f"get_config() of {path} returns {type(config).__name__}, not a sheap_jax.config.Config")
    return _convert(dataclasses.asdict(config), Config, "config")


def _no_such_file(path: Path) -> str:
    """That there is none, and what there is instead: files beside it, or those that come with the package."""
    if path.suffix and path.parent != Path():
        choices = ", ".join(sorted(str(p) for p in path.parent.glob("*.py"))) or "none"
        return f"there is no configuration file {path}; in {path.parent}/ there are: {choices}"
    name, names = path.with_suffix("").as_posix(), config_names()
    near = [other for other in names if other.endswith(f"/{name}")] or difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"by name there are {', '.join(names)}."
    return f"there is no configuration {str(path)!r}; {hint} The name of your own file ends in .py"


def _get_config(path: Path) -> Callable[..., Any]:
    """The function of that name in a Python file."""
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with _python_errors(path):
        spec.loader.exec_module(module)
    if not callable(getattr(module, "get_config", None)):
        raise ConfigError(f"{path} defines no get_config() that returns a sheap_jax.config.Config")
    return module.get_config


@contextlib.contextmanager
def _python_errors(path: Path) -> Iterator[None]:
    """Whatever is wrong in a user's Python file, with its line, as a ConfigError."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if Path(frame.filename).absolute() == path.absolute()]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        what = error.msg if isinstance(error, SyntaxError) else error
        raise ConfigError(f"{path}{f', line {line}' if line else ''}: {type(error).__name__}: {what}") from error


def derive(base: str | Path, name: str, changes: dict[str, Any]) -> Config:
    """The configuration in the file `base` with the fields in `changes` ("losses.depth": 0.0), called `<base>-<name>`.

    Raises ConfigError for unknown fields and wrong types.
    """
    config = load_file(base)
    for field, value in ({"name": f"{config.name}-{name}"} | changes).items():
        config = replace(config, field.split("."), value)
    return config


def save_json(config: Config, path: str | Path) -> None:
    """Write a configuration; an older file is replaced only once the new one is complete."""
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def load_json(path: str | Path) -> Config:
    """The configuration saved by `save_json`. Fields missing in the file keep their defaults; removed ones are ignored.

    Raises ConfigError as `load_file`, and for a removed field whose value no longer has an effect.
    """
    try:
        values = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} holds no readable configuration: {error}") from error
    _drop_removed(values, str(path))
    return _convert(values, Config, str(path))


def _drop_removed(values: Any, path: str) -> None:
    """Take out of a stored configuration the fields that no longer exist."""
    for field, neutral in REMOVED_FIELDS.items():
        part, name = field.split(".")
        stored = values.get(part) if isinstance(values, dict) else None
        if not isinstance(stored, dict) or name not in stored:
            continue
        value = stored.pop(name)
        if value != neutral:
            raise ConfigError(
                f"{path}.{field} is {value!r}: this field was removed, only {neutral} can still be read. Use the "
                "version that trained the run, or train again"
            )


def differences(first: Config, second: Config) -> dict[str, tuple[Any, Any]]:
    """Values of both by dotted field name, where they differ."""
    ours, theirs = _flat(dataclasses.asdict(first)), _flat(dataclasses.asdict(second))
    names = dict.fromkeys([*ours, *theirs])
    return {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


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
            values = {name: _convert(v, hints[name], f"{path}.{name}") for name, v in value.items()}
            needed = [field.name for field in dataclasses.fields(kind) if _is_needed(field)]
            lacking = [name for name in needed if name not in values]
            if lacking:
                raise ConfigError(f"{path} lacks {', '.join(lacking)}")
            return kind(**values)
    elif origin is tuple and isinstance(value, (list, tuple)):
        return tuple(_convert(v, arguments[0], f"{path}[{i}]") for i, v in enumerate(value))
    elif kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    elif kind is float and isinstance(value, str) and value.lower().lstrip("+-") in ("nan", "inf", "infinity"):
        raise ConfigError(f"{path} is {value}, it must be finite")
    elif kind in (int, bool, str) and type(value) is kind:
        return value
    wanted = kind.__name__ if isinstance(kind, type) else str(kind)
    raise ConfigError(f"{path} must be {wanted}, not {value!r} ({type(value).__name__})")


def _is_needed(field: dataclasses.Field) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_text(config: Any, names: list[str]) -> bool:
    """Whether a field takes any text as it is: a name of digits is no number there."""
    hints = typing.get_type_hints(type(config))
    name, *rest = names
    if rest:
        return _is_text(getattr(config, name, None), rest)
    return hints.get(name) is str


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
