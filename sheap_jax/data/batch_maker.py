"""From (seed, step) to the batch of that step. Each process draws the whole global batch and decodes its own share."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32

from sheap_jax.data.augment import Augmentation, crop_frames, draw_changes
from sheap_jax.data.buffers import BufferPool
from sheap_jax.data.codec import NUM_LANDMARKS, Record, ShardError
from sheap_jax.data.degrade import degrade, draw_camera
from sheap_jax.data.frames import decode_frame, decode_image, drop_far_landmarks, landmarks_finite
from sheap_jax.data.pair_table import PairTable, draw_pairs
from sheap_jax.data.records import Split
from sheap_jax.types import RawBatch, RawFrame

MAX_TRIES = 8  # pairs tried for one place in a batch before the data counts as unusable
_ORDER, _PAIRS, _REPLACEMENTS, _CAMERAS = range(4)  # streams of random numbers that must not meet


@dataclass(frozen=True)
class Process:
    """Which one of the run's processes this is."""

    index: int = 0
    count: int = 1


class MadeBatch(NamedTuple):
    """A batch, and the records that could not be used for it."""

    batch: RawBatch
    bad: Int32[np.ndarray, "n"]


@dataclass
class BatchMaker:
    """Called with the number of a step, it makes this process' share of that step's batch."""

    split: Split
    table: PairTable
    image_size: int
    augmentation: Augmentation
    seed: int
    batch_size: int  # pairs over all processes
    process: Process

    def __post_init__(self) -> None:
        self._places = np.arange(self.process.index, self.batch_size, self.process.count)  # ours in the global batch
        self._images = BufferPool((2, len(self._places), self.image_size, self.image_size, 3))

    def __call__(self, step: int) -> MadeBatch:
        """Raises ShardError when pair after pair cannot be used."""
        generator = np.random.default_rng((self.seed, _PAIRS, step))
        pairs = draw_pairs(self.table, self._identities(step), generator)[self._places]
        changes = draw_changes(self.augmentation, self.batch_size, generator).of(self._places)
        frames, bad = self._load(pairs, step)
        crop_frames(frames, changes)
        self._degrade(frames, step)
        source, target = (RawFrame(*(values[side] for values in frames)) for side in range(2))
        return MadeBatch(RawBatch(source, target, changes.mirrored, changes.gain, pairs), np.array(bad, np.int32))

    def _degrade(self, frames: RawFrame, step: int) -> None:
        """Let a bad camera take some of the pairs; each pair's draws depend on its place in the global batch."""
        if self.augmentation.degrade == 0.0:
            return
        for k, place in enumerate(self._places.tolist()):
            generator = np.random.default_rng((self.seed, _CAMERAS, step, place))
            if generator.random() < self.augmentation.degrade:
                camera = draw_camera(generator)
                for side in range(2):
                    degrade(frames.image[side, k], camera, generator)

    def _identities(self, step: int) -> Int[np.ndarray, "b"]:
        """Each identity once an epoch; the batches are cut from the endless sequence of epochs."""
        count = self.table.num_identities
        epoch, place = np.divmod(step * self.batch_size + np.arange(self.batch_size), count)
        identity = np.empty_like(place)
        for number in range(epoch[0], epoch[-1] + 1):
            of_epoch = epoch == number
            identity[of_epoch] = _epoch_order(count, self.seed, number)[place[of_epoch]]
        return identity

    def _load(self, pairs: Int32[np.ndarray, "b 2"], step: int) -> tuple[RawFrame, list[int]]:
        """The frames [2, b, ...] of `pairs`, and the bad records. Replaces unusable pairs, in `pairs` too."""
        count = len(pairs)
        frames = RawFrame(
            self._images.take(),
            np.zeros((2, count, NUM_LANDMARKS, 2), np.float32),
            np.zeros((2, count, NUM_LANDMARKS), np.float32),
        )
        bad: list[int] = []
        missing: np.ndarray = np.arange(count)
        for attempt in range(MAX_TRIES):
            usable = self._fill(frames, missing, pairs[missing])
            bad += pairs[missing][~usable].tolist()
            missing = missing[~usable.all(axis=1)]
            if not len(missing):
                return drop_far_landmarks(frames), bad
            for k in missing.tolist():
                stream = (self.seed, _REPLACEMENTS, step, int(self._places[k]), attempt)
                generator = np.random.default_rng(stream)
                identity = generator.integers(self.table.num_identities, size=1)
                pairs[k] = draw_pairs(self.table, identity, generator)[0]
        faults = "; ".join(self.fault(i) for i in bad[-3:])
        raise ShardError(f"{MAX_TRIES} pairs in a row were unusable, prepare the data again: {faults}")

    def _fill(
        self, frames: RawFrame, rows: Int[np.ndarray, "m"], pairs: Int32[np.ndarray, "m 2"]
    ) -> Bool[np.ndarray, "m 2"]:
        """Decode `pairs` into the given rows of `frames`. Returns which of their records can be used."""
        usable, scale = np.ones(pairs.shape, bool), np.ones(pairs.shape, np.float32)
        # All reads come before all decodes. If they took turns, each would find the cache full of the other's data.
        records = [[self._read(i) for i in pair] for pair in pairs.tolist()]
        for m, (row, pair) in enumerate(zip(rows.tolist(), records, strict=True)):
            for side, record in enumerate(pair):
                try:
                    if record is None:
                        raise ShardError
                    scale[m, side] = self.image_size / decode_image(record, frames.image[side, row])
                except ShardError:
                    usable[m, side] = False
                else:
                    frames.landmarks[side, row] = record.landmarks
                    frames.landmark_weight[side, row] = record.weights
        frames.landmarks[:, rows] *= scale.T[..., None, None]
        return usable & landmarks_finite(frames.landmarks[:, rows], frames.landmark_weight[:, rows]).T

    def _read(self, i: int) -> Record | None:
        try:
            return self.split[i]
        except ShardError:
            return None

    def fault(self, i: int) -> str:
        """Why record `i` cannot be used."""
        try:
            decode_frame(self.split[i], image_size=self.image_size)
        except ShardError as error:
            return str(error)
        return f"record {self.split.key(i)}: could not be read before, can be read now"


@functools.lru_cache(maxsize=4)
def _epoch_order(count: int, seed: int, epoch: int) -> Int[np.ndarray, "n"]:
    """The order of the identities in one epoch."""
    return np.random.default_rng((seed, _ORDER, epoch)).permutation(count)
