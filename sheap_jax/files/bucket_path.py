"""Paths in buckets: `epath`'s, with errors as one line and requests that are tried again.

What a bucket cannot do has an equivalent here. Objects appear whole or not at all, and are never renamed or grown.
Folders are only common beginnings of names: there is none to make, and an empty one is not there.
"""

import errno
import fnmatch
import logging
import os
import posixpath
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

import fsspec
from etils.epath.gpath import PosixGPath
from fsspec.config import conf

log = logging.getLogger(__name__)
T = TypeVar("T")

# Seconds between tries, after those of gcsfs and s3fs themselves, which take half a minute.
DELAYS = (5.0, 10.0, 20.0, 40.0, 60.0)
_BUSY = (408, 429, *range(500, 505))  # HTTP: the same request may succeed later
_REFUSED = (401, 403)
_WAYS_IN = {
    "gs": "log in anew (gcloud auth application-default login), or give this machine's service account the role "
    "roles/storage.objectUser on the bucket",
    "s3": "renew the AWS credentials of this machine, or let them read, write and list the bucket",
}
# Else gcsfs takes another class, which asks Google what kind of bucket it is, and which no test runs.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
# Another process, and TensorStore, write to the same folders: what a listing said is never kept.
for _protocol in ("gs", "gcs", "s3"):
    conf.setdefault(_protocol, {}).setdefault("use_listings_cache", False)
os.environ.setdefault("EPATH_USE_TF", "false")  # else epath, and Orbax by it, take TensorFlow where it is installed
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # it prints the traceback of each error that it raises
logging.getLogger("fsspec").setLevel(logging.WARNING)


# Asked before each try of a change, and after it; each may raise OSError. Locks of folders are such (bucket_lock.py).
guards: list[Callable[[Any], None]] = []


class Size(NamedTuple):
    """What is known of an object, as `os.stat` has it of a file."""

    st_size: int  # bytes


