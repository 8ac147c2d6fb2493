"""Checkpoints with Orbax. They are verified when they are read, and an unfinished one is never restored.

Layout of a run directory:

    config.json              the configuration that the run began with (training/run_directory.py)
    changes.jsonl            what differed from it in later starts
    architecture.json        path, shape and dtype of every array of the train state
    checkpoints/<step>/      Orbax
    checkpoints/<step>.sha256.json   a checksum of every file: Orbax restores flipped bytes without an error
    best.json                which checkpoint had the best score on held-out pairs, if the run is scored
"""

import dataclasses
import json
import logging
import math
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sheap_jax.files.json_files import as_read, read_json
from sheap_jax.files.places import check_listable, free_bytes, move_below
from sheap_jax.files.urls import in_bucket, open_path
from sheap_jax.files.whole_file import whole_file
from sheap_jax.training import sharding
from sheap_jax.training.checkpoint_list import (
    BEST,
    SUMS,
    Best,
    CheckpointError,
    NewestAndBest,
    check_reached,
    finished_steps,
    read_best,
    unfinished_steps,
)
from sheap_jax.training.checksums import compare, write_checksums
from sheap_jax.training.state import TrainState

log = logging.getLogger(__name__)
_NO_END = "it lacks what Orbax writes at the end"
_BEGIN_ANEW = "Copy a whole checkpoint back, or begin from step 0 with --fresh"


