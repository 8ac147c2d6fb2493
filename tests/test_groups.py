"""Tests that compile the same programs are in one group, and what takes longest begins first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.groups import IMPLEMENTATIONS, LONGEST, group_of, longest_first

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("tests/training/test_step.py::test_same_seed", "training"),
        ("tests/ahead_of_time/test_roofline.py::test_a", "training"),
        ("tests/benchmarks/test_scripts.py::test_loader", "benchmarks"),
        ("tests/kernels/test_golden.py::test_float64[reference-front_on]", "kernels/reference"),
        ("tests/kernels/test_golden.py::test_float32[front_on-xla]", "kernels/xla"),
        ("tests/kernels/test_mesh.py::test_rays[pallas_tpu_interpret]", "kernels/pallas_tpu_interpret"),
        ("tests/kernels/test_mesh.py::test_bad_calls[a::b-xlab]", "kernels/test_mesh"),
        ("tests/method/losses/test_landmark.py::test_a[1-2]", "method/losses/test_landmark"),
        ("tests/test_docs.py::test_links", "test_docs"),
    ],
)
def test_the_group_is_in_the_name(name, group):
    assert group_of(name) == group


def test_longest_groups_come_first_and_the_others_as_they_are():
    names = ["tests/data/test_b.py::test", "tests/data/test_a.py::test", "tests/training/test_a.py::test"]
    assert longest_first(names) == ["training", "data/test_b", "data/test_a"]


def test_groups_that_are_named_are_there():
    files = {group_of(f"{file.relative_to(ROOT)}::test") for file in (ROOT / "tests").rglob("test_*.py")}
    implementations = {f"kernels/{name}" for name in IMPLEMENTATIONS}
    assert set(LONGEST) <= files | implementations


def test_processes_get_whole_groups(tmp_path):
    """By pytest and pytest-xdist as they are installed, on tests that tell the process that runs them."""
    pytest.importorskip("xdist", reason='runs tests in processes: pip install -e ".[test]"')
    for file in ("test_one", "test_two"):
        (tmp_path / f"{file}.py").write_text(
            "import os, pytest\n"
            '@pytest.mark.parametrize("number", range(8))\n'
            "def test_place(number):\n"
            f'    with open({str(tmp_path)!r} + "/{file}.txt", "a") as told:\n'
            '        told.write(os.environ["PYTEST_XDIST_WORKER"] + "\\n")\n'
        )
    options = ["-p", "tests.conftest", "-n", "2", "--dist", "loadscope", "--rootdir", "."]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    places = [set((tmp_path / f"{file}.txt").read_text().split()) for file in ("test_one", "test_two")]
    assert [len(place) for place in places] == [1, 1]
    assert places[0] != places[1]
