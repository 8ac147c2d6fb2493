"""Checkpoints: exact round trip, and every way in which one can be damaged."""

import errno
import json
import logging
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sheap_jax.training import checkpoint, checksums
from sheap_jax.training.checkpoint import CheckpointError, Checkpoints, read_checkpoint
from sheap_jax.training.checkpoint_list import best_step, finished_steps, read_best
from sheap_jax.training.optimizer import make_optimizer
from sheap_jax.training.state import TrainState, init_state
from sheap_jax.types import PrototypeState


def make_state(step: int, *, width: int = 4) -> TrainState:
    rng = np.random.default_rng(step)
    params = {
        "estimator": {"kernel": jnp.asarray(rng.normal(size=(3, width)), jnp.float32), "bias": jnp.zeros(width)},
        "regressor": {"embedding": jnp.asarray(rng.normal(size=(5, 2)), jnp.float32)},
    }
    prototypes = PrototypeState(
        parent_face=jnp.asarray(rng.integers(0, 9, 5), jnp.int32),
        barycentric=jnp.asarray(rng.dirichlet([1, 1, 1], 5), jnp.float32),
        active=jnp.asarray(rng.random(5) > 0.5),
        opacity_mean=jnp.zeros(5),
        gradient_norm=jnp.zeros(5),
    )
    optimizer = make_optimizer(optax.constant_schedule(1e-3), weight_decay=0.0, clip_norm=1.0, muon=True)
    optimizers = {"estimator": optimizer, "regressor": optimizer}
    state = init_state(params, prototypes, optimizers, jax.random.key(step))
    return state.replace(step=jnp.asarray(step, jnp.int32))


