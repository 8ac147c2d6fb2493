"""The shapes in the annotations of the pure modules are true: some tests once more, with every call checked."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = (
    "tests/checked_shapes.py",
    "tests/test_geometry.py",
    "tests/method/losses/test_landmark.py",
    "tests/method/losses/test_weighting.py",
    "tests/method/test_binding.py",
    "tests/method/test_lighting.py",
)


def test_annotated_shapes_are_those_of_the_arrays():
    """In a process of its own: a module can only be checked from its first import on, and checks cost time."""
    pytest.importorskip("beartype", reason='annotations are checked by beartype: pip install -e ".[test]"')
    command = [sys.executable, "-m", "pytest", "-p", "tests.shape_checks", "-n", "0", "--tb=short", *FILES]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
