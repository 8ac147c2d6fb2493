"""Spreading the clips over the processes of this machine, or over the workers of Apache Beam."""

import os
import queue
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool

from sheap_jax.data.prepare.clip_result import ClipConversion, Status, convert_and_store
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.data.prepare.process import ClipProcess


def convert_here(
    clips: Sequence[Clip], conversion: ClipConversion, *, processes: int | None = None
) -> Iterator[tuple[Clip, Status]]:
    """Convert clips as they come; one process per core unless told otherwise.

    Args:
      processes: 0 converts in this process, where nothing limits the time and a crash ends the run: for debugging.
    """
    if processes == 0:
        yield from ((clip, convert_and_store(clip, conversion)) for clip in clips)
        return
    count = min(processes or len(os.sched_getaffinity(0)), len(clips))
    workers = [ClipProcess(conversion) for _ in range(count)]
    idle: queue.SimpleQueue[ClipProcess] = queue.SimpleQueue()
    for worker in workers:
        idle.put(worker)

    def convert(clip: Clip) -> tuple[Clip, Status]:
        worker = idle.get()
        try:
            return clip, worker.convert(clip)
        finally:
            idle.put(worker)

    try:
        with ThreadPool(count) as pool:  # threads only wait for their process
            yield from pool.imap_unordered(convert, clips)
    finally:
        for worker in workers:
            worker.close()


def convert_with_beam(
    clips: Sequence[Clip], conversion: ClipConversion, *, runner: str, options: Sequence[str]
) -> None:
    """Convert clips with a Beam runner, which must see the videos and the parts' folder under the same paths.

    Raises RuntimeError if apache-beam is not installed.
    """
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError as error:
        raise RuntimeError(f"--runner {runner} needs apache-beam ({error}): pip install 'sheap-jax[beam]'") from error

    from sheap_jax.data.prepare.beam_step import ConvertClips

    with beam.Pipeline(options=PipelineOptions([f"--runner={runner}", *options])) as pipeline:
        found = pipeline | "clips" >> beam.Create(clips)
        # Without the shuffle a runner may keep all clips on the worker that listed them.
        _ = found | "spread" >> beam.Reshuffle() | "convert" >> beam.ParDo(ConvertClips(conversion))