@pytest.fixture
def saved(tmp_path):
    """A run with checkpoints of steps 1 and 2."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        checkpoints.save(make_state(step))
    checkpoints.close()
    return tmp_path


def assert_same(first: TrainState, second: TrainState) -> None:
    one, two = jax.tree.leaves(first), jax.tree.leaves(second)
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        if jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


def content(directory):
    """Every file below a directory with its bytes."""
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def largest_file(directory):
    return max((p for p in directory.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def test_newest_is_restored_bit_for_bit(saved):
    assert_same(Checkpoints(saved).restore(make_state(0)), make_state(2))


def test_nothing_saved_gives_none(tmp_path):
    assert Checkpoints(tmp_path).restore(make_state(0)) is None


def test_only_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(make_state(step))
    checkpoints.close()
    assert Checkpoints(tmp_path).steps() == [2, 3]
    assert {p.name for p in (tmp_path / "checkpoints").glob("*.json")} == {"2.sha256.json", "3.sha256.json"}


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(saved, damage, caplog):
    file = largest_file(saved / "checkpoints" / "2")
    content = bytearray(file.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        file.write_bytes(bytes(content))
    elif damage == "truncate":
        file.write_bytes(bytes(content[: len(content) // 2]))
    else:
        file.unlink()
    with caplog.at_level(logging.WARNING):
        restored = Checkpoints(saved).restore(make_state(0))
    assert_same(restored, make_state(1))
    assert str(file) in caplog.text


def test_the_step_of_a_damaged_checkpoint_can_be_saved_again(saved):
    largest_file(saved / "checkpoints" / "2").unlink()
    checkpoints = Checkpoints(saved)
    checkpoints.restore(make_state(0))
    checkpoints.save(make_state(2))
    checkpoints.close()
    assert_same(Checkpoints(saved).restore(make_state(0)), make_state(2))


def test_an_empty_step_directory_is_not_taken_for_the_newest(saved):
    (saved / "checkpoints" / "7").mkdir()
    assert_same(Checkpoints(saved).restore(make_state(0)), make_state(2))


def test_older_checkpoints_without_marks_are_whole(saved):
    for file in [*saved.rglob("commit_success.txt"), *saved.rglob("*.sha256.json")]:
        file.unlink()
    assert finished_steps(saved) == [1, 2]
    assert_same(Checkpoints(saved).restore(make_state(0)), make_state(2))
    (saved / "checkpoints/2/_CHECKPOINT_METADATA").unlink()
    (saved / "checkpoints/2.sha256.json").unlink()
    assert finished_steps(saved) == [1, 2]


def test_nothing_whole_is_an_error(saved):
    for step in ("1", "2"):
        largest_file(saved / "checkpoints" / step).unlink()
    with pytest.raises(CheckpointError, match="none of the checkpoints"):
        Checkpoints(saved).restore(make_state(0))


def test_a_run_does_not_begin_anew_where_its_checkpoints_were_damaged(saved):
    for step in ("1", "2"):
        largest_file(saved / "checkpoints" / step).unlink()
    with pytest.raises(CheckpointError):
        Checkpoints(saved).restore(make_state(0))
    with pytest.raises(CheckpointError, match=r"checkpoints is empty, but .*damaged holds checkpoints.*--fresh"):
        Checkpoints(saved).restore(make_state(0))
    assert Checkpoints(saved).restore(make_state(0), fresh=True) is None
    shutil.move(saved / "damaged" / "1", saved / "checkpoints" / "1")  # mended by hand, without its checksums
    with pytest.raises(CheckpointError, match="could not be read"):
        Checkpoints(saved).restore(make_state(0))


PASSING = [  # what clusters do for a while
    PermissionError(errno.EACCES, "Permission denied"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.EIO, "Input/output error"),
    MemoryError(),
    RuntimeError("RESOURCE_EXHAUSTED: out of memory"),
]


def failing(error):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize("error", PASSING, ids=lambda error: f"{type(error).__name__} {error}")
@pytest.mark.parametrize("where", ["reading a file", "listing a folder", "reading checksums", "restoring"])
def test_what_passes_proves_no_damage(saved, monkeypatch, error, where):
    """Nothing moves, the error is named, and the same command goes on once it has passed."""
    checkpoints, before = Checkpoints(saved), content(saved)
    like = placed(make_state(0)).replace(opt_state={})
    with monkeypatch.context() as patch:
        if where == "reading a file":
            patch.setattr(checksums, "_digest", failing(error))
        elif where == "listing a folder":
            patch.setattr(os, "scandir", failing(error))
        elif where == "reading checksums":
            patch.setattr(checksums, "_stored", failing(error))
        else:
            patch.setattr(checkpoints._manager, "restore", failing(error))
            patch.setattr("orbax.checkpoint.Checkpointer.restore", failing(error))
        reason = str(error) or "MemoryError"
        with pytest.raises(CheckpointError, match=r"checkpoints/2 .*could not be read: ") as caught:
            checkpoints.restore(make_state(0))
        assert reason in str(caught.value)
        if where != "listing a folder":  # the steps are found by listing
            with pytest.raises(CheckpointError, match=r"checkpoints/2 .*could not be read: "):
                read_checkpoint(saved, like)
    assert content(saved) == before
    assert not (saved / "damaged").exists()
    assert_same(checkpoints.restore(make_state(0)), make_state(2))


@pytest.mark.parametrize("change", ["missing", "cut off", "of another kind", "empty"])
def test_checksums_that_are_lost_are_no_damage(saved, caplog, change):
    """They are said to be lost, the checkpoint is read, and they are written anew."""
    file = saved / "checkpoints/2.sha256.json"
    whole = file.read_bytes()
    if change == "missing":
        file.unlink()
    else:
        file.write_bytes({"cut off": whole[:40], "of another kind": b"[1, 2]", "empty": b""}[change])
    with caplog.at_level(logging.WARNING):
        assert_same(Checkpoints(saved).restore(make_state(0)), make_state(2))
    assert "checkpoints/2 had no checksums" in caplog.text
    assert json.loads(file.read_bytes()) == json.loads(whole)


def test_without_checksums_and_unreadable_it_stays(saved):
    (saved / "checkpoints/2.sha256.json").unlink()
    file = largest_file(saved / "checkpoints" / "2")
    file.write_bytes(file.read_bytes()[:10])
    before = content(saved)
    with pytest.raises(CheckpointError, match=r"could not be compared with its checksums.*move .*checkpoints/2 away"):
        Checkpoints(saved).restore(make_state(0))
    assert content(saved) == before
    shutil.rmtree(saved / "checkpoints/2")
    assert_same(Checkpoints(saved).restore(make_state(0)), make_state(1))


def test_a_folder_that_cannot_be_listed_is_not_an_empty_run(saved, monkeypatch):
    monkeypatch.setattr(checkpoint.os, "listdir", failing(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(CheckpointError, match="Permission denied"):
        Checkpoints(saved)


def test_another_architecture_is_named(saved):
    with pytest.raises(CheckpointError, match="another architecture") as caught:
        Checkpoints(saved).restore(make_state(0, width=6))
    assert "kernel" in str(caught.value)
    assert "[3, 4]" in str(caught.value)
    assert "[3, 6]" in str(caught.value)


def placed(state: TrainState) -> TrainState:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def test_reading_takes_what_was_trained_and_changes_nothing(saved):
    """Also from a run that is being written, with another optimizer, and whose newest checkpoint is damaged."""
    (saved / "checkpoints/3.orbax-checkpoint-tmp-0").mkdir()
    before = content(saved)
    like = placed(make_state(0)).replace(opt_state={"estimator": jax.ShapeDtypeStruct((), jnp.int32)})
    found = read_checkpoint(saved, like)
    assert_same(found, make_state(2).replace(opt_state={}))
    assert type(found.prototypes) is PrototypeState
    assert_same(read_checkpoint(saved, like, step=1), make_state(1).replace(opt_state={}))
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 7, only of \[1, 2\]"):
        read_checkpoint(saved, like, step=7)
    assert content(saved) == before
    assert (saved / "checkpoints/3.orbax-checkpoint-tmp-0").exists()
    file = largest_file(saved / "checkpoints" / "2")
    file.write_bytes(file.read_bytes()[:-1])
    assert_same(read_checkpoint(saved, like), make_state(1).replace(opt_state={}))
    assert file.exists(), "what is damaged stays where it is"
    largest_file(saved / "checkpoints" / "1").unlink()
    with pytest.raises(CheckpointError, match="none of the checkpoints"):
        read_checkpoint(saved, like)


def test_reading_names_another_architecture(saved):
    with pytest.raises(CheckpointError, match=r"arrays differ(.|\n)*kernel"):
        read_checkpoint(saved, placed(make_state(0, width=6)))


def test_full_disk_before_writing_keeps_the_last_checkpoint(saved, monkeypatch):
    checkpoints = Checkpoints(saved)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(CheckpointError, match=r"full while saving step 3.*checkpoint of step 2 is whole"):
        checkpoints.save(make_state(3))
    monkeypatch.undo()
    assert_same(Checkpoints(saved).restore(make_state(0)), make_state(2))


def test_disk_that_fills_up_while_writing(saved, monkeypatch):
    checkpoints = Checkpoints(saved)

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoints._manager, "wait_until_finished", fail)
    with pytest.raises(CheckpointError, match="Free space and run the same command again"):
        checkpoints.save(make_state(3))


def test_checksums_notice_every_byte(tmp_path):
    (tmp_path / "a").write_bytes(b"one")
    before = checksums.checksums(tmp_path)
    (tmp_path / "a").write_bytes(b"onf")
    assert checksums.checksums(tmp_path) != before


def test_architecture_file_lists_every_array(saved):
    described = json.loads((saved / "architecture.json").read_text())
    assert len(described) == len(jax.tree.leaves(make_state(1)))


@pytest.mark.parametrize("text", ["", "[1, 2]", "[" * 100_000])
def test_a_damaged_architecture_file_is_named_and_costs_nothing(saved, text, caplog):
    (saved / "architecture.json").write_text(text)
    assert_same(Checkpoints(saved).restore(make_state(0)), make_state(2))
    assert str(saved / "architecture.json") in caplog.text


def save_scored(run, scores: dict[int, float | None]) -> None:
    checkpoints = Checkpoints(run, keep=2)
    for step, score in scores.items():
        improves = score is not None and checkpoints.improves(score)
        checkpoints.save(make_state(step), best_score=score if improves else None)
    checkpoints.close()


def test_the_best_is_kept_beside_the_newest(tmp_path):
    save_scored(tmp_path, {1: 3.0, 2: 1.0, 3: 2.0, 4: None, 5: None})
    assert Checkpoints(tmp_path).steps() == [2, 4, 5]
    assert best_step(tmp_path) == 2
    save_scored(tmp_path, {6: 1.5, 7: None, 8: None})  # a later start knows the score
    assert Checkpoints(tmp_path).steps() == [2, 7, 8]
    save_scored(tmp_path, {9: 0.5, 10: None, 11: None})
    assert Checkpoints(tmp_path).steps() == [9, 10, 11]
    assert best_step(tmp_path) == 9


def test_a_best_checkpoint_that_is_damaged_is_the_best_no_more(tmp_path):
    save_scored(tmp_path, {1: None, 2: 1.0})
    largest_file(tmp_path / "checkpoints/2").write_bytes(b"damaged")
    checkpoints = Checkpoints(tmp_path)
    assert int(checkpoints.restore(make_state(0)).step) == 1
    assert checkpoints.improves(5.0)
    checkpoints.save(make_state(2))  # the same step again, without a score
    checkpoints.close()
    with pytest.raises(CheckpointError, match=r"no best checkpoint.*validate_every.*\[1, 2\]"):
        best_step(tmp_path)


def test_the_best_is_known_as_soon_as_it_is_saved(tmp_path):
    """A kill before the next checkpoint must not lose the score."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(make_state(1), best_score=1.0)
    assert read_best(tmp_path) == (1, 1.0)
    assert not checkpoints.improves(1.5)
    assert checkpoints.improves(1.5, since=1)
    assert not checkpoints.improves(float("nan"), since=1)
    checkpoints.close()
