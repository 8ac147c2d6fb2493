"""A trace of some steps for xprof or TensorBoard: `sheap train --profile FIRST:LAST`."""

import contextlib
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from sheap_jax.config_files import ConfigError
from sheap_jax.files.places import files_below, upload_all
from sheap_jax.files.urls import in_bucket

log = logging.getLogger(__name__)

OPTION = "--profile"


class StepRange(NamedTuple):
    """Steps of a run, numbered from 1; both ends belong to it."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "StepRange":
        """FIRST:LAST. Raises ConfigError for anything else."""
        numbers = re.fullmatch(r"(\d{1,12}):(\d{1,12})", text)
        if numbers is None:
            raise ConfigError(f"{OPTION} is {text!r}, it must be FIRST:LAST, two steps as in 100:105")
        return cls(*map(int, numbers.groups()))


def trace_folder(run: Path, wanted: StepRange) -> Path:
    """Where the trace of these steps goes."""
    return run / "profile" / f"{wanted.first}-{wanted.last}"


def check_range(wanted: StepRange, run: Path, *, done: int, steps: int) -> None:
    """Raises ConfigError if a run with `done` of its `steps` does not come to the steps that are wanted.

    Steps that are done pass if their trace is there: the same command goes on after any stop.
    """
    if not 1 <= wanted.first <= wanted.last <= steps:
        raise ConfigError(f"{OPTION} is {wanted.first}:{wanted.last}, it must lie within the run's steps 1 to {steps}")
    if wanted.last <= done and not _has_trace(trace_folder(run, wanted)):
        raise ConfigError(
            f"{OPTION} is {wanted.first}:{wanted.last}, but {run} has {done} steps done: ask for later ones"
        )


def _has_trace(folder: Path) -> bool:
    return folder.exists() and any(file.name.endswith(".xplane.pb") for file in files_below(folder))


class Profile:
    """Traces the steps that are wanted. Around all others it does nothing.

    The host waits for the devices at the beginning and at the end of the trace, and nowhere between.
    """

    def __init__(self, wanted: StepRange | None, run: Path, *, wait: Callable[[], None]):
        self._wanted, self._run, self._wait = wanted, run, wait
        self._tracing = False
        self._made = run  # the folder that the trace is written to

    @contextlib.contextmanager
    def step(self, step: int) -> Iterator[None]:
        """Around everything that belongs to a step, its input too."""
        wanted = self._wanted
        if wanted is None or not wanted.first <= step <= wanted.last:
            yield
            return
        if not self._tracing:
            self._begin(wanted)
        with jax.profiler.StepTraceAnnotation("train", step_num=step):
            yield
        if step == wanted.last:
            self.close()

    def close(self) -> None:
        """End a trace that has begun."""
        if not self._tracing or self._wanted is None:
            return
        self._tracing = False
        folder = trace_folder(self._run, self._wanted)
        try:
            self._wait()
        finally:  # a step that stops the training is what one wants to see
            _stop_trace(self._made, folder)

    def _begin(self, wanted: StepRange) -> None:
        self._wait()
        options = jax.profiler.ProfileOptions()
        options.python_tracer_level = 0  # every call of Python would make a trace that no browser opens
        folder = trace_folder(self._run, wanted)
        self._made = Path(tempfile.mkdtemp(prefix="sheap-trace-")) if in_bucket(folder) else folder
        jax.profiler.start_trace(str(self._made), profiler_options=options)
        self._tracing = True


def _stop_trace(made: Path, folder: Path) -> None:
    """End the trace below `made`. If it belongs into a bucket, `folder`, it is copied there."""
    try:
        jax.profiler.stop_trace()
        if made != folder:
            upload_all(made, folder)
            shutil.rmtree(made)
    except (OSError, RuntimeError) as error:
        log.warning("the trace could not be written to %s (%s); the training goes on", folder, error)
    else:
        log.info("a trace of the steps is in %s: xprof --logdir %s", folder, folder)
