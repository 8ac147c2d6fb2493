"""The Beam side of the unit of work. Imports apache-beam: only `engines.convert_with_beam` imports this file."""

from collections.abc import Iterator

import apache_beam as beam

from sheap_jax.data.prepare.clips import Clip
from sheap_jax.data.prepare.process import UnitProcess
from sheap_jax.data.prepare.unit import Work


class ConvertClips(beam.DoFn):
    """Converts clips, each worker with a process of its own; gives the names of those that failed."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def setup(self) -> None:
        self._process = UnitProcess(self._work)

    def process(self, element: Clip) -> Iterator[str]:
        if self._process.convert(element).reason:
            yield f"{element.identity}/{element.name}"

    def teardown(self) -> None:
        self._process.close()
