"""What a file is by its first bytes, for messages about files without arrays; and whether an .npz can be written."""

import zipfile
from pathlib import Path

from sheap_jax.files.places import check_writable
from sheap_jax.files.regular import open_regular

_AGAIN = "fetch the file itself"
_STARTS = {  # first bytes, in lower case
    b"version https://git-lfs": f"a Git LFS pointer, not the file: {_AGAIN}, with git lfs pull or from the page",
    b"<!doctype": f"a web page, not the file (a download without login gives one): log in, and {_AGAIN}",
    b"<html": f"a web page, not the file (a download without login gives one): log in, and {_AGAIN}",
    b"<?xml": f"an XML document, not the file (an error of the server?): {_AGAIN}",
    b'{"': f"a JSON document, not the file (an error of the server?): {_AGAIN}",
    b"%pdf": "a PDF document",
    b"\x1f\x8b": "a gzip archive: unpack it, and give the file in it",
    b"rar!": "a RAR archive: unpack it, and give the file in it",
    b"7z\xbc\xaf": "a 7-Zip archive: unpack it, and give the file in it",
    b"\x89hdf": "an HDF5 file",
    b"matlab": "a MATLAB file",
    b"\x89png": "a picture",
    b"\xff\xd8\xff": "a picture",
    b"gltf": "a glTF mesh",
    b"ply": "a PLY mesh",
}
_OBJ = (b"# ", b"v ", b"vt ", b"mtllib ", b"o ", b"g ")
_PICKLE_TEXT = (b"(", b"c", b"}", b"]")  # how pickles of protocol 0 start, which are text


def foreign_kind(path: str | Path) -> str | None:
    """What a file without arrays is, and what to do. None if its kind is not known."""
    with open_regular(path) as stream:
        start = stream.read(400)
    if not start:
        return f"an empty file: {_AGAIN}"
    for first, kind in _STARTS.items():
        if start.lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(first):
            return kind
    if zipfile.is_zipfile(path):
        return _archive(path)
    if any(line.startswith(_OBJ) for line in start.split(b"\n")[:20]):
        return "an OBJ mesh"
    text = "".join(start.decode("latin1").split())
    if text.isascii() and text.isprintable() and not start.startswith(_PICKLE_TEXT):
        return f"a text file, which starts with {start.splitlines()[0][:40].decode('ascii')!r}"
    return None


def check_npz_output(path: str | Path) -> None:
    """Raises ValueError if a converted file cannot have this name, since its readers want an .npz; OSError if its
    folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path} is a folder: name the .npz to write, {path / 'NAME.npz'} for instance")
    if path.suffix != ".npz":
        raise ValueError(f"{path}: what is converted becomes one .npz, choose a name that ends in .npz")
    files = [parent for parent in path.parents if parent.exists() and not parent.is_dir()]
    if files:
        raise ValueError(f"{path} cannot be written: {files[0]} is a file, name the .npz in a folder")
    check_writable(path.parent)


def _archive(path: str | Path) -> str | None:
    """An archive of other files; None for one that is a file of arrays itself, or not whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # zipfile raises various errors on broken archives
        return None
    if any(name.endswith((".npy", "/data.pkl")) for name in names):
        return None
    return f"a zip archive of {', '.join(names[:5])}: unpack it, and give the file in it"
