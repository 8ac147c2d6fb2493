"""The Beam side of the unit of work. Imports apache-beam: only `engines.convert_with_beam` imports this file."""

from collections.abc import Iterator

import apache_beam as beam

from sheap_jax.data.prepare.clip_result import ClipConversion
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.data.prepare.process import ClipProcess


class ConvertClips(beam.DoFn):
    """Converts clips, each worker with a process of its own; gives the names of those that failed."""

    def __init__(self, conversion: ClipConversion) -> None:
        self._conversion = conversion

    def setup(self) -> None:
        self._process = ClipProcess(self._conversion)

    def process(self, element: Clip) -> Iterator[str]:
        if self._process.convert(element).reason:
            yield f"{element.identity}/{element.name}"

    def teardown(self) -> None:
        self._process.close()
