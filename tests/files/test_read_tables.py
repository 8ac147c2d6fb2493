"""Tables of any size and encoding, line by line."""

import tracemalloc

import pytest

from sheap_jax.files import tables
from sheap_jax.files.archives import check_contents
from sheap_jax.files.tables import read_table


def test_a_table_is_never_in_memory_as_a_whole(tmp_path):
    """AffectNet's has a line of a kilobyte for each of 400,000 pictures."""
    line = "a/b.jpg," + ";".join(["123.45"] * 136) + "\n"
    count = 2**24 // len(line)
    with (tmp_path / "training.csv").open("w") as file:
        file.write("file,points\n")
        file.writelines(line for _ in range(count))
    tracemalloc.start()
    assert sum(1 for _ in read_table(tmp_path / "training.csv", columns=["file", "points"])) == count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_are_known_wherever_a_part_ends(tmp_path, monkeypatch, encoding, end):
    monkeypatch.setattr(tables, "_PART", 3)  # cuts letters in two
    (tmp_path / "a.csv").write_bytes(end.join(["File;X", "zoë/ñ.jpg;1,5", "b.jpg;2"]).encode(encoding))
    rows = list(read_table(tmp_path / "a.csv", columns=["file", "x"]))
    assert [(row.cells["file"], row.number("x")) for row in rows] == [("zoë/ñ.jpg", 1.5), ("b.jpg", 2.0)]


def test_the_line_of_excel_that_states_the_delimiter(tmp_path):
    (tmp_path / "a.csv").write_text("sep=;\nfile;x\na,b.jpg;bad\n")
    (row,) = read_table(tmp_path / "a.csv", columns=["file", "x"])
    assert (row.line, row.cells["file"]) == (3, "a,b.jpg")


def test_a_line_without_an_end_is_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "_MOST_LINE", 100)
    (tmp_path / "a.csv").write_text("file,x\n" + "a" * 101)
    with pytest.raises(ValueError, match=r"a\.csv has a line of more than 100 letters"):
        list(read_table(tmp_path / "a.csv", columns=["file"]))


def test_an_archive_may_have_as_many_names_as_its_size_justifies():
    """Landmarks of a collection are two arrays for each of a million clips; 250 bytes are the least that one takes."""
    for names in (2**20 + 1, 2**24):
        check_contents(names, 128 * names, size=250 * names)
        with pytest.raises(ValueError, match=f"its {names} entries would unpack"):
            check_contents(names, 0, size=50 * names)
