"""What all commands share: their parsers, errors as one line, and silence of the libraries below.

Stands at the start of the flow and imports nothing heavy, so that a command can be silent before it loads them.
"""

import argparse
import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from sheap_jax.files.urls import check_local

# Read by the C++ parts of JAX, TensorFlow Lite and MediaPipe when they are loaded: errors only.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "2", "GLOG_minloglevel": "2", "TPU_MIN_LOG_LEVEL": "2", "TPU_STDERR_LOG_LEVEL": "2"}
# Python packages whose warnings are for those who develop with them, not for who runs a command.
_TALKATIVE = ("jax", "orbax", "grain", "websockets", "viser", "tensorflow_datasets", "fsspec", "google", "botocore")
# They print the traceback of each error that they raise as well. Orbax logs by absl.
_DOUBLE_TALKERS = ("absl", "gcsfs")
# Their errors are of network and credentials.
_BUCKET_PACKAGES = ("gcsfs", "aiohttp", "google.auth", "google.api_core", "google.cloud", "botocore", "s3fs")

VERBOSE = ("-v", "--verbose")


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of descriptions, and states each default that says something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        says_nothing = default is None or default is False or default == argparse.SUPPRESS or default in ([], ())
        if says_nothing or not action.option_strings or text is None or "default" in text:
            return text
        return f"{text} (default: %(default)s)"


class Parser(argparse.ArgumentParser):
    """Refuses URLs for options that take local paths."""

    urls: Collection[str] = ()  # names of the options that take URLs too

    def parse_known_args(self, *arguments: Any, **named: Any) -> Any:
        """Raises PlaceError, an OSError, for a URL where it is none of `urls`."""
        options, rest = super().parse_known_args(*arguments, **named)
        for name, value in vars(options).items():
            for one in value if isinstance(value, list) else [value]:
                if name not in self.urls and isinstance(one, (str, os.PathLike)):
                    check_local(one, name.replace("_", "-"))
        return options, rest


def make_parser(command: str, description: str | None, *, urls: Collection[str] = (), **options: object) -> Parser:
    """The parser of `sheap COMMAND`; `options` are those of ArgumentParser.

    `urls` are the names of those of the command that take URLs of buckets too.
    """
    settings: dict[str, Any] = {"prog": f"sheap {command}", "description": description, **options}
    parser = Parser(formatter_class=HelpFormatter, **settings)
    parser.urls = urls
    parser.add_argument(*VERBOSE, action="store_true", help="show what libraries log, and where an error came from")
    return parser


def is_verbose(arguments: Sequence[str]) -> bool:
    """Whether -v is among the arguments: known before they are parsed, since parsing loads the libraries."""
    return any(argument in VERBOSE for argument in arguments)


def silence_libraries() -> None:
    """Only errors of other packages reach the terminal. Variables that the user has set stay."""
    for variable, value in _QUIET.items():
        os.environ.setdefault(variable, value)
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in _DOUBLE_TALKERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Drop what C++ code writes to the terminal meanwhile, where GLOG_minloglevel asks for errors alone.

    For MediaPipe, which does not look at that variable before it has written its first lines.
    """
    variable = "GLOG_minloglevel"
    if os.environ.get(variable) != _QUIET[variable]:
        yield
        return
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _is_of_a_bucket(error: Exception) -> bool:
    module = type(error).__module__
    return any(module == package or module.startswith(f"{package}.") for package in _BUCKET_PACKAGES)


def keep_compiled_programs() -> None:
    """What is compiled once serves later processes: a resume and the next prediction start at once.

    JAX_COMPILATION_CACHE_DIR names another place than ~/.cache/sheap-jax/xla.
    """
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sheap-jax/xla"
    with contextlib.suppress(OSError, RuntimeError):  # no home, or none to write to: everything works without
        place.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(place))


def run(main: Callable[[list[str]], None], arguments: Sequence[str], expected: tuple[type[BaseException], ...]) -> None:
    """Run a command. Errors that it expects end the process with one line, Ctrl+C ends it silently."""
    try:
        main(list(arguments))
    except expected as error:
        if is_verbose(arguments):
            raise
        sys.exit(f"error: {error}")
    except (MemoryError, RecursionError) as error:
        if is_verbose(arguments):
            raise
        what = "not enough memory" if isinstance(error, MemoryError) else "something is nested too deep"
        sys.exit(f"error: {what}; -v shows where ({str(error).partition(chr(10))[0] or 'no details'})")
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # as of `sheap ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if is_verbose(arguments) or not _is_of_a_bucket(error):
            raise
        sys.exit(f"error: a request to a bucket failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
