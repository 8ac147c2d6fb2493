"""Processes that die before they have read anything, as on a machine that is short of memory.

More than a pipe holds was once written to such a process, which no longer read: for ever, and no signal ended it.
"""

import multiprocessing
import os
import shutil
import signal
from multiprocessing import resource_tracker, spawn

import numpy as np
import pytest

from sheap_jax.config import EmbeddedData
from sheap_jax.data.embedded import dataset, generate
from sheap_jax.data.prepare.clip_result import ClipConversion, Settings
from sheap_jax.data.prepare.clips import Clip
from sheap_jax.data.prepare.process import ClipProcess
from tests.data.faulty_source import FaultySource

MEGABYTE = np.zeros(2**20, np.uint8)  # a pipe holds 64 KiB


@pytest.fixture(autouse=True)
def dead_at_start(monkeypatch):
    """Within a limit: what waits for ever would never fail."""
    resource_tracker.ensure_running()  # a process as well
    monkeypatch.setattr(spawn, "_python_exe", os.fsencode(shutil.which("false") or "false"))

    def refuse(number, frame):
        raise AssertionError("still waits for a process that is dead")

    before = signal.signal(signal.SIGALRM, refuse)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
    for child in multiprocessing.active_children():
        child.kill()


def test_they_end_a_generation(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "load_people", lambda *_: MEGABYTE)
    monkeypatch.setattr(dataset, "build_scene_meshes", lambda *_: None)
    two = EmbeddedData(train_identities=2, test_identities=1, processes=2)
    with pytest.raises(ChildProcessError, match="generates heads died"):
        generate(tmp_path / "new", two, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_they_cost_a_preparation_the_clip(tmp_path):
    source = FaultySource()
    source.name = MEGABYTE  # as many landmarks
    worker = ClipProcess(ClipConversion(source, Settings(image_size=32), tmp_path / "parts"))
    clip = Clip("anna", "anna", (tmp_path / "anna.mp4",), is_video=True)
    assert worker.convert(clip).reason == "the process that converted it died with exit code 1"
    worker.close()
