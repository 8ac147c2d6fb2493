"""Which tests run in one process of several: those that compile the same programs. What takes longest begins first.

pytest-xdist has `--dist loadgroup` for it, but the names of its groups are lost under pytest 9.2: each test then goes
to any process, and both compile nearly everything. Here a group is read from the name of a test.
"""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

TOGETHER = ("training", "ahead_of_time")  # they compile the same tiny run
WHOLE = ("benchmarks",)  # folders whose files share what they compile
# One program for each implementation serves all scenes, of all files.
IMPLEMENTATIONS = ("pallas_tpu_interpret", "pallas_gpu_interpret", "reference", "xla")
LONGEST = (
    "training",
    "benchmarks",
    *(
        f"kernels/{name}"
        for name in ("xla", "reference", "pallas_gpu_interpret", "test_pallas", "pallas_tpu_interpret")
    ),
    "test_shapes",
    "commands/test_fit",
    "kernels/test_tpu_compile",
    "morphable/test_ict",
)


def group_of(name: str) -> str:
    """The group of a test, from its name as pytest gives it: tests/FOLDER/FILE.py::FUNCTION[PARAMETERS]."""
    file, _, function = name.partition("::")
    path = PurePosixPath(file).with_suffix("")
    folder = path.parent.name
    if folder in TOGETHER:
        return TOGETHER[0]
    if folder in WHOLE:
        return folder
    if folder == "kernels":
        parameters = re.split(r"[\[\]-]", function)[1:]
        return f"kernels/{next((each for each in IMPLEMENTATIONS if each in parameters), path.name)}"
    return str(path.relative_to("tests")) if path.parts[0] == "tests" else str(path)


def longest_first(names: Iterable[str]) -> list[str]:
    """The groups of these tests: those of LONGEST in its order, then the others as they come."""
    groups = list(dict.fromkeys(map(group_of, names)))
    return sorted(groups, key=lambda group: LONGEST.index(group) if group in LONGEST else len(LONGEST))