class BucketPath(PosixGPath):
    """An object, or what begins with a name, in a bucket.

    Every request raises OSError in one line that names the object: FileNotFoundError if it, or the bucket, is not
    there, PermissionError if the credentials are missing, expired or may not do this.

    Nothing is written or removed in a folder that was taken over from this process (bucket_lock.py): OSError.
    """

    @property
    def scheme(self) -> str:
        return os.fspath(self).partition(":")[0]

    def exists(self) -> bool:
        return self._kind() is not None

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def is_file(self) -> bool:
        return self._kind() == "file"

    def stat(self) -> Any:
        return self._ask(lambda fs, name: Size(fs.info(name)["size"]))

    def iterdir(self) -> Iterator["BucketPath"]:
        """Raises FileNotFoundError if no object begins with this name."""
        names = self._ask(lambda fs, name: fs.ls(name, detail=False))
        own = os.fspath(self).partition("://")[2].rstrip("/")
        return iter(sorted(self / posixpath.basename(name.rstrip("/")) for name in names if name.rstrip("/") != own))

    def glob(self, pattern: str) -> Iterator["BucketPath"]:
        """Paths below that fit a pattern of names; none where there is no such folder."""
        found = [self]
        for part in pattern.split("/"):
            found = [child for folder in found for child in folder._children() if fnmatch.fnmatchcase(child.name, part)]
        return iter(sorted(found))

    def files_below(self) -> Iterator["BucketPath"]:
        """All objects whose names begin with this folder's."""
        names = self._ask(lambda fs, name: fs.find(f"{name}/"))
        return iter(sorted(type(self)(f"{self.scheme}://{name}") for name in names if not name.endswith("/")))

    def mkdir(self, mode: int | None = None, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: there are no folders. gcsfs would make a bucket."""

    def open(self, mode: str = "r", **options: Any) -> IO[Any]:
        """For reading alone, part by part; errors while reading are those of gcsfs or s3fs."""
        if "r" not in mode:
            raise ValueError(f"{self}: objects are written whole, by write_bytes, upload or create")
        return self._ask(lambda fs, name: fs.open(name, mode, **options))

    def read_bytes(self) -> bytes:
        return self._ask(lambda fs, name: fs.cat_file(name))

    def read_text(self, encoding: str | None = None) -> str:
        return self.read_bytes().decode(encoding or "utf-8")

    def write_bytes(self, data: bytes) -> int:
        """The whole object, in place of an older one."""
        self._ask(lambda fs, name: fs.pipe_file(name, data), changes=True, writes=True)
        return len(data)

    def write_text(self, data: str, encoding: str | None = None, errors: str | None = None) -> int:
        return self.write_bytes(data.encode(encoding or "utf-8", errors or "strict"))

    def upload(self, file: Path) -> None:
        """A local file as this object, in place of an older one."""
        self._ask(lambda fs, name: fs.put_file(os.fspath(file), name), changes=True, writes=True)

    def create(self, data: bytes) -> None:
        """The object, if there is none yet: of two that create it at once, one gets FileExistsError.

        A request whose answer was lost is sent again, and may find the object that it has made itself.
        """
        self._ask(lambda fs, name: fs.pipe_file(name, data, mode="create"), changes=True, writes=True)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self._ask(lambda fs, name: fs.rm_file(name), changes=True)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def move_below(self, folder: "BucketPath") -> None:
        """Move all objects of this folder, or this object alone. Killed meanwhile, it loses none: copies come first."""
        files = [self] if self.is_file() else list(self.files_below())
        for file in files:
            copy = os.fspath(folder / os.fspath(file.relative_to(self.parent)))
            file._ask(lambda fs, name, copy=copy: fs.cp_file(name, copy), changes=True)
        for file in files:
            file.unlink(missing_ok=True)

    def explain(self, error: Exception) -> str:
        """What an error of any program that reads or writes here says, in one line, and the way out."""
        told = str(error)
        return told if f"{self.scheme}://" in told and isinstance(error, OSError) else str(as_one_line(self, error))

    def absolute(self) -> "BucketPath":
        return self

    def resolve(self, strict: bool = False) -> "BucketPath":
        return self

    def _children(self) -> list["BucketPath"]:
        try:
            return list(self.iterdir())
        except FileNotFoundError:
            return []

    def _kind(self) -> str | None:
        try:
            return self._ask(lambda fs, name: fs.info(name))["type"]
        except FileNotFoundError:
            return None

    def _ask(self, request: Callable[[Any, str], T], *, changes: bool = False, writes: bool = False) -> T:
        """Send a request, again where it failed for a while only: for a request that changes something, while held."""
        for delay in (*DELAYS, None):
            if changes:
                self._check_guards()
            try:
                answer = request(fsspec.filesystem(self.scheme), os.fspath(self))
                break
            except Exception as error:
                if delay is None or not _may_pass(error):
                    raise as_one_line(self, error, writes=writes) from error
                log.warning("%s: %s; trying again in %g s", self, _reason(error), delay)
                time.sleep(delay)
        else:
            raise AssertionError("the last delay is None")
        if changes:
            self._check_guards()
        return answer

    def _check_guards(self) -> None:
        for guard in guards:
            guard(self)


def as_one_line(path: BucketPath, error: Exception, *, writes: bool = False) -> OSError:
    """The error of a request as an OSError that names the object and the way out."""
    if isinstance(error, FileNotFoundError):
        what = f"there is no bucket {path.parts[2]}, or no right to see it" if writes else "there is no such object"
        return FileNotFoundError(errno.ENOENT, what, os.fspath(path))
    if isinstance(error, FileExistsError):
        return FileExistsError(errno.EEXIST, "there is an object of this name", os.fspath(path))
    if _is_refused(error):
        return PermissionError(f"{path}: access was refused ({_reason(error)}): {_WAYS_IN[path.scheme]}")
    return OSError(f"{path}: the request failed ({_reason(error)})")


def _code(error: Exception) -> int | None:
    """The HTTP status that an error stands for, if it says."""
    found = str(getattr(error, "code", None) or getattr(error, "status", None))
    return int(found) if found.isdecimal() else None


def _packages(error: BaseException) -> set[str]:
    """The packages that an error's class and what it derives from are of."""
    return {kind.__module__.partition(".")[0] for kind in type(error).__mro__}


def _is_refused(error: Exception) -> bool:
    """Whether the credentials are missing, expired, or of somebody who may not do this."""
    if _credentials_may_come(error):
        return False
    words = ("Forbidden", "PERMISSION_DENIED", "UNAUTHENTICATED", "Unable to locate credentials", "ExpiredToken")
    texts = any(word in str(error) for word in words)
    by_login = "google" in _packages(error)
    return _code(error) in _REFUSED or isinstance(error, PermissionError) or by_login or texts


def _credentials_may_come(error: BaseException | None) -> bool:
    """Whether only the server was away that gives out credentials. gcsfs says 401 then; the cause tells."""
    while error is not None:
        if "google" in _packages(error) and (
            type(error).__name__ == "TransportError" or getattr(error, "retryable", False)
        ):
            return True
        error = error.__cause__
    return False


def _may_pass(error: Exception) -> bool:
    """Whether the same request may succeed later."""
    if _credentials_may_come(error):
        return True
    if _is_refused(error):
        return False
    network = _packages(error) & {"aiohttp", "requests", "botocore", "google"}
    return _code(error) in _BUSY or bool(network) or isinstance(error, (TimeoutError, ConnectionError))


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}" if text else type(error).__name__
