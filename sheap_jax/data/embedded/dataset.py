"""The whole data set: people are clips in worker processes, shards and ground truth are written as they come."""

import contextlib
import dataclasses
import hashlib
import json
import logging
import multiprocessing
import os
import pickle
import re
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import jax.numpy as jnp
import numpy as np

from sheap_jax.config import EmbeddedData
from sheap_jax.data.codec import Record
from sheap_jax.data.embedded.clip import PersonClips, film
from sheap_jax.data.embedded.people import FilmedPerson, draw_person, load_people, people_settings
from sheap_jax.data.embedded.samples import SampleSheet
from sheap_jax.data.embedded.scene_meshes import SceneMeshes, build_scene_meshes
from sheap_jax.data.embedded.settings import SPLITS, check_embedded
from sheap_jax.data.embedded.truth import LANDMARKS_7, Truth, save_truth
from sheap_jax.data.manifest import MANIFEST, read_manifest
from sheap_jax.data.records import write_split
from sheap_jax.files.one_writer import InUseError, one_writer
from sheap_jax.files.places import check_writable
from sheap_jax.files.regular import read_whole
from sheap_jax.files.whole_file import to_disk, whole_file
from sheap_jax.morphable.model import MorphableModel, points_on_faces

WAIT = 1.0  # seconds between looks at a lock that another process holds
UNTOUCHED = 60.0  # seconds without a write, after which unfinished heads are nobody's
GENERATOR_VERSION = 3  # raise it when the same settings give other images
_log = logging.getLogger(__name__)


class _WorkerInputs(NamedTuple):
    """What every worker needs; each reads it once."""

    model: MorphableModel
    meshes: SceneMeshes
    config: EmbeddedData


