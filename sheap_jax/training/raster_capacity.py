"""Room for all that is drawn: the rasteriser's lists grow where entries did not fit.

A list has a static length, and what does not fit is left out of the picture. Each growth compiles the step anew, so it
happens between two steps, where metrics are written, and only a few times. The lengths are kept in the run.
"""

import logging
from pathlib import Path

import numpy as np
import tileraster
from jaxtyping import Int

from sheap_jax.files.row_files import append_row
from sheap_jax.method.objective import RenderSettings
from sheap_jax.method.rendering import Capacities, initial_capacities
from sheap_jax.training import sharding
from sheap_jax.training.metrics import drop_lines_after, read_metrics

log = logging.getLogger(__name__)

FILE = "capacity.jsonl"  # a line for each growth: {"step": ..., "surfels": ..., "mesh": ...}
MOST_TIMES = 16  # as long as at first: scales that explode would else take all memory
ADVICE = "Such sizes come from a training that diverges: lower the learning rates or raise config.losses.scale"


class GrowingCapacity:
    """How targets are rendered, with lists that grow. All processes must decide alike: they are told the same."""

    def __init__(
        self,
        run: Path,
        settings: RenderSettings,
        first: Capacities,
        *,
        most_growths: int,
        resume_step: int = 0,
        writes: bool = True,
    ):
        self._file, self._writes, self._first, self._most = run / FILE, writes, first, most_growths
        if writes:
            drop_lines_after(self._file, resume_step)
        rows = read_metrics(self._file) if writes and self._file.exists() else []
        last = rows[-1] if rows else {"surfels": settings.surfel_capacity, "mesh": settings.mesh_capacity}
        known = sharding.as_leader(np.array([len(rows), last["surfels"] or 0, last["mesh"] or 0], np.int32))
        self._growths, surfels, mesh = map(int, known)
        # Another device or rasteriser counts otherwise: its first length may be larger, or there is no list at all.
        surfels = None if first.surfels is None else max(surfels, first.surfels) if surfels else None
        mesh = None if first.mesh is None else max(mesh, first.mesh) if mesh else None
        self.settings = settings._replace(surfel_capacity=surfels, mesh_capacity=mesh)
        self._said: set[str] = set()

    def grow(self, step: int, overflow: Int[np.ndarray, "2"]) -> bool:
        """Make room for the entries of one image, surfels and mesh, that found none in the steps up to `step`.

        Returns whether `settings` have changed, and the step must be compiled anew.
        """
        before = (self.settings.surfel_capacity or self._first.surfels, self.settings.mesh_capacity or self._first.mesh)
        fields = ("surfel_capacity", "mesh_capacity")
        grown: dict[str, int] = {}
        for field, missing, current, first in zip(fields, map(int, overflow), before, self._first, strict=True):
            if not missing:
                continue
            room = self._room(current, first, missing)
            if room is not None:
                grown[field] = room
            if self._writes:
                self._say(field, step, missing, current, room)
        if not grown:
            return False
        self._growths += 1
        self.settings = self.settings._replace(**grown)
        if self._writes:
            row = {"step": step, "surfels": self.settings.surfel_capacity, "mesh": self.settings.mesh_capacity}
            append_row(self._file, row)
        return True

    def _room(self, current: int | None, first: int | None, missing: int) -> int | None:
        """The next length; None where it cannot grow any more."""
        if current is None or first is None or self._growths >= self._most:
            return None
        room = min(tileraster.grow_capacity(current, np.array([missing])), MOST_TIMES * first)
        return room if room > current else None

    def _say(self, field: str, step: int, missing: int, current: int | None, room: int | None) -> None:
        """Each growth; that there is none any more once in a start."""
        what = f"step {step}: the rasteriser had no room for {missing} entries of one image"
        if room is not None:
            growth = f"growth {self._growths + 1} of {self._most}"
            log.warning(
                "%s: %s grows from %s to %d (%s), and the step is compiled anew. %s",
                what, field, current, room, growth, ADVICE,
            )  # fmt: skip
        elif field not in self._said:
            self._said.add(field)
            log.error("%s, and %s grows no more: parts of the pictures are missing. %s", what, field, ADVICE)


def first_capacities(settings: RenderSettings, *, surfels: int, faces: int) -> Capacities:
    """The lengths that a run begins with, for so many prototypes and faces."""
    own = initial_capacities(
        surfels,
        faces,
        size=settings.size,
        implementation=settings.implementation,
        primitive=settings.primitive,
    )
    return Capacities(settings.surfel_capacity or own.surfels, settings.mesh_capacity or own.mesh)
