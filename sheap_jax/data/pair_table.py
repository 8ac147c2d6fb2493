"""Which records may form a pair: two different frames of one clip, or of one identity."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32

from sheap_jax.data.records import Split, SplitIndex


class PairTable(NamedTuple):
    """Records that have a partner, sorted by identity and, within it, by group (clip or identity)."""

    record: Int[np.ndarray, "p"]  # index in the split
    group_start: Int[np.ndarray, "p"]  # position in this table where the record's group starts
    group_size: Int[np.ndarray, "p"]
    identity_start: Int[np.ndarray, "i+1"]
    dropped: tuple[str, ...]  # names of the identities without any pair

    @property
    def num_identities(self) -> int:
        return len(self.identity_start) - 1


def build_pair_table(index: SplitIndex, *, across_clips: bool, allow_self_pairs: bool) -> PairTable:
    """All candidates for pairs.

    Args:
      across_clips: any two frames of an identity may pair. Otherwise both come from one clip and share its light, so
        that the light of the source explains the target.
      allow_self_pairs: a frame without a partner becomes its own target (stills). Otherwise it is left out.

    Raises:
      ValueError: there are no records, or no pair is left.
    """
    if not len(index.identity):
        raise ValueError("the split has no records: prepare the data again")
    group = index.identity if across_clips else index.clip
    has_partner = np.bincount(group)[group] > 1
    order = np.argsort(index.identity, kind="stable")
    order = order[allow_self_pairs | has_partner[order]]
    if not len(order):
        raise ValueError(
            f"none of the {len(index.identity_names)} identities has two frames to pair: set across_clips to pair "
            "frames of different clips, or allow_self_pairs for stills"
        )
    starts = _run_starts(group[order])
    sizes = np.diff(starts, append=len(order))
    identity_start = np.append(_run_starts(index.identity[order]), len(order))
    kept = np.unique(index.identity[order])
    dropped = np.delete(index.identity_names, kept)
    return PairTable(order, np.repeat(starts, sizes), np.repeat(sizes, sizes), identity_start, tuple(map(str, dropped)))


def _run_starts(values: Int[np.ndarray, "n"]) -> Int[np.ndarray, "r"]:
    """Positions where a run of equal values starts."""
    return np.flatnonzero(np.diff(values, prepend=-1))


def draw_pairs(
    table: PairTable, identity: Int[np.ndarray, "b"], generator: np.random.Generator
) -> Int32[np.ndarray, "b 2"]:
    """The records of one random (source, target) pair for each of the given identities of the table.

    The source is uniform over the identity's frames, the target over the other frames of the source's group.
    """
    source = generator.integers(table.identity_start[identity], table.identity_start[identity + 1])
    start, size = table.group_start[source], table.group_size[source]
    # Go some steps round the group from the source: at least one, unless the source is alone.
    step = generator.integers(np.minimum(1, size - 1), size)
    target = start + (source - start + step) % size
    return np.stack([table.record[source], table.record[target]], axis=-1).astype(np.int32)


def evaluation_pairs(split: Split, *, per_identity: int = 4) -> Int[np.ndarray, "p 2"]:
    """A fixed list of (source, target) record indices for re-animation scores, `per_identity` for each identity.

    Sources are spread evenly over the identity's frames; the target lies half its group further on, so that
    expression and pose differ. Identities without a pair are left out.

    Raises:
      ValueError: no identity has two frames to pair.
    """
    table = build_pair_table(split.index, across_clips=False, allow_self_pairs=False)
    first, last = table.identity_start[:-1, None], table.identity_start[1:, None]
    count = np.minimum(per_identity, last - first)
    step = np.arange(per_identity)[None]
    source = (first + (last - first) * step // count)[step < count]
    start, size = table.group_start[source], table.group_size[source]
    target = start + (source - start + size // 2) % size
    return np.stack([table.record[source], table.record[target]], axis=-1)