def generate(directory: str | os.PathLike[str], config: EmbeddedData, *, progress: bool = True) -> Path:
    """Make the splits `train` and `test`, or reuse them if `directory` holds them with equal settings.

    Work goes on in a temporary directory beside `directory`, which takes its place when finished. Where another process
    has finished equal settings meanwhile, its heads are taken. The result depends on `config` alone, not on how many
    processes there are. Also saves `samples.png` to look at.

    Raises:
      ConfigError: a setting has a value that it cannot have.
      FileExistsError: `directory` holds something else; nothing is overwritten.
      ChildProcessError: a process died; nothing is kept.
    """
    check_embedded(config)
    directory = Path(directory).absolute()
    if _is_there(directory, config):
        return directory
    check_writable(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    with _sole_generator(directory):
        if _is_there(directory, config):  # another process has finished it just now
            return directory
        people = config.train_identities + config.test_identities
        _log.info("generating embedded heads of %d people in %s", people, directory)
        temporary = directory.with_name(f".{directory.name}.{secrets.token_hex(8)}.tmp")
        try:
            _generate_into(temporary, config, progress=progress)
            _publish(temporary, directory, config)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        _remove_leftovers(directory)
    return directory


@contextlib.contextmanager
def _sole_generator(directory: Path) -> Iterator[None]:
    """Lets one process at a time generate; others wait, as the runs of a sweep do that need the same heads."""
    lock = directory.with_name(f".{directory.name}.lock")
    with contextlib.ExitStack() as stack:
        told = False
        while True:
            try:
                stack.enter_context(one_writer(directory, way_out="choose another directory", lock=lock))
                break
            except InUseError as error:
                if not told:
                    _log.warning("%s", str(error).partition(":")[0] + ": waiting for it")
                told = True
                time.sleep(WAIT)
        yield


def _remove_leftovers(directory: Path) -> None:
    """Remove what killed generators of this directory left. One that is at work without a lock writes all the time."""
    name = re.compile(rf"\.{re.escape(directory.name)}\.[0-9a-f]{{16}}\.tmp")
    for left in filter(lambda path: name.fullmatch(path.name), directory.parent.iterdir()):
        with contextlib.suppress(OSError):  # it may vanish meanwhile; the heads are there
            written = max(path.stat().st_mtime for path in (left, *left.iterdir()))
            if time.time() - written > UNTOUCHED:
                _log.info("removing %s, which a generator left that was killed", left)
                shutil.rmtree(left, ignore_errors=True)


def _is_there(directory: Path, config: EmbeddedData) -> bool:
    """Whether the heads are finished. Raises FileExistsError if the directory holds something else."""
    if not directory.exists():
        return False
    if not _finished(directory, config):
        raise FileExistsError(f"{directory} {_what_else(directory)}")
    _log.info("reusing the embedded heads in %s", directory)
    return True


def _publish(temporary: Path, directory: Path, config: EmbeddedData) -> None:
    """Give finished heads their name, unless another process has made the same ones meanwhile: those are taken."""
    for path in (*temporary.iterdir(), temporary):
        to_disk(path)
    try:
        temporary.replace(directory)
    except OSError as error:
        if not directory.exists():
            raise
        if not _finished(directory, config):
            raise FileExistsError(f"{directory} {_what_else(directory)}") from error
        _log.info("another process has made the embedded heads in %s meanwhile: they are taken", directory)
    to_disk(directory.parent)


def generator_settings(config: EmbeddedData) -> dict[str, Any]:
    """What decides the content, as JSON values: how many processes work on it does not."""
    values = dataclasses.asdict(config)
    del values["processes"]
    if values["variety"] == "portrait":  # older data sets, which have no such setting, hold the same pictures
        del values["variety"]
    people = people_settings(values.pop("people"))
    return {**values, **people, "truth_splits": list(config.truth_splits), "generator_version": GENERATOR_VERSION}


def settings_name(config: EmbeddedData) -> str:
    """Eight digits that differ between settings, for the name of a cache."""
    return settings_digest(generator_settings(config))


def settings_digest(settings: dict[str, Any]) -> str:
    """The same for settings as a manifest holds them."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def _finished(directory: Path, config: EmbeddedData) -> bool:
    if not (directory / MANIFEST).exists():
        return False
    splits = read_manifest(directory)["splits"]
    return all(split in splits and splits[split]["settings"] == generator_settings(config) for split in SPLITS)


def _what_else(directory: Path) -> str:
    """What a directory holds that is not finished with the settings wanted, and the way out."""
    if not (directory / MANIFEST).exists():
        return "exists and holds no generated heads: choose another directory"
    entries = read_manifest(directory)["splits"].values()
    if all("generator_version" in entry["settings"] for entry in entries):
        return "exists but was not generated with these settings: remove it or choose another directory"
    return (
        "holds prepared clips; this configuration generates heads: train on your clips with --config clip, or with "
        "--config.data.embedded=none"
    )


def _generate_into(directory: Path, config: EmbeddedData, *, progress: bool) -> None:
    from tqdm import tqdm

    model = load_people(config.people)
    identities = config.train_identities + config.test_identities
    per_identity = config.clips_per_identity * config.frames_per_clip
    sheet = SampleSheet(config.image_size)
    with tqdm(total=identities * per_identity, unit="frame", desc="embedded heads", disable=not progress) as bar:
        everybody = film_people(config, model)
        for split, count in (("train", config.train_identities), ("test", config.test_identities)):
            collector = _TruthCollector(split in config.truth_splits)

            def records(count: int = count, collector: "_TruthCollector" = collector) -> Iterator[Record]:
                for _ in range(count):
                    person, clips = next(everybody)
                    collector.add(person, clips)
                    sheet.add(clips)
                    bar.update(per_identity)
                    yield from clips.records

            write_split(directory, split, records(), settings=generator_settings(config))
            if collector.wanted:
                save_truth(directory, split, collector.build(model))
    sheet.save(directory / "samples.png")


def film_people(config: EmbeddedData, model: MorphableModel) -> Iterator[tuple[FilmedPerson, PersonClips]]:
    """Film everybody in order, train before test, in this process or in several.

    Args:
      model: of `load_people(config.people)`.

    Raises:
      ChildProcessError: a process died, mostly since the system was short of memory.
    """
    inputs = _WorkerInputs(model, build_scene_meshes(model), config)
    sizes = {"train": config.train_identities, "test": config.test_identities}
    places = [(split, number) for split, count in sizes.items() for number in range(count)]
    processes = min(config.processes or min(os.cpu_count() or 1, 8), len(places))
    if processes == 1:
        yield from (_film_one(place, inputs) for place in places)
        return
    # spawn: a forked process would inherit XLA's threads in an unknown state
    context = multiprocessing.get_context("spawn")
    cores = context.SimpleQueue()
    for number in range(processes):
        cores.put(number)
    others = multiprocessing.active_children()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs"
        with whole_file(file, durable=False) as temporary:
            temporary.write_bytes(pickle.dumps(inputs))
        # multiprocessing.Pool would wait for ever for the work of a process that was killed. So does any pool whose
        # arguments do not fit into a pipe, if the process dies before it has read them: the inputs are in a file.
        pool = ProcessPoolExecutor(processes, context, _start_worker, (file, cores))
        dead = ChildProcessError(
            "a process that generates heads died; mostly the system is short of memory: lower "
            f"config.data.embedded.processes, which is {processes} here. Nothing was kept, the same command begins anew"
        )
        try:
            try:
                with _for_many_processes():  # they start as soon as there is work
                    filmed = pool.map(_film_in_worker, places)
            except (OSError, ValueError) as error:  # one died, and its pipes were closed, while another was started
                raise dead from error
            yield from filmed
        except BrokenProcessPool as error:
            raise dead from error
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                if child not in others:  # one that waits for a dead one would stay behind
                    child.terminate()


@contextlib.contextmanager
def _for_many_processes() -> Iterator[None]:
    """Processes that start in here keep off accelerators, whose memory each would take whole, and use one thread.

    Otherwise the spinning threads of NumPy in several processes would eat up the cores.
    """
    threads = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    settings = {"JAX_PLATFORMS": "cpu"} | dict.fromkeys(threads, "1")
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


_inputs: _WorkerInputs  # of this worker process


def _start_worker(inputs: Path, cores: Any) -> None:
    """Read the inputs, and bind this process to one core: thread pools that share cores take over twice as long."""
    global _inputs
    _inputs = pickle.loads(read_whole(inputs))  # of the process that started this one
    cv2.setNumThreads(1)
    if hasattr(os, "sched_setaffinity"):  # Linux; must come before XLA counts the cores
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[cores.get() % len(allowed)]})


def _film_in_worker(place: tuple[str, int]) -> tuple[FilmedPerson, PersonClips]:
    return _film_one(place, _inputs)


def _film_one(place: tuple[str, int], inputs: _WorkerInputs) -> tuple[FilmedPerson, PersonClips]:
    """The person at a place (split and number) with all clips."""
    person = draw_person(*place, inputs.config, inputs.model)
    return person, film(person, inputs.model, inputs.meshes, inputs.config)


class _TruthCollector:
    """Gathers the ground truth of a split while its records pass."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.parts: list[tuple[np.ndarray, PersonClips]] = []

    def add(self, person: FilmedPerson, clips: PersonClips) -> None:
        if self.wanted:
            self.parts.append((person.neutral, clips._replace(records=[], head=np.empty(0))))

    def build(self, model: MorphableModel) -> Truth:
        neutral = np.stack([part for part, _ in self.parts])
        fixed = points_on_faces(jnp.asarray(neutral), model.faces, model.landmark_faces, model.landmark_barycentrics)
        posed3d = np.concatenate([clips.landmarks3d for _, clips in self.parts])
        index = np.repeat(np.arange(len(self.parts)), [len(clips.posed) for _, clips in self.parts])
        return Truth(
            faces=np.asarray(model.faces, np.int32),
            neutral=neutral,
            posed=np.concatenate([clips.posed for _, clips in self.parts]),
            identity_index=index.astype(np.int32),
            face_mask=np.asarray(model.regions["face"]) > 0.5,
            landmarks7_neutral=np.asarray(fixed)[:, LANDMARKS_7],
            landmarks7_posed=posed3d[:, LANDMARKS_7],
            landmarks2d=np.concatenate([clips.landmarks2d for _, clips in self.parts]),
        )
