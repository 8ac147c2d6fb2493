"""The file system that fails now and then: only below the folder, only a share of the calls."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import os, sys
sys.path.insert(0, sys.argv[1])
import failing_io
failing_io.fail_at_random(sys.argv[2], float(sys.argv[3]), 0)
failed = 0
for number in range(200):
    try:
        with open(os.path.join(sys.argv[2], "file"), "w") as file:
            os.fsync(file.fileno())
        os.replace(os.path.join(sys.argv[2], "file"), os.path.join(sys.argv[2], "other"))
    except OSError:
        failed += 1
print(failed)
os.listdir("/")
"""


def failures(folder: Path, share: float) -> int:
    command = [sys.executable, "-c", PROGRAM, str(ROOT / "benchmarks"), str(folder), str(share)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ)
    assert done.stderr.count("injected: ") == int(done.stdout)
    return int(done.stdout)


def test_a_share_of_the_calls_fails(tmp_path):
    assert failures(tmp_path, 0.0) == 0
    assert 10 < failures(tmp_path, 0.1) < 120  # 200 rounds of three calls
