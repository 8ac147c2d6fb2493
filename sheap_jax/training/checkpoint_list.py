"""Which checkpoints a run directory has, which of them is the best, and which are kept."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sheap_jax.files.json_files import read_json
from sheap_jax.files.urls import in_bucket, open_path, scheme_of

BEST = "best.json"
MARK = "commit_success.txt"  # Orbax's, of a whole checkpoint
METADATA = "_CHECKPOINT_METADATA"  # Orbax's, from the beginning; at the end it gets the time of the end
SUMS = ".sha256.json"  # follows the step: the checksums of a checkpoint
REACHED = ("gs",)  # schemes of the buckets that Orbax reads and writes


class Best(NamedTuple):
    """The checkpoint with the best score on held-out pairs."""

    step: int
    score: float  # the smaller the better


class CheckpointError(RuntimeError):
    """A checkpoint that could not be written or read; the message says what is left and what to do."""


def read_best(directory: str | Path) -> Best | None:
    """The best checkpoint of a run, if the run was scored and the checkpoint is there."""
    try:
        stored = read_json(open_path(directory) / BEST)
        best = Best(int(stored["step"]), float(stored["score"]))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        raise CheckpointError(f"{open_path(directory) / BEST} cannot be read ({error}): remove it") from error
    return best if best.step in finished_steps(directory) else None


def best_step(directory: str | Path) -> int:
    """The step of the best checkpoint of a run. Raises CheckpointError if none is known."""
    best = read_best(directory)
    if best is None:
        raise CheckpointError(
            f"{directory} has no best checkpoint: its training was not scored (config.log.validate_every); there are "
            f"the steps {finished_steps(directory)}"
        )
    return best.step


def finished_steps(directory: str | Path) -> list[int]:
    """Steps of the checkpoints in a run directory, ascending.

    In a bucket Orbax writes a mark into a checkpoint last. On a disk a checkpoint gets its name when it is whole, and
    older ones have no mark; one that was cut off in a bucket and copied is told by Orbax's metadata.
    """
    folder = open_path(directory) / "checkpoints"
    if in_bucket(folder):
        return _numbers(mark.parent for mark in folder.glob(f"*/{MARK}"))
    return _numbers(path for path in folder.glob("*") if not _is_cut_off(path))


def unfinished_steps(directory: str | Path) -> list[int]:
    """Steps of checkpoints that are not whole and that nothing removes silently, ascending.

    In a bucket: newer than all finished ones, with checksums, so that the mark was there once. What has neither is a
    write that was cut off, and Orbax removes it. On a disk: cut off in a bucket and copied, which Orbax does not see.
    """
    folder = open_path(directory) / "checkpoints"
    if not in_bucket(folder):
        return _numbers(path for path in folder.glob("*") if _is_cut_off(path))
    newest = max(finished_steps(directory), default=-1)
    vouched = (folder / sums.name.removesuffix(SUMS) for sums in folder.glob(f"*{SUMS}"))
    return [step for step in _numbers(vouched) if step > newest and (folder / str(step)).is_dir()]


def _is_cut_off(path: Path) -> bool:
    """Whether a folder on a disk is a checkpoint without an end."""
    if (path / MARK).exists() or path.with_name(f"{path.name}{SUMS}").exists():
        return False
    try:
        stored = read_json(path / METADATA)
    except (OSError, ValueError):
        return False
    begun = isinstance(stored, dict) and stored.get("init_timestamp_nsecs") is not None
    return begun and stored.get("commit_timestamp_nsecs") is None


def _numbers(paths: Iterable[Path]) -> list[int]:
    return sorted(int(path.name) for path in paths if path.name.isdecimal())


def check_reached(directory: Path) -> None:
    """Raises CheckpointError for a bucket that Orbax cannot read and write."""
    scheme = scheme_of(directory)
    if scheme is not None and scheme not in REACHED:
        places = ", ".join(f"{one}://" for one in REACHED)
        raise CheckpointError(
            f"{directory}: Orbax reads and writes checkpoints on disks and {places} alone: mount the bucket as "
            "a folder (docs/cloud.md)"
        )


class NewestAndBest:
    """Which checkpoints Orbax keeps: so many newest ones, and the best."""

    def __init__(self, keep: int, *, best: Callable[[], Best | None]):
        self._keep, self._best = keep, best

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """In ascending order of their steps."""
        del context
        best, newest = self._best(), len(checkpoints) - self._keep
        return [k >= newest or (best is not None and one.step == best.step) for k, one in enumerate(checkpoints)]
