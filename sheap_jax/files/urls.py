"""Places by name: local paths, and paths in buckets. A name with a scheme never becomes a local folder."""

import importlib.util
import os
import re
from pathlib import Path, PurePath
from typing import Any, NamedTuple

LOCAL_ONLY = "only local files and folders can be given here: copy it, or mount the bucket as a folder (docs/cloud.md)"


class Scheme(NamedTuple):
    """What opens the URLs of a scheme."""

    package: str  # that fsspec needs
    extra: str  # of this package, which installs it


SCHEMES = {"gs": Scheme("gcsfs", "gcs"), "s3": Scheme("s3fs", "s3")}
# pathlib makes one slash of two, so that known schemes are recognised by one.
_URL = re.compile(rf"(?:(?P<known>{'|'.join(SCHEMES)}):/|(?P<other>[A-Za-z][A-Za-z0-9+.-]+)://)", re.IGNORECASE)


class PlaceError(OSError):
    """A URL that cannot be opened here; the message says what to do."""


def open_path(name: str | os.PathLike[str]) -> Path:
    """A path: `pathlib.Path`, or for the URL of a bucket `BucketPath`, which has the same methods.

    Raises PlaceError for an unknown scheme, and where the package is missing that opens a known one.
    """
    if in_bucket(name):
        bucket: Any = name
        return bucket
    text = os.fspath(name)
    scheme = scheme_of(text)
    if scheme is None:
        return Path(name)
    if scheme not in SCHEMES:
        known = " and ".join(f"{one}://" for one in SCHEMES)
        raise PlaceError(f"{text}: {scheme}:// is not known here, only {known}: mount it as a folder (docs/cloud.md)")
    package, extra = SCHEMES[scheme]
    rest = text.partition(":")[2].lstrip("/")
    if not rest:
        raise PlaceError(f"{text} names no bucket: {scheme}://BUCKET/RUN")
    if importlib.util.find_spec(package) is None:
        raise PlaceError(f'{text}: to open {scheme}:// takes {package}: pip install "sheap-jax[{extra}]"')
    from sheap_jax.files.bucket_path import BucketPath

    opened: Any = BucketPath(f"{scheme}://{rest}")
    return opened


def scheme_of(name: str | os.PathLike[str]) -> str | None:
    """The scheme of a URL, in small letters; None for a local path."""
    found = _URL.match(os.fspath(name))
    return None if found is None else (found["known"] or found["other"]).lower()


def in_bucket(path: str | os.PathLike[str]) -> bool:
    """Whether an opened path lies in a bucket: objects there are written whole, and never renamed or grown."""
    return isinstance(path, PurePath) and not isinstance(path, Path)


def check_local(name: str | os.PathLike[str], what: str) -> None:
    """Raises PlaceError for a URL where only local paths are read or written; `what` says which option it is."""
    if scheme_of(name) is not None:
        raise PlaceError(f"{what} is {name}: {LOCAL_ONLY}")
