"""Files of others are opened by the readers in `files/`, which look at sizes first, and nowhere else."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "sheap_jax"
OWN_FILES = ("files", "ahead_of_time")  # the last one reads a page of the documents
READS = re.compile(
    r"\bnp\.(load|fromfile|loadtxt|genfromtxt)\(|\b(pickle|torch)\.load\(|\bcsv\.(reader|DictReader)\("
    r"|\bjson\.loads?\(|\.read_text\(|\.read_bytes\(|\bcv2\.imread\("
)
FILES = [path for path in sorted(ROOT.rglob("*.py")) if path.relative_to(ROOT).parts[0] not in OWN_FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_other_reader(path):
    found = [line.strip() for line in path.read_text().splitlines() if READS.search(line)]
    assert not found, f"{path.name} opens a file itself: {found[0]}"


def test_what_is_looked_for_would_be_found():
    for line in (
        "np.load(path)",
        "json.load(file)",
        "json.loads(data)",
        "path.read_text()",
        "pickle.load(stream)",
        "csv.reader(text)",
    ):
        assert READS.search(line)
