"""The training pipeline: Grain turns (seed, step) into batches of source-target pairs.

    identities, shuffled every epoch -> a random pair of each -> this process' share -> decode, resize, augment

Every draw depends on the seed and the step only (`batch_maker.py`), so that (seed, step) fixes a batch whatever the
number of worker processes: a run that starts again at `step` sees what an uninterrupted one would have seen, and
nothing about the pipeline needs to be saved. Grain hands out whole batches, not pairs: then its own cost does not
matter.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from sheap_jax.config import Data
from sheap_jax.data.augment import Augmentation
from sheap_jax.data.batch_maker import BatchMaker, MadeBatch, Process
from sheap_jax.data.pair_table import build_pair_table
from sheap_jax.data.records import ShardError, Split
from sheap_jax.types import RawBatch

_MIN_DRAWS = 500  # records drawn before the share of bad ones means anything
_log = logging.getLogger(__name__)


def pair_batches(
    directory: str | os.PathLike[str],
    settings: Data = Data(),  # noqa: B008 immutable
    *,
    split: str,
    batch_size: int,
    image_size: int,
    seed: int,
    step: int = 0,
    threads: int = 2,
    process: Process = Process(),  # noqa: B008 immutable
) -> "PairBatches":
    """The endless batches of pairs from number `step` on; call `close()` at the end, or use it in a `with` block.

    Args:
      directory: of the shards.
      settings: which frames may pair, how pairs are changed, decoding processes, when bad records stop the run. Its
        own `directory` is not read.
      batch_size: pairs over all processes; process p of P is given the pairs p, p + P, ... of the global batch.
      image_size: pixels of the square images given out; stored ones are resized.
      threads: how many read ahead in each process; 0 reads when asked, for measurements.

    Raises:
      ShardError: the split is missing or damaged.
      ValueError: no identity has a pair, or the count of processes does not divide `batch_size`.
    """
    if batch_size % process.count:
        raise ValueError(f"batch_size {batch_size} is not a multiple of process_count {process.count}")
    opened = Split(directory, split)
    table = build_pair_table(
        opened.index, across_clips=settings.across_clips, allow_self_pairs=settings.allow_self_pairs
    )
    if table.dropped:
        names = ", ".join(table.dropped[:5])
        _log.warning("split %r: %d identities have no frames to pair, first: %s", split, len(table.dropped), names)
    make = BatchMaker(
        split=opened,
        table=table,
        image_size=image_size,
        augmentation=Augmentation(settings.flip, settings.color_jitter, settings.crop_jitter, settings.degrade),
        seed=seed,
        batch_size=batch_size,
        process=process,
    )
    stream = _grain_stream(make, step=step, workers=settings.workers, threads=threads)
    return PairBatches(stream, make, max_bad_share=settings.max_bad_share)


class PairBatches(Iterator[RawBatch]):
    """Iterator over batches that counts unusable records.

    They are replaced by other pairs, logged once each, and counted in `bad_records` (key -> times drawn). `next` raises
    ShardError with the first keys when their share grows too large, ChildProcessError when a worker died.
    """

    def __init__(self, stream: Any, make: BatchMaker, *, max_bad_share: float) -> None:
        self._stream, self._make, self._max_bad_share = stream, make, max_bad_share
        self._drawn = 0
        self.bad_records: dict[str, int] = {}

    def __iter__(self) -> "PairBatches":
        return self

    def __next__(self) -> RawBatch:
        made: MadeBatch = self._next_made()
        self._drawn += made.batch.record.size + len(made.bad)
        for i in made.bad:
            self._note_bad(int(i))
        self._check_bad_share()
        return made.batch

    def _next_made(self) -> MadeBatch:
        try:
            return next(self._stream)
        except RuntimeError as error:
            if "terminated unexpectedly" not in str(error):
                raise
            raise ChildProcessError(
                f"a decoding process died: {error} Exit code -9 is mostly the system short of memory: "
                "lower data.workers. The same command goes on from the last checkpoint."
            ) from error

    def __enter__(self) -> "PairBatches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def replaced(self) -> int:
        """Records that could not be used so far; another pair took the place of each one's."""
        return sum(self.bad_records.values())

    def close(self) -> None:
        """Stop the threads and processes that read ahead."""
        self._stream.close()

    def _note_bad(self, i: int) -> None:
        key = self._make.split.key(i)
        if key not in self.bad_records:
            _log.warning("pair replaced: %s", self._make.fault(i))
        self.bad_records[key] = self.bad_records.get(key, 0) + 1

    def _check_bad_share(self) -> None:
        if self._drawn >= _MIN_DRAWS and self.replaced > self._max_bad_share * self._drawn:
            raise ShardError(
                f"{self.replaced} of the {self._drawn} records drawn from {self._make.split.directory} were unusable, "
                f"more than max_bad_share = {self._max_bad_share}: prepare the data again; first: "
                f"{', '.join(list(self.bad_records)[:10])}"
            )


def _grain_stream(make: BatchMaker, *, step: int, workers: int, threads: int) -> Any:
    """The Grain pipeline: numbers of steps in, batches out."""
    import grain

    dataset = grain.MapDataset.range(sys.maxsize).map(make)[step:]
    stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads))
    if workers:
        _mark_flags_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        # Copied, since workers hand over shared memory, which must not outlive them.
        stream = stream.mp_prefetch(options, worker_init_fn=_start_worker).map(_copy_arrays)
    return iter(stream)


def _copy_arrays(made: MadeBatch) -> MadeBatch:
    return jax.tree.map(np.array, made)


def _mark_flags_parsed() -> None:
    """Grain hands absl's flags to its workers and fails if nobody parsed them; this project has none."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _start_worker(worker_index: int, worker_count: int) -> None:
    """Make a worker ignore Ctrl-C, which the training answers, and die when the training dies."""
    del worker_index, worker_count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere a killed training leaves its workers behind
        import ctypes

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
