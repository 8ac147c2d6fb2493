"""Where results go is looked at before anything is computed."""

import tempfile

import pytest

from sheap_jax.files.file_kinds import check_npz_output


def test_a_converted_file_needs_a_folder_that_can_be_written_to(tmp_path, monkeypatch):
    """Who runs the tests may be root, who may write everywhere: the system's answer is given for it."""
    check_npz_output(tmp_path / "new" / "model.npz")

    def read_only(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    with pytest.raises(
        OSError, match=r"new cannot be written to \(.*: Read-only file system\): choose another folder$"
    ):
        check_npz_output(tmp_path / "new" / "model.npz")
    assert list(tmp_path.iterdir()) == []
