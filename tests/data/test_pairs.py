"""The pipeline: (seed, step) fixes the batch, whoever makes it; unusable records are replaced and counted."""

import collections
import dataclasses
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_clips import SIZE, decode_rgb, make_record, make_records

from sheap_jax.config import Data
from sheap_jax.data import pairs as pairs_module
from sheap_jax.data.batch_maker import Process
from sheap_jax.data.frames import decode_frame
from sheap_jax.data.pairs import pair_batches
from sheap_jax.data.records import ShardError, write_split

CLIPS = {f"id{i}": {"a": 3, "b": 2} for i in range(6)}
OPTIONS = {"split": "train", "batch_size": 4, "image_size": SIZE, "seed": 3}
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pairs")
    write_split(path, "train", make_records(CLIPS), settings={}, records_per_shard=7)
    return path


def open_batches(folder, **changes):
    """`pair_batches` with OPTIONS but for some; those that `Data` has go into its settings."""
    options = {**OPTIONS, **changes}
    of_data = {field.name for field in dataclasses.fields(Data)} & options.keys()
    return pair_batches(folder, Data(**{name: options.pop(name) for name in of_data}), **options)


def take(folder, count, **changes):
    """The first `count` batches."""
    with open_batches(folder, **changes) as batches:
        return [next(batches) for _ in range(count)]


def leaves(batch):
    return [*batch.source, *batch.target, batch.mirrored, batch.gain, batch.record]


