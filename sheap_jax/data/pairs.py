"""The training pipeline: Grain turns (seed, step) into batches of source-target pairs.

    identities, shuffled every epoch -> a random pair of each -> decode, resize, augment -> this process' share -> batch

Every draw depends on the seed and the position only, so that (seed, step) fixes a batch whatever the number of worker
processes: a run that starts again at `step` sees what an uninterrupted one would have seen, and nothing about the
pipeline needs to be saved.
"""

import functools
import logging
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int, Int32

from sheap_jax.data.augment import Augmentation, augment_pair
from sheap_jax.data.frames import decode_frame
from sheap_jax.data.pair_table import PairTable, build_pair_table, draw_pair, evaluation_pairs
from sheap_jax.data.records import ShardError, Split
from sheap_jax.types import Batch, Frame

__all__ = ["PairBatches", "evaluation_pairs", "pair_batches"]

_MAX_TRIES = 8  # pairs tried for one place in a batch before the data counts as unusable
_MIN_DRAWS = 500  # records drawn before the share of bad ones means anything
_log = logging.getLogger(__name__)


def pair_batches(
    directory: str | os.PathLike[str],
    *,
    split: str,
    batch_size: int,
    image_size: int,
    seed: int,
    step: int = 0,
    workers: int = 0,
    across_clips: bool = False,
    allow_self_pairs: bool = False,
    flip: bool = True,
    color_jitter: float = 0.1,
    crop_jitter: float = 0.0,
    process_index: int = 0,
    process_count: int = 1,
    max_bad_share: float = 0.05,
) -> "PairBatches":
    """The endless batches of pairs from number `step` on; call `close()` at the end, or use it in a `with` block.

    Args:
      batch_size: pairs over all processes; process p of P is given the pairs p, p + P, ... of the global batch.
      image_size: pixels of the square images given out; stored ones are resized.
      workers: decoding processes; 0 decodes in two threads of this process.
      across_clips, allow_self_pairs: see `build_pair_table`.
      flip, color_jitter, crop_jitter: see `Augmentation`.
      max_bad_share: share of unusable records among all drawn that stops the run.

    Raises:
      ShardError: the split is missing or damaged.
      ValueError: no identity has a pair, or `process_count` does not divide `batch_size`.
    """
    if batch_size % process_count:
        raise ValueError(f"batch_size {batch_size} is not a multiple of process_count {process_count}")
    opened = Split(directory, split)
    table = build_pair_table(opened.index, across_clips=across_clips, allow_self_pairs=allow_self_pairs)
    if table.dropped:
        names = ", ".join(table.dropped[:5])
        _log.warning("split %r: %d identities have no frames to pair, first: %s", split, len(table.dropped), names)
    augmentation = Augmentation(flip, color_jitter, crop_jitter)
    draw = _DrawPair(opened, table, image_size=image_size, augmentation=augmentation, seed=seed)
    stream = _grain_stream(
        draw,
        local_batch=batch_size // process_count,
        seed=seed,
        step=step,
        workers=workers,
        process_index=process_index,
        process_count=process_count,
    )
    return PairBatches(stream, draw, max_bad_share=max_bad_share)


