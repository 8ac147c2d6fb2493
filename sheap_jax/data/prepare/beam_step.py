"""Converting clips with Apache Beam. Only `engines.convert_with_beam` imports this file, since it needs apache-beam."""

from collections.abc import Iterator

import apache_beam as beam

from sheap_jax.data.prepare.clip_result import ClipConversion
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.data.prepare.process import ClipProcess


class ConvertClips(beam.DoFn):
    """Converts clips; each worker has a process of its own. Gives the names of the clips that failed."""

    def __init__(self, conversion: ClipConversion) -> None:
        self._conversion = conversion

    def setup(self) -> None:
        self._process = ClipProcess(self._conversion)

    def process(self, element: Clip) -> Iterator[str]:
        if self._process.convert(element).reason:
            yield f"{element.identity}/{element.name}"

    def teardown(self) -> None:
        self._process.close()