def assert_same_batches(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(leaves(one), leaves(other), strict=True):
            np.testing.assert_array_equal(a, b)


# --- what is in a batch


def test_batches_hold_the_frames_that_their_record_field_names(folder):
    records = make_records(CLIPS)
    for batch in take(folder, 6, flip=False, color_jitter=0.0):
        assert batch.source.image.shape == (4, SIZE, SIZE, 3)
        assert batch.record.shape == (4, 2)
        np.testing.assert_array_equal(batch.gain, 1.0)
        for side, frame in enumerate((batch.source, batch.target)):
            for i, *parts in zip(batch.record[:, side], *frame, strict=True):
                record = records[i]
                expected = (decode_rgb(record.image), record.landmarks, record.weights)
                for part, truth in zip(parts, expected, strict=True):
                    assert part.dtype == truth.dtype
                    np.testing.assert_array_equal(part, truth)
        for i, j in batch.record:
            assert i != j
            assert records[i][:2] == records[j][:2]  # one identity, one clip: they share the light


def test_other_image_sizes_are_those_of_decode_frame(folder):
    records = make_records(CLIPS)
    for size in (SIZE // 2, 2 * SIZE):
        (batch,) = take(folder, 1, image_size=size, flip=False)
        for i, image, landmarks in zip(batch.record[:, 1], batch.target.image, batch.target.landmarks, strict=True):
            expected = decode_frame(records[i], image_size=size)
            np.testing.assert_allclose(image / 255.0, expected.image, atol=1e-6)
            np.testing.assert_allclose(landmarks, expected.landmarks, rtol=1e-6)


def test_mirrored_pairs_are_the_same_pairs_mirrored(folder):
    plain = take(folder, 4, flip=False)
    mirrored = take(folder, 4, flip=True)
    turned = np.concatenate([batch.mirrored for batch in mirrored])
    assert set(turned) == {True, False}
    for a, b in zip(plain, mirrored, strict=True):
        assert not a.mirrored.any()
        for before, after in zip(leaves(a._replace(mirrored=b.mirrored)), leaves(b), strict=True):
            np.testing.assert_array_equal(before, after)  # the device turns them


def test_memory_of_a_batch_is_not_used_again_while_it_is_held(folder):
    with pair_batches(folder, **OPTIONS) as batches:
        held = [next(batches)]
        view = held[0].source.image[1, 2:5]
        for _ in range(20):  # more than are read ahead
            held = [next(batches)]
    (first,) = take(folder, 1)
    np.testing.assert_array_equal(view, first.source.image[1, 2:5])


def test_every_epoch_visits_every_identity_once(folder):
    records = make_records(CLIPS)
    sequence = np.concatenate([batch.record[:, 0] for batch in take(folder, 9)])  # 36 pairs = 6 epochs
    epochs = [[records[i].identity for i in part] for part in sequence.reshape(6, 6)]
    assert all(sorted(epoch) == sorted(CLIPS) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_across_clips_pairs_frames_of_different_clips(folder):
    records = make_records(CLIPS)
    pairs = np.concatenate([batch.record for batch in take(folder, 10, across_clips=True)])
    assert all(records[i].identity == records[j].identity for i, j in pairs)
    assert any(records[i].clip != records[j].clip for i, j in pairs)


def test_stills_are_their_own_target(tmp_path):
    write_split(tmp_path, "train", make_records({"cay": {"c0": 1}, "dan": {"d0": 1}}), settings={})
    (batch,) = take(tmp_path, 1, allow_self_pairs=True)
    np.testing.assert_array_equal(batch.source.image, batch.target.image)
    assert set(batch.record[:, 0]) == {0, 1}


# --- (seed, step) fixes the batch


def test_another_seed_gives_other_pairs(folder):
    first, second = take(folder, 3), take(folder, 3, seed=4)
    assert any(not np.array_equal(a.record, b.record) for a, b in zip(first, second, strict=True))


def test_resuming_at_a_step_gives_what_would_have_come(folder):
    assert_same_batches(take(folder, 3, step=5), take(folder, 8)[5:])


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_share_out_the_global_batch(tmp_path, processes):
    """Replacements of unusable records included."""
    split_with(tmp_path, {"id1/a/2": BROKEN_JPEG})
    whole = take(tmp_path, 4, max_bad_share=1.0)
    parts = [take(tmp_path, 4, max_bad_share=1.0, process=Process(p, processes)) for p in range(processes)]
    for k, batch in enumerate(whole):
        for p in range(processes):
            for a, b in zip(leaves(parts[p][k]), leaves(batch), strict=True):
                np.testing.assert_array_equal(a, b[p::processes])


def test_a_batch_that_cannot_be_shared_out_is_refused(folder):
    with pytest.raises(ValueError, match="batch_size 4 is not a multiple of process_count 3"):
        pair_batches(folder, **OPTIONS, process=Process(0, 3))


def test_worker_processes_change_nothing_and_end_with_the_iterator(folder):
    expected = take(folder, 7)
    with open_batches(folder, workers=2) as batches:
        found = [next(batches) for _ in range(2)]
        workers = multiprocessing.active_children()
        assert len(workers) == 2
        for worker in workers:  # as Ctrl-C does; the training finishes its step and saves before it ends
            os.kill(worker.pid, signal.SIGINT)
        found += [next(batches) for _ in range(5)]
    assert_same_batches(found, expected)
    assert multiprocessing.active_children() == []


def test_one_worker_gives_the_same_and_its_death_is_an_error_that_says_so(folder):
    with open_batches(folder, workers=1) as batches:
        assert_same_batches([next(batches) for _ in range(3)], take(folder, 3))
        (worker,) = multiprocessing.active_children()
        os.kill(worker.pid, signal.SIGKILL)
        with pytest.raises(ChildProcessError, match=r"decoding process died.*exit code -9.*data\.workers"):
            collections.deque(batches, maxlen=0)


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux only")
def test_workers_die_with_a_killed_trainer(folder, tmp_path):
    script = tmp_path / "trainer.py"
    script.write_text(
        textwrap.dedent(f"""
        import multiprocessing, os, signal
        from sheap_jax.config import Data
        from sheap_jax.data.pairs import pair_batches

        if __name__ == "__main__":
            batches = pair_batches({str(folder)!r}, Data(workers=1), **{OPTIONS!r})
            next(batches)
            print(*(child.pid for child in multiprocessing.active_children()), flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """)
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
    output = subprocess.run(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60
    )
    workers = [int(pid) for pid in output.stdout.split()]
    assert workers
    deadline = time.monotonic() + 10
    while any(is_running(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in workers if is_running(pid)]


def is_running(pid: int) -> bool:
    """Whether a process exists and is more than an entry that waits for its parent."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


# --- bad data


def split_with(folder, bad: dict[str, dict]):
    """A split in which the named records have other contents."""
    records = [make_record(*r[:3], **bad.get(r.key, {})) for r in make_records(CLIPS)]
    write_split(folder, "train", records, settings={})
    return [r.key for r in records]


BROKEN_JPEG = {"image": b"\xff\xd8 broken"}
NO_LANDMARKS = {"landmarks": np.full((68, 2), np.nan, np.float32)}


def test_unusable_records_are_replaced_counted_and_logged_once(tmp_path, caplog):
    keys = split_with(tmp_path, {"id1/a/2": BROKEN_JPEG, "id4/b/0": NO_LANDMARKS})
    with open_batches(tmp_path, max_bad_share=0.5) as batches:
        seen = [next(batches) for _ in range(40)]
    used = {keys[i] for batch in seen for i in batch.record.ravel()}
    assert used.isdisjoint({"id1/a/2", "id4/b/0"})
    assert all(np.isfinite(leaf).all() for batch in seen for leaf in leaves(batch))
    assert set(batches.bad_records) == {"id1/a/2", "id4/b/0"}
    assert min(batches.bad_records.values()) > 1
    assert caplog.text.count("record id1/a/2: the JPEG cannot be decoded") == 1
    assert caplog.text.count("record id4/b/0: landmarks or their weights are not finite") == 1


def test_batches_with_replacements_are_fixed_by_seed_and_step_too(tmp_path):
    split_with(tmp_path, {"id1/a/2": BROKEN_JPEG})
    options = {"max_bad_share": 1.0}
    assert_same_batches(take(tmp_path, 3, step=4, **options), take(tmp_path, 7, **options)[4:])


def test_too_many_unusable_records_stop_the_run(tmp_path):
    split_with(tmp_path, {"id1/a/2": BROKEN_JPEG, "id4/b/0": NO_LANDMARKS, "id5/a/0": NO_LANDMARKS})
    words = r"\d+ of the \d+ records .* more than max_bad_share = 0.05: .* first: .*id\d/./\d, id\d/./\d, id\d/./\d"
    with pair_batches(tmp_path, **OPTIONS) as batches, pytest.raises(ShardError, match=words):
        collections.deque(batches, maxlen=0)  # runs until it is stopped
    share = sum(batches.bad_records.values()) / batches._drawn
    assert share > 0.05
    assert batches._drawn >= pairs_module._MIN_DRAWS


def test_few_unusable_records_do_not(tmp_path):
    split_with(tmp_path, {"id1/a/2": BROKEN_JPEG})
    with pair_batches(tmp_path, **OPTIONS) as batches:  # 1 of 30 records
        for _ in range(100):
            next(batches)
    assert batches._drawn > pairs_module._MIN_DRAWS
    assert batches.bad_records


def test_nothing_usable_at_all_stops_at_once(tmp_path):
    split_with(tmp_path, {record.key: BROKEN_JPEG for record in make_records(CLIPS)})
    with pair_batches(tmp_path, **OPTIONS) as batches, pytest.raises(ShardError, match=r"8 pairs in a row.*record id"):
        next(batches)


def test_one_frame_identities_are_left_out_by_name(tmp_path, caplog):
    clips = {"ann": {"a": 2}, **{f"lone{i}": {"c": 1} for i in range(7)}}
    write_split(tmp_path, "train", make_records(clips), settings={})
    (batch,) = take(tmp_path, 1)
    assert set(batch.record.ravel()) == {0, 1}
    assert "7 identities have no frames to pair, first: lone0, lone1, lone2, lone3, lone4" in caplog.text
    assert "lone5" not in caplog.text


def test_only_one_frame_identities_is_an_error(tmp_path):
    write_split(tmp_path, "train", make_records({"dan": {"d": 1}}), settings={})
    with pytest.raises(ValueError, match=r"none of the 1 identities .* allow_self_pairs for stills"):
        pair_batches(tmp_path, **OPTIONS)


def test_truncated_shard_is_named_before_anything_starts(tmp_path):
    write_split(tmp_path, "train", make_records(CLIPS), settings={})
    shard = next(tmp_path.glob("*.array_record"))
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(ShardError, match=rf"{shard.name} has 5000 bytes"):
        pair_batches(tmp_path, **OPTIONS)
