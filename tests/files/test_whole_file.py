"""A file is there whole or not at all, whatever happens while it is written."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sheap_jax.files import whole_file as module
from sheap_jax.files.whole_file import whole_file

ROOT = Path(__file__).parents[2]


WRITES = re.compile(
    r"(?<!temporary)\.write_(text|bytes)\(|(?<!temporary\.)\bopen\([^)]*[\"'][wx]b?[\"']"
    r"|\bnp\.save(z|z_compressed|txt)?\((?!temporary|file|stream)"
)
NOT_ASIDE = {  # what else writes, and why it may
    "inference/outputs.py": "in a folder aside, whose files are moved at the end",
    "inference/viewer.py": "in a folder that goes at once",
    "data/embedded/truth.py": "in a folder aside, which gets its name at the end",
    "data/records.py": "under a temporary name of its own",
    "ahead_of_time/compile_report.py": "a page of the repository",
    "command_line.py": "to nowhere",
    "files/bucket_path.py": "objects, which appear whole",
    "files/bucket_lock.py": "the same",
    "inference/video_files.py": "under a temporary name of its own: without a frame there is to be no file",
}


def test_nothing_else_writes_files():
    package = ROOT / "sheap_jax"
    paths = [path for path in sorted(package.rglob("*.py")) if str(path.relative_to(package)) not in NOT_ASIDE]
    found = [f"{path}: {line}" for path in paths for line in path.read_text().splitlines() if WRITES.search(line)]
    assert not found


def test_what_is_looked_for_would_be_found():
    for line in ("path.write_text(x)", "path.open('w')", 'open(path, "wb")', "np.save(path, x)", "np.savez(path)"):
        assert WRITES.search(line)
    for line in ("temporary.write_text(x)", "np.savez(file, x)", "file.open('a')"):
        assert not WRITES.search(line)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_new_content_is_there_and_nothing_else(tmp_path):
    for text in ("one", "two"):
        with whole_file(tmp_path / "deep" / "file.json") as temporary:
            temporary.write_text(text)
    assert (tmp_path / "deep/file.json").read_text() == "two"
    assert names(tmp_path / "deep") == ["file.json"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.npz"
    np.savez(path, a=1)
    before = path.read_bytes()

    def fail():
        with whole_file(path) as temporary:
            temporary.write_bytes(b"half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fail()
    assert path.read_bytes() == before
    assert names(tmp_path) == ["file.npz"]


def test_a_killed_process_leaves_the_old_file(tmp_path):
    (tmp_path / "file").write_text("old")
    code = (
        "import os, signal; from sheap_jax.files.whole_file import whole_file\n"
        f"with whole_file({str(tmp_path / 'file')!r}) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -9
    assert (tmp_path / "file").read_text() == "old"


def test_links_are_replaced_and_never_followed(tmp_path):
    (tmp_path / "secret").write_text("untouched")
    (tmp_path / "file").symlink_to(tmp_path / "secret")
    with whole_file(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "secret").read_text() == "untouched"
    assert not (tmp_path / "file").is_symlink()


def test_a_name_that_is_taken_is_not_written_to(tmp_path, monkeypatch):
    """Whoever guesses the name and puts a link there gains nothing."""
    monkeypatch.setattr(module.secrets, "token_hex", lambda size: "guessed")
    (tmp_path / "secret").write_text("untouched")
    (tmp_path / ".file.guessed.tmp").symlink_to(tmp_path / "secret")
    with pytest.raises(FileExistsError), whole_file(tmp_path / "file"):
        pass
    assert (tmp_path / "secret").read_text() == "untouched"


@pytest.mark.parametrize("durable", [True, False])
def test_it_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch, durable):
    order = []
    monkeypatch.setattr(module.os, "fsync", lambda descriptor: order.append("sync"))
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), replace(self, target))[1])
    with whole_file(tmp_path / "file", durable=durable) as temporary:
        temporary.write_text("x")
    assert order == (["sync", "rename", "sync"] if durable else ["rename"])


def test_permissions_are_those_of_other_files(tmp_path):
    (tmp_path / "plain").write_text("")
    with whole_file(tmp_path / "file"):
        pass
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_long_name_is_no_trouble(tmp_path):
    with whole_file(tmp_path / ("n" * 240 + ".npz")) as temporary:
        temporary.write_text("x")
    assert len(names(tmp_path)) == 1
