"""The generated clips: reproducible, cached, and true to their own ground truth."""

import dataclasses
import hashlib
import logging
import multiprocessing
import os
import shutil
import signal
import threading
import time

import cv2
import numpy as np
import pytest
import trimesh

from sheap_jax import assembly, config_files
from sheap_jax.config import EmbeddedData
from sheap_jax.data.embedded import dataset, generate, load_truth, settings_name
from sheap_jax.data.embedded.__main__ import main as generate_command
from sheap_jax.data.embedded.people import draw_person, load_people, person_seed
from sheap_jax.data.records import Split, write_split
from sheap_jax.geometry import official_camera, project
from sheap_jax.morphable.embedded.head import embedded_person
from tests.data.tiny_clips import make_records
from tests.other_writer import other_writer

TINY = EmbeddedData(
    train_identities=2, test_identities=1, clips_per_identity=1, frames_per_clip=2, image_size=48,
    people="embedded:coarse", processes=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("embedded") / "heads", TINY, progress=False)


def digest(directory) -> dict[str, str]:
    files = sorted(path for path in directory.iterdir() if path.suffix in (".array_record", ".npz", ".png"))
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    for split in ("train", "test"):
        path = directory / f"truth-{split}.npz"
        hashes.pop(f"{split}-index.npz", None)  # zip archives carry the time of day
        if hashes.pop(path.name, None):
            with np.load(path) as data:
                hashes.update({f"{split}/{k}": hashlib.sha256(data[k].tobytes()).hexdigest() for k in data.files})
    return hashes