class PairBatches(Iterator[Batch]):
    """Iterator over batches (numpy arrays) that keeps an eye on unusable records.

    They are replaced by other pairs, logged once each, and counted in `bad_records` (key -> times drawn). `next` raises
    ShardError with the first keys when their share grows too large.
    """

    def __init__(self, stream: Any, draw: "_DrawPair", *, max_bad_share: float) -> None:
        self._stream, self._draw, self._max_bad_share = stream, draw, max_bad_share
        self._drawn = 0
        self.bad_records: dict[str, int] = {}

    def __iter__(self) -> "PairBatches":
        return self

    def __next__(self) -> Batch:
        drawn: _Drawn = next(self._stream)
        self._drawn += drawn.batch.record.size
        for i in drawn.bad[drawn.bad >= 0]:
            self._count_bad(int(i))
        self._check_bad_share()
        return drawn.batch

    def __enter__(self) -> "PairBatches":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the threads and processes that read ahead."""
        self._stream.close()

    def _count_bad(self, i: int) -> None:
        self._drawn += 1
        key = self._draw.split.key(i)
        if key not in self.bad_records:
            _log.warning("pair replaced: %s", self._draw.fault(i))
        self.bad_records[key] = self.bad_records.get(key, 0) + 1

    def _check_bad_share(self) -> None:
        bad = sum(self.bad_records.values())
        if self._drawn >= _MIN_DRAWS and bad > self._max_bad_share * self._drawn:
            raise ShardError(
                f"{bad} of the {self._drawn} records drawn from {self._draw.split.directory} were unusable, more than "
                f"max_bad_share = {self._max_bad_share}: prepare the data again; first: "
                f"{', '.join(list(self.bad_records)[:10])}"
            )


class _Drawn(NamedTuple):
    """A pair, and the records that had to be passed over for it (-1 fills the rest)."""

    batch: Batch
    bad: Int32[np.ndarray, "*b t"]


class _DrawPair:
    """Position in the endless sequence -> decoded, augmented pair: the pipeline's random map, sent to every worker."""

    def __init__(
        self, split: Split, table: PairTable, *, image_size: int, augmentation: Augmentation, seed: int
    ) -> None:
        self.split, self.table, self.image_size = split, table, image_size
        self.augmentation, self.seed = augmentation, seed

    def __call__(self, position: int, generator: np.random.Generator) -> _Drawn:
        bad: list[int] = []
        epoch, place = divmod(position, self.table.num_identities)
        identity = int(_epoch_order(self.table.num_identities, self.seed, epoch)[place])
        while len(bad) < _MAX_TRIES:
            pair = draw_pair(self.table, identity, generator)
            frames: list[Frame] = []
            try:
                for i in pair:
                    frames.append(self.load(i))
            except ShardError:
                bad.append(pair[len(frames)])
                identity = int(generator.integers(self.table.num_identities))
                continue
            source, target = augment_pair(frames[0], frames[1], self.augmentation, generator)
            padded = np.array(bad + [-1] * (_MAX_TRIES - len(bad)), np.int32)
            return _Drawn(Batch._make((source, target, np.array(pair, np.int32))), padded)
        faults = "; ".join(self.fault(i) for i in bad[:3])
        raise ShardError(f"{len(bad)} pairs in a row were unusable, prepare the data again: {faults}")

    def load(self, i: int) -> Frame:
        return decode_frame(self.split[i], image_size=self.image_size)

    def fault(self, i: int) -> str:
        """Why record `i` cannot be used."""
        try:
            self.load(i)
        except ShardError as error:
            return str(error)
        return f"record {self.split.key(i)}: could not be read before, can be read now"


@functools.lru_cache(maxsize=4)
def _epoch_order(count: int, seed: int, epoch: int) -> Int[np.ndarray, "n"]:
    """The order of the identities in one epoch. Grain's own shuffle takes 3 ms per element for few identities."""
    return np.random.default_rng((seed, epoch)).permutation(count)


def _grain_stream(
    draw: _DrawPair,
    *,
    local_batch: int,
    seed: int,
    step: int,
    workers: int,
    process_index: int,
    process_count: int,
) -> Any:
    """The Grain pipeline. Pairs are drawn before the slice, so that all processes share one sequence."""
    import grain

    dataset = grain.MapDataset.range(sys.maxsize).seed(seed).random_map(draw)
    dataset = dataset[process_index::process_count].batch(local_batch, drop_remainder=True)[step:]
    stream = dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4))
    if workers:
        _mark_flags_parsed()
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        # Copied, since workers hand over shared memory, which must not outlive them.
        stream = stream.mp_prefetch(options, worker_init_fn=_start_worker).map(_copy_arrays)
    return iter(stream)


def _copy_arrays(drawn: _Drawn) -> _Drawn:
    return jax.tree.map(np.array, drawn)


def _mark_flags_parsed() -> None:
    """Grain hands absl's flags to its workers and fails if nobody parsed them; this project has none."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


def _start_worker(worker_index: int, worker_count: int) -> None:
    """Tie a worker's life to the training's: Ctrl-C is the training's to answer, its death is the worker's too."""
    del worker_index, worker_count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere a killed training leaves its workers behind
        import ctypes

        set_parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
