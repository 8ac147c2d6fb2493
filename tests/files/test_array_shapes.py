import numpy as np
import pytest

from sheap_jax.files.array_shapes import check_arrays

WANTED = {"points": "number n 3", "index": "whole n", "names": "text k", "rate": "number"}
GOOD = {
    "points": np.zeros((4, 3)),
    "index": np.arange(4),
    "names": np.array(["a", "b"]),
    "rate": np.array(25),
    "other": np.zeros((2, 2)),
}


def test_what_fits_passes_and_absent_arrays_are_not_looked_at():
    check_arrays("a.npz", GOOD, WANTED, way_out="make it again")
    check_arrays("a.npz", {"index": np.arange(9)}, WANTED, way_out="make it again")
    check_arrays("a.npz", {"names": np.array([])}, WANTED, way_out="make it again")


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("points", np.zeros((4, 2)), r"points has shape \(4, 2\) of float64, expected \[4, 3\] of numbers"),
        ("points", np.zeros(3), r"points has shape \(3,\) of float64, expected \[n, 3\] of numbers"),
        ("points", np.full((4, 3), "a"), "of <U1, expected"),
        ("index", np.arange(5), r"index has shape \(5,\) of int64, expected \[4\] of whole numbers"),
        ("index", np.zeros(4), "of float64, expected"),
        ("names", np.arange(2), r"expected \[2\] of texts"),
        ("rate", np.zeros(1), r"rate has shape \(1,\) of float64, expected \[\] of numbers"),
    ],
)
def test_what_does_not_fit_is_named_with_the_file(name, array, words):
    with pytest.raises(ValueError, match=rf"^a\.npz: .*{words}.*: make it again$"):
        check_arrays("a.npz", GOOD | {name: array}, WANTED, way_out="make it again")
