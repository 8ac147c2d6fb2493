"""`manifest.json` of a shard directory: which files make up each split, with their sizes and checksums."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sheap_jax.data.codec import ShardError
from sheap_jax.files.json_files import read_json
from sheap_jax.files.whole_file import whole_file

MANIFEST = "manifest.json"


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of `directory`: {"splits": {name: entry}}.

    Raises:
      ShardError: it is missing or is not JSON.
    """
    path = directory / MANIFEST
    try:
        manifest = read_json(path)
    except FileNotFoundError as error:
        raise ShardError(f"{path} is missing: prepare the data first, or name the directory of the shards") from error
    except (ValueError, IsADirectoryError) as error:
        raise ShardError(f"{error}: re-copy it or prepare the data again") from error
    if not _is_manifest(manifest):
        raise ShardError(f"{path} is no manifest of shards: re-copy it or prepare the data again")
    return manifest


def _is_manifest(content: Any) -> bool:
    """Whether it has the entries that are read, and its files lie in its own directory."""
    try:
        entries = content["splits"].values()
        files = [file for entry in entries for file in (*entry["shards"], entry["index"])]
        return all(_is_file_name(file["file"]) and type(file["bytes"]) is int for file in files) and all(
            "format_version" in entry for entry in entries
        )
    except (AttributeError, KeyError, TypeError):
        return False


def _is_file_name(name: Any) -> bool:
    """Whether a name is that of a file beside the manifest: those of an old split are deleted."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set("/\\\0") & set(name)


def write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest in one step."""
    with whole_file(directory / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")


def remove_split(directory: Path, split: str) -> bool:
    """Delete a split with its shards and index; others stay. Returns whether there was one.

    Its entry goes first: a run that stops in between leaves files that no manifest lists, never an entry without files.

    Raises:
      ShardError: the manifest is damaged.
    """
    if not (directory / MANIFEST).exists():
        return False
    manifest = read_manifest(directory)
    entry = manifest["splits"].pop(split, None)
    if entry is None:
        return False
    write_manifest(directory, manifest)
    for file in (*entry["shards"], entry["index"]):
        (directory / file["file"]).unlink(missing_ok=True)
    return True


def fingerprint(path: Path) -> dict[str, Any]:
    """Size and checksum of a file, as the manifest stores them."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": digest}


def check_size(path: Path, expected: int) -> None:
    """The cheap check at opening: finds missing and truncated copies, not flipped bits.

    Raises:
      ShardError: names the file and what to do.
    """
    if not path.exists():
        raise ShardError(f"shard {path} is missing: re-copy it or prepare the data again")
    size = path.stat().st_size
    if size != expected:
        raise ShardError(
            f"shard {path} has {size} bytes, the manifest says {expected} (truncated or altered): "
            "re-copy it or prepare the data again"
        )
