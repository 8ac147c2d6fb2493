"""What the main thread of a training does now: watched for stalls, and timed for the metrics."""

import contextlib
from collections.abc import Hashable, Iterator
from typing import Protocol

from sheap_jax.training.speed import SpeedMeter, Wait
from sheap_jax.training.stall import StallWatch


class Closable(Protocol):
    def close(self) -> object: ...


class Stages:
    """The stages of the loop."""

    def __init__(self, stall: StallWatch, speed: SpeedMeter, *, compile_seconds: float):
        self._stall, self._speed, self._compile_seconds = stall, speed, compile_seconds
        self._called: set[Hashable] = set()

    @contextlib.contextmanager
    def stage(self, name: str, wait: Wait | None = None) -> Iterator[None]:
        """Around one stage; `wait` is what the time counts as."""
        timed = contextlib.nullcontext() if wait is None else self._speed.waiting(wait)
        with self._stall.stage(name), timed:
            yield

    @contextlib.contextmanager
    def program(self, program: Hashable, name: str) -> Iterator[bool]:
        """Around a call of a jitted function. Tells whether it is the first one, which compiles and may take longer.

        `program` tells one from another: the function, or all that it is compiled for.

        Other processes may compile for longer: after a first call wait for its result before the stage ends.
        """
        first = program not in self._called
        self._called.add(program)
        if first:
            with (
                self._stall.stage(f"compiling {name}", seconds=self._compile_seconds),
                self._speed.waiting("compiling"),
            ):
                yield True
        else:
            with self.stage(name, "devices"):
                yield False

    @contextlib.contextmanager
    def closing(self, **parts: Closable) -> Iterator[None]:
        """Around the whole loop, which is a stage too: closes the parts at its end, each one even if another fails."""
        with contextlib.ExitStack() as stack:
            for name, part in reversed(parts.items()):
                stack.callback(self._close, name, part)
            with self.stage("the loop between two stages"):
                yield

    def _close(self, name: str, part: Closable) -> None:
        with self.stage(f"closing {name}"):
            part.close()