def test_counts_and_names(generated):
    train, test = Split(generated, "train"), Split(generated, "test")
    assert len(train) == 4
    assert len(test) == 2
    assert not {record.identity for record in train} & {record.identity for record in test}
    image = cv2.imdecode(np.frombuffer(train[0].image, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (48, 48, 3)
    assert image.std() > 15
    sheet = cv2.imread(str(generated / "samples.png"))
    assert sheet.shape == (4 * 48, 8 * 48, 3)


def test_each_training_record_has_the_true_shape_of_its_person(generated):
    config = config_files.replace(config_files.load_file("quickstart"), ["data", "embedded"], TINY)
    model = load_people(TINY.people)
    truth = assembly.build_truth(config, model)
    people = [int(record.identity.removeprefix("train-")) for record in Split(generated, "train")]
    seeds = [person_seed("train", number, TINY) for number in people]
    np.testing.assert_array_equal(truth.shapes, [embedded_person(seed, detail="coarse").shape for seed in seeds])
    assert not np.array_equal(truth.shapes[0], truth.shapes[-1])
    mesh = trimesh.Trimesh(model.template, model.faces, process=False)
    normals = mesh.faces_sparse @ (mesh.face_normals * mesh.area_faces[:, None])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    along = 1000 * np.einsum("svk,vk->sv", model.identity_basis, normals)
    np.testing.assert_allclose(truth.normal_modes, along[:, model.regions["face"] > 0.5], atol=0.01)
    assert np.abs(truth.normal_modes).max() > 1


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_in_several_processes(generated, tmp_path):
    again = generate(tmp_path / "again", dataclasses.replace(TINY, processes=2), progress=False)
    assert digest(again) == digest(generated)


def test_killed_processes_end_the_generation_and_are_named(tmp_path, monkeypatch):
    """Within a limit: a pool that waits for their work would wait for ever. They die before they film."""
    for name in ("load_people", "build_scene_meshes"):
        monkeypatch.setattr(dataset, name, lambda *_: None)

    def kill_both() -> None:
        while len(multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)

    def refuse(number, frame):
        raise AssertionError("still waiting for a process that is dead")

    killer = threading.Thread(target=kill_both)
    before = signal.signal(signal.SIGALRM, refuse)
    signal.alarm(120)
    try:
        killer.start()
        with pytest.raises(ChildProcessError, match=r"generates heads died.*embedded\.processes, which is 2 here"):
            generate(tmp_path / "new", dataclasses.replace(TINY, processes=2), progress=False)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        killer.join()
    assert list(tmp_path.iterdir()) == []
    limit = time.monotonic() + 60
    for child in multiprocessing.active_children():
        # The pool's own thread waits for it too. Where that one is told first, there is no exit code for a moment.
        while child.exitcode is None and time.monotonic() < limit:
            time.sleep(0.01)
        assert child.exitcode is not None


def test_finished_directory_is_reused_and_never_overwritten(generated):
    before = {path.name: path.stat().st_mtime_ns for path in generated.iterdir()}
    assert generate(generated, dataclasses.replace(TINY, processes=3), progress=False) == generated
    with pytest.raises(FileExistsError, match="not generated with these settings"):
        generate(generated, dataclasses.replace(TINY, seed=1), progress=False)
    assert {path.name: path.stat().st_mtime_ns for path in generated.iterdir()} == before


def test_what_another_process_has_finished_meanwhile_is_taken(generated, tmp_path, monkeypatch, caplog):
    place = tmp_path / "heads"

    def slow(temporary, config, *, progress):
        del config, progress
        temporary.mkdir()
        (temporary / "half").touch()
        shutil.copytree(other, place)

    monkeypatch.setattr(dataset, "_generate_into", slow)
    other = generated
    with caplog.at_level(logging.INFO):
        assert generate(place, TINY, progress=False) == place
    assert "another process has made the embedded heads" in caplog.text
    assert digest(place) == digest(generated)
    assert [path.name for path in tmp_path.iterdir()] == ["heads"]

    shutil.rmtree(place)
    other = tmp_path / "something"
    other.mkdir()
    (other / "file").touch()
    with pytest.raises(FileExistsError, match="holds no generated heads"):
        generate(place, TINY, progress=False)


def test_a_generator_that_meets_another_at_work_names_it(generated, tmp_path, monkeypatch, caplog):
    """And takes what that one has finished once it has ended, however it ended."""
    place = tmp_path / "heads"
    monkeypatch.setattr(dataset, "_generate_into", lambda *_, **__: pytest.fail("generates all the same"))
    with other_writer(tmp_path / ".heads.lock") as process:

        def finish(seconds: float) -> None:
            shutil.copytree(generated, place)
            process.kill()
            process.wait()

        monkeypatch.setattr(dataset.time, "sleep", finish)
        assert generate(place, TINY, progress=False) == place
        assert f"heads is written to by process {process.pid} on" in caplog.text
        assert generate(place, TINY, progress=False) == place
    shutil.rmtree(place)
    real = dataset._is_there
    answers = iter([False])
    monkeypatch.setattr(dataset, "_is_there", lambda *given: next(answers, None) is None and real(*given))
    shutil.copytree(generated, place)  # finished between the first look and the claim
    assert generate(place, TINY, progress=False) == place
    assert "ended without giving" in caplog.text


def test_what_a_killed_generator_left_is_removed_by_the_next(tmp_path, monkeypatch, caplog):
    """Of the same directory alone, and not of a generator that is at work where there are no locks."""
    place, token = tmp_path / "heads[1]", "0123456789abcdef"
    left = tmp_path / f".heads[1].{token}.tmp"
    others = [tmp_path / f".{name}.{token}.tmp" for name in ("heads1", "heads[1].v2", "heads[1]0")]
    at_work = tmp_path / f".heads[1].{token[::-1]}.tmp"
    long_ago = time.time() - 100
    for folder in (left, *others, at_work):
        folder.mkdir()
        (folder / "train-00000-of-00001.array_record").write_bytes(b"half")
        for path in (*folder.iterdir(), folder):
            os.utime(path, (long_ago, long_ago))
    os.utime(at_work / "train-00000-of-00001.array_record")
    others.append(tmp_path / f".heads[1].{'f' * 16}.tmp")
    others[-1].touch()  # no folder: it cannot be looked into
    monkeypatch.setattr(dataset, "_generate_into", lambda directory, *_, **__: directory.mkdir())
    monkeypatch.setattr(dataset, "_publish", lambda temporary, directory, _: temporary.rename(directory))
    with caplog.at_level(logging.INFO):
        generate(place, TINY, progress=False)
    assert {path for path in tmp_path.iterdir() if path.name.endswith(".tmp")} == {*others, at_work}
    assert f"{left.name}, which a generator left" in caplog.text
    assert place.is_dir()


def test_directories_of_others_are_named_for_what_they_are(tmp_path):
    write_split(tmp_path / "mine", "train", make_records(), settings={"image_size": 16})
    with pytest.raises(FileExistsError, match=r"mine holds prepared clips; .*--config clip, or .*embedded=none$"):
        generate(tmp_path / "mine", TINY, progress=False)
    (tmp_path / "notes").mkdir()
    with pytest.raises(FileExistsError, match="notes exists and holds no generated heads: choose another directory"):
        generate(tmp_path / "notes", TINY, progress=False)


def test_that_heads_are_generated_is_said_before_it_is_done(tmp_path, monkeypatch, caplog):
    def fail(*_):
        raise RuntimeError("interrupted")

    monkeypatch.setattr("sheap_jax.data.embedded.dataset.film", fail)
    with caplog.at_level(logging.INFO), pytest.raises(RuntimeError, match="interrupted"):
        generate(tmp_path / "heads", TINY, progress=False)
    assert f"generating embedded heads of 3 people in {tmp_path / 'heads'}" in caplog.messages


def test_interrupted_generation_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("interrupted")

    monkeypatch.setattr("sheap_jax.data.embedded.dataset.film", fail)
    with pytest.raises(RuntimeError, match="interrupted"):
        generate(tmp_path / "heads", TINY, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_truth_projects_to_the_stored_landmarks(generated):
    truth, camera = load_truth(generated, "test"), official_camera(48)
    assert truth.posed.shape[0] == len(Split(generated, "test"))
    seven = np.asarray(project(truth.landmarks7_posed, camera))
    np.testing.assert_allclose(seven, truth.landmarks2d[:, [36, 39, 42, 45, 33, 48, 54]], atol=0.01)
    # landmarks lie on the surface: each is within a triangle's size (coarse mesh: 15 mm) of a vertex
    gap = np.linalg.norm(truth.posed[:, None] - truth.landmarks7_posed[:, :, None], axis=-1).min(axis=-1)
    assert gap.max() < 0.015


def test_detected_landmarks_are_near_the_truth_and_framed_by_the_crop_rule(generated):
    truth = load_truth(generated, "test")
    for i, record in enumerate(Split(generated, "test")):
        found = record.weights > 0
        error = np.linalg.norm(record.landmarks - truth.landmarks2d[i], axis=-1)[found]
        assert 0 < np.median(error) < 0.05 * 48
        low, high = record.landmarks[found].min(axis=0), record.landmarks[found].max(axis=0)
        # side of the crop / box = 1.9, centre a quarter of the box above that of the box, both with jitter
        assert 48 / (high - low).max() == pytest.approx(1.9, rel=0.2)
        center = (low + high) / 2 - [0, (high - low).max() / 4]
        np.testing.assert_allclose(center, [24, 24], atol=0.1 * 48)


def test_people_are_distinct_and_do_not_depend_on_how_many_there_are():
    more, model = dataclasses.replace(TINY, train_identities=3), load_people(TINY.people)
    one, same, other, unseen = (
        draw_person(*person, model).neutral
        for person in (("train", 0, TINY), ("train", 0, more), ("train", 1, more), ("test", 0, TINY))
    )
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - unseen).max() > 0.0005
    spread = np.linalg.norm(one - other, axis=-1).mean()
    assert spread > 0.0005


def test_the_command_says_mistakes_in_one_line(tmp_path):
    (tmp_path / "other").mkdir()
    for arguments, words in (
        (["new", "--train-identities", "0"], "EmbeddedData.train_identities is 0, it must be at least 1"),
        (["new", "--processes", "0"], "EmbeddedData.processes is 0"),
        (["new", "--people", "no.npz"], "no.npz does not exist: convert a model"),
        (["new", "--people", "embedded:x"], "it must be one of embedded:coarse, embedded:fine"),
        (["other"], "other exists and holds no generated heads: choose another directory"),
    ):
        with pytest.raises((OSError, ValueError)) as stopped:
            generate_command([str(tmp_path / arguments[0]), *arguments[1:]])
        assert words in str(stopped.value)
        assert "\n" not in str(stopped.value)
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_missing_truth_names_the_setting(generated):
    with pytest.raises(FileNotFoundError, match="truth_splits"):
        load_truth(generated, "train")


@pytest.mark.parametrize("field", ["train_identities", "frames_per_clip", "image_size"])
def test_nonsense_is_refused(field, tmp_path):
    with pytest.raises(ValueError, match=rf"EmbeddedData\.{field} is 0"):
        generate(tmp_path / "new", dataclasses.replace(TINY, **{field: 0}))
    assert list(tmp_path.iterdir()) == []


def test_name_of_a_cache_tells_settings_apart_but_not_processes():
    names = {
        settings_name(dataclasses.replace(TINY, **change)) for change in ({}, {"seed": 1}, {"supersampling": 1.25})
    }
    assert len(names) == 3
    assert settings_name(dataclasses.replace(TINY, processes=7)) in names
