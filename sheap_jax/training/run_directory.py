"""The run directory: one training at a time writes to it, and it stays one run of one configuration.

A training claims the directory first (`claim`). Until its start is accepted (`RunDirectory.begin`) nothing changes: a
refused start leaves an older run as it was, and no new directory.
"""

import contextlib
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sheap_jax import config_files
from sheap_jax.config import Config
from sheap_jax.config_files import ConfigError
from sheap_jax.files.json_files import as_read, read_json_lines
from sheap_jax.files.one_writer import InUseError, one_writer
from sheap_jax.files.urls import PlaceError, in_bucket, open_path
from sheap_jax.files.whole_file import whole_file
from sheap_jax.models import official
from sheap_jax.training import sharding
from sheap_jax.training.checkpoint import finished_steps
from sheap_jax.training.checkpoint_list import check_reached

log = logging.getLogger(__name__)

CONFIG = "config.json"  # as the run began; never written again once there is a checkpoint
CHANGES = "changes.jsonl"  # what differed from it in later starts: {"step": ..., "changes": {field: [stored, new]}}

# Fields that may differ from the stored configuration when a run goes on, and why. Any other change would make it
# another run under the same name. A name covers everything below it.
MAY_CHANGE = {
    "steps": "a run may go on for longer; the learning rate follows the new length from there on",
    "optimizer.learning_rate": "the way out where a training diverges",
    "optimizer.regressor_learning_rate": "the same",
    "log": "what is written where and how often, not what is learned",
    "faults": "what the run puts up with",
    "devices": "where it is computed",
    "rasterizer": "the same pictures by another program",
    "estimator.remat": "the same numbers with less memory",
    "data.directory": "shards move between disks; that they are the same ones is the user's word",
    "data.workers": "the batches do not depend on it",
    "data.max_bad_share": "what the run puts up with",
    "data.embedded.processes": "the clips do not depend on it",
    "weights.estimator": "only where a run starts from; later its checkpoints hold them",
    "weights.start": "the same",
}


class RunDirectory:
    """A run directory that this process may write to once its start is accepted."""

    def __init__(self, path: Path, config: Config) -> None:
        self.path, self.begun, self._config = path, False, config
        if official.is_release(path):
            raise ConfigError(f"{path} holds the official release, which is not trained: choose another --config.name")
        done = finished_steps(path)
        if done and done[-1] > config.steps:
            raise ConfigError(
                f"{path} has {done[-1]} steps done, config.steps is {config.steps}: nothing is left to train. "
                "Ask for more steps, or train beside it with another --config.name"
            )
        self._changes = self._check_stored() if done else None

    def begin(self, step: int) -> None:
        """Accept a start that goes on after `step`. Stores the configuration, or its changes from the stored one."""
        self.begun = True
        if not sharding.leads():
            return
        if self._changes is None:
            config_files.save_json(self._config, self.path / CONFIG)
            (self.path / CHANGES).unlink(missing_ok=True)
            return
        file, changes = self.path / CHANGES, as_read(self._changes)
        rows = read_json_lines(file) if file.exists() else []
        if changes != (rows[-1].get("changes") if rows else {}):
            rows.append({"step": step, "changes": changes})
            with whole_file(file) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def _check_stored(self) -> dict[str, tuple[Any, Any]]:
        """What differs from the stored configuration. Raises ConfigError if it may not, or without a stored one."""
        file = self.path / CONFIG
        if not file.exists():
            raise ConfigError(
                f"{self.path} has checkpoints but no {CONFIG}, which says what they are: put it back, or train beside "
                "them with another --config.name"
            )
        changes = config_files.differences(config_files.load_json(file), self._config)
        refused = {name: values for name, values in changes.items() if not _may_change(name)}
        if refused:
            rows = [f"config.{name} is {old!r} there, {new!r} here" for name, (old, new) in refused.items()]
            more = f" and {len(rows) - 4} fields more" if len(rows) > 4 else ""
            raise ConfigError(
                f"{self.path} holds a run of another configuration: {'; '.join(rows[:4])}{more}. Go on with the stored "
                f"values (--config {file}), or train beside it with another --config.name"
            )
        return changes


@contextlib.contextmanager
def claim(config: Config) -> Iterator[RunDirectory]:
    """The run directory of a configuration, for this process alone while the `with` block runs.

    Until `begin`, a ValueError in the block is about what the configuration names, and becomes a ConfigError.

    Raises:
      ConfigError: the run there has another configuration or more steps, or another training writes to it.
      CheckpointError: it lies in a bucket that checkpoints cannot be written to.
      OSError: it cannot be written.
    """
    path = open_path(config.run_directory)
    check_reached(path)
    made = [] if in_bucket(path) else [parent for parent in (path, *path.parents) if not parent.exists()]
    with contextlib.ExitStack() as stack:
        with _write_errors(path, made):
            path.mkdir(parents=True, exist_ok=True)
            if sharding.leads():
                stack.enter_context(one_writer(path, way_out="train beside it with another --config.name"))
        run = None
        try:
            run = RunDirectory(path, config)
            yield run
        except BaseException as error:
            if (run is None or not run.begun) and sharding.leads():
                _remove(made)
            if type(error) is ValueError and run is not None and not run.begun:
                log.debug("refused by", exc_info=True)
                raise ConfigError(str(error)) from error
            raise


@contextlib.contextmanager
def _write_errors(path: Path, made: list[Path]) -> Iterator[None]:
    """Name the way out. What another process may have put into the directories made here stays."""
    try:
        yield
    except InUseError as error:
        raise ConfigError(str(error)) from None
    except PlaceError:
        raise
    except OSError as error:
        with contextlib.suppress(OSError):
            for directory in made:
                directory.rmdir()
        raise OSError(f"cannot write the run to {path} ({error}); choose another --config.log.directory") from error


def _remove(made: list[Path]) -> None:
    """Remove the directories that a refused start made, with their contents."""
    for number, path in enumerate(made):
        if number == 0:
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # not there, or another process has put something in
                path.rmdir()


def _may_change(name: str) -> bool:
    return any(name == allowed or name.startswith(f"{allowed}.") for allowed in MAY_CHANGE)