class Checkpoints:
    """The checkpoints of one run directory. Saving goes on in the background; `finish` waits for it.

    Several processes share the directory and call every method together. The first one writes the checksums.
    """

    def __init__(self, directory: str | Path, *, keep: int = 2):
        import orbax.checkpoint as ocp  # the training step does not need it

        self.run = open_path(directory).absolute()
        self.root, self.damaged = self.run / "checkpoints", self.run / "damaged"
        self._args: Any = ocp.args
        self._pending: int | None = None
        try:
            self._set_unfinished_aside()
            self.best = _best_of_leader(self.run)
            self._manager = ocp.CheckpointManager(
                os.fspath(self.root),
                options=ocp.CheckpointManagerOptions(
                    preservation_policy=NewestAndBest(keep, best=lambda: self.best),
                    create=True,
                    cleanup_tmp_directories=True,
                ),
                item_handlers=ocp.StandardCheckpointHandler(),
            )
            check_listable(self.root)  # Orbax takes a folder that it cannot list for an empty one
        except Exception as error:
            if isinstance(error, CheckpointError) or not (isinstance(error, OSError) or in_bucket(self.root)):
                raise
            raise CheckpointError(f"cannot write to {self.root}: {_told(error, self.root)}") from error

    def steps(self) -> list[int]:
        """Steps of the finished checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    def improves(self, score: float, *, since: int = 0) -> bool:
        """Whether a score is better, that is smaller, than that of the best checkpoint after step `since`."""
        return math.isfinite(score) and (self.best is None or self.best.step <= since or score < self.best.score)

    def save(self, state: TrainState, *, best_score: float | None = None) -> None:
        """Start writing `state`. An error of the previous write is raised here or in `finish`.

        With a `best_score` the checkpoint is the best from now on, and kept beside the newest. It is waited for: a kill
        before the next checkpoint would lose the score.

        Raises CheckpointError when the disk is full; earlier checkpoints stay whole.
        """
        self.finish()
        step = int(state.step)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state) if hasattr(leaf, "nbytes"))
        free = free_bytes(self.root)
        if free is not None and free < size:
            raise CheckpointError(self._full(step, f"{size >> 20} MiB needed, {free >> 20} MiB free"))
        if sharding.leads():
            with whole_file(self.run / "architecture.json") as temporary:
                temporary.write_text(json.dumps(describe(state), indent=1))
        try:
            self._manager.save(step, args=self._args.StandardSave(state), force=True)
        except Exception as error:
            raise self._failure(step, error) from error
        self._pending = step
        if best_score is not None:
            self.finish()
            self.best = Best(step, best_score)
            if sharding.leads():
                with whole_file(self.run / BEST) as temporary:
                    temporary.write_text(json.dumps(self.best._asdict()) + "\n")

    def finish(self) -> None:
        """Wait for the write in progress and store its checksums."""
        if self._pending is None:
            return
        step, self._pending = self._pending, None
        try:
            self._manager.wait_until_finished()
            if sharding.leads():
                write_checksums(self.root / str(step), self._checksum_file(step))
        except Exception as error:
            raise self._failure(step, error) from error
        if not sharding.leads():
            return
        for old in self.root.glob(f"*{SUMS}"):
            if int(old.name.split(".")[0]) not in self.steps():
                old.unlink()

    def restore(self, like: TrainState, *, fresh: bool = False) -> TrainState | None:
        """The newest checkpoint that is whole, with the shardings of `like`; None if there is none at all.

        A checkpoint whose checksums are wrong is named in the log, moved to `damaged/`, and the one before it is taken.
        Nothing else moves one: a file system, a memory or a network that fails for a while proves no damage.

        Args:
          fresh: begin anew where all checkpoints have been moved to `damaged/`.

        Raises CheckpointError if the architecture differs, no checkpoint is whole, one cannot be read, or all that
        there were lie in `damaged/`.
        """
        steps = self.steps()
        if not steps:
            self._check_beginning(fresh=fresh)
            return None
        self._check_architecture(like)
        for step in reversed(steps):
            path = self.root / str(step)
            vouched = False
            try:
                verdict = compare(path, self._checksum_file(step)) if sharding.leads() else None
                if _agreed(verdict is not None and verdict.damaged is not None):
                    if verdict is not None:
                        log.warning("checkpoint %s is damaged, trying the one before: %s", path, verdict.damaged)
                    self._set_aside(step)
                    continue
                vouched = _agreed(verdict is not None and verdict.vouched)
                restored: Any = self._manager.restore(step, args=self._args.StandardRestore(_abstract(like)))
            except Exception as error:
                raise CheckpointError(_unreadable(path, error, vouched=vouched)) from error
            if not vouched and sharding.leads():
                log.warning("checkpoint %s had no checksums. It could be read: they are written now", path)
                write_checksums(path, self._checksum_file(step))
            return restored
        raise CheckpointError(
            f"none of the checkpoints {steps} in {self.root} has the checksums it was written with; "
            f"they are now in {self.damaged}. {_BEGIN_ANEW}"
        )

    def close(self) -> None:
        self.finish()
        self._manager.close()

    def _check_architecture(self, like: TrainState) -> None:
        rows = _differences(self.run, like)
        if rows:
            raise CheckpointError(
                f"the checkpoints in {self.root} are of another architecture: {_shown(rows)}. The code has changed "
                "since they were made: go back to it, or train beside them with another --config.name"
            )

    def _check_beginning(self, *, fresh: bool) -> None:
        """Raises CheckpointError before a run begins anew although it had checkpoints."""
        lost = self.damaged.is_dir() and any(self.damaged.iterdir())
        if lost and not fresh:
            raise CheckpointError(f"{self.root} is empty, but {self.damaged} holds checkpoints. {_BEGIN_ANEW}")

    def _set_aside(self, step: int) -> None:
        """Move a damaged checkpoint out of the way, so that its step can be saved again."""
        if self.best is not None and self.best.step == step:
            self.best = None
            if sharding.leads():
                (self.run / BEST).unlink(missing_ok=True)
        if sharding.leads():
            self._move_to_damaged(step)
        _agreed(True)  # no process looks before it is gone
        self._manager.reload()

    def _set_unfinished_aside(self) -> None:
        """Before Orbax looks: it removes what lacks its mark in a bucket, and on a disk takes it for whole."""
        if sharding.leads():
            for step in unfinished_steps(self.run):
                log.warning("checkpoint %s is damaged: %s", self.root / str(step), _NO_END)
                self._move_to_damaged(step)
        _agreed(True)

    def _move_to_damaged(self, step: int) -> None:
        for path in (self.root / str(step), self._checksum_file(step)):
            if path.exists():
                move_below(path, self.damaged)

    def _checksum_file(self, step: int) -> Path:
        return self.root / f"{step}{SUMS}"

    def _failure(self, step: int, error: Exception) -> CheckpointError:
        text = str(error)
        full = any(word in text for word in ("No space left", "ENOSPC", "RESOURCE_EXHAUSTED", "quota"))
        if full and not in_bucket(self.root):  # a bucket is never full, only asked too often
            return CheckpointError(self._full(step, text.splitlines()[0][:200]))
        return CheckpointError(f"could not write checkpoint {self.root / str(step)}: {_told(error, self.root)}")

    def _full(self, step: int, detail: str) -> str:
        kept = [s for s in self.steps() if s != step]
        left = f"the checkpoint of step {kept[-1]} is whole" if kept else "there is no earlier checkpoint"
        return (
            f"the disk of {self.root} is full while saving step {step} ({detail}); {left}. "
            "Free space and run the same command again to go on from there."
        )


def read_checkpoint(directory: str | Path, like: TrainState, *, step: int | None = None) -> TrainState | None:
    """A checkpoint without the optimisers' state, for prediction and evaluation.

    Changes nothing in the run directory, where a training may be writing.

    Args:
      like: gives shapes, dtypes and shardings.
      step: which one; None: the newest that is whole, or None if there is no checkpoint.

    Raises CheckpointError as `Checkpoints.restore` does, or if there is none of that step.
    """
    import orbax.checkpoint as ocp

    run = open_path(directory).absolute()
    check_reached(run)
    root = run / "checkpoints"
    steps = finished_steps(run)[::-1]
    if step is not None:
        if step not in steps:
            raise CheckpointError(f"{root} has no checkpoint of step {step}, only of {steps[::-1]}")
        steps = [step]
    else:
        for unfinished in unfinished_steps(run):
            log.warning("checkpoint %s is damaged, trying the one before: %s", root / str(unfinished), _NO_END)
    if not steps:
        return None
    rows = [row for row in _differences(run, like) if not row.startswith(".opt_state")]
    if rows:
        raise CheckpointError(
            f"the checkpoints in {root} are of another architecture: {_shown(rows)}. The code or config.json has "
            "changed since they were made: go back to it, or train again"
        )
    fields = {field.name: getattr(like, field.name) for field in dataclasses.fields(like) if field.name != "opt_state"}
    wanted = ocp.args.PyTreeRestore(
        item=fields, restore_args=ocp.checkpoint_utils.construct_restore_args(fields), partial_restore=True
    )
    for step in steps:
        path, vouched = root / str(step), False
        try:
            damaged, vouched = compare(path, root / f"{step}{SUMS}")
            if damaged is not None:
                log.warning("checkpoint %s is damaged, trying the one before: %s", path, damaged)
                continue
            with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
                return type(like)(**reader.restore(os.fspath(path / "default"), args=wanted), opt_state={})
        except Exception as error:  # Orbax raises various errors
            raise CheckpointError(_unreadable(path, error, vouched=vouched)) from error
    raise CheckpointError(
        f"none of the checkpoints {steps} in {root} has the checksums it was written with: copy or train the run again"
    )


def _unreadable(path: Path, error: Exception, *, vouched: bool) -> str:
    """What is said of a checkpoint that cannot be read, though nothing proves that it is damaged."""
    state = "is whole by its checksums" if vouched else "could not be compared with its checksums, or has none"
    reason = _told(error, path)
    return (
        f"checkpoint {path} {state}, and could not be read: {reason}. Nothing was moved. Run the same command again "
        f"once that has passed; to go on from the checkpoint before it, move {path} away"
    )


def _told(error: Exception, path: Any) -> str:
    """What an error says. Those of buckets are of many packages: the path knows them."""
    return path.explain(error) if in_bucket(path) else str(error) or type(error).__name__


def _differences(run: Path, like: TrainState) -> list[str]:
    """A line for each array that a run's checkpoints and `like` do not share."""
    file = run / "architecture.json"
    if not file.exists():
        return []
    try:
        saved, wanted = read_json(file), as_read(describe(like))
        if not isinstance(saved, dict):
            raise ValueError(f"{file} is no list of arrays")
    except ValueError as error:  # it only explains: whether the arrays fit is seen when they are read
        log.warning("%s: what differs from the checkpoints cannot be told", error)
        return []
    different = [name for name in sorted(saved.keys() | wanted.keys()) if saved.get(name) != wanted.get(name)]
    return [f"{n} saved {saved.get(n, 'nothing')}, wanted {wanted.get(n, 'nothing')}" for n in different]


def _shown(rows: list[str]) -> str:
    """How many arrays differ, and the first of them; those of the optimizers follow from the parameters'."""
    first = sorted(rows, key=lambda row: row.startswith(".opt_state"))[:3]
    return f"{len(rows)} arrays differ, first {'; '.join(first)}"


def _agreed(answer: bool) -> bool:
    """The first process's answer, on every process."""
    return bool(sharding.as_leader(np.asarray(answer)))


def describe(state: TrainState) -> dict[str, list[Any]]:
    """Shape and dtype of every array, by path."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)] for path, leaf in leaves}


def _abstract(state: TrainState) -> TrainState:
    """Shapes, dtypes and shardings, for Orbax to restore onto."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def _best_of_leader(run: Path) -> Best | None:
    """The best checkpoint that the first process knows: on all, since they decide by it what is saved."""
    best = read_best(run) if sharding.leads() else None
    step, score = sharding.as_leader(np.array([-1.0, 0.0] if best is None else [float(best.step), best.score]))
    return None if step < 0 else Best(int(step), float(score))
