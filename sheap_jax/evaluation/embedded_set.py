"""The test people of the embedded benchmark, the same for everybody.

A version fixes people, photographs and ground truth for good. A change of the generator that alters them adds a new
version beside the old one: numbers of different versions are never compared.
"""

import os
from pathlib import Path
from typing import NamedTuple

from sheap_jax.config import EmbeddedData
from sheap_jax.data.embedded.dataset import generate, generator_settings, settings_digest
from sheap_jax.data.manifest import read_manifest

CURRENT = "embedded-v1"
# All fields are written out: a new default must not move the benchmark. The seed is its own, so that no training
# configuration has met these people.
VERSIONS = {
    "embedded-v1": EmbeddedData(
        train_identities=1,  # unused; the generator makes both splits
        test_identities=48,
        clips_per_identity=1,
        frames_per_clip=2,
        image_size=128,
        seed=20_251_019,
        people="embedded:fine",
        supersampling=1.5,
        landmark_noise=0.012,
        missing_landmarks=0.01,
        truth_splits=("test",),
    )
}


class DataVersion(NamedTuple):
    name: str
    settings: dict  # of the generator


def ensure_test_people(directory: str | os.PathLike[str] | None = None) -> Path:
    """The directory of the current version, generated on first use (some seconds).

    Raises FileExistsError if `directory` (default .cache/embedded-v1) holds something else.
    """
    return generate(directory or Path(".cache") / CURRENT, VERSIONS[CURRENT])


def version_of(directory: str | os.PathLike[str], split: str) -> DataVersion:
    """Which version a directory of embedded people is; other settings are named by a digest of theirs."""
    settings = read_manifest(Path(directory))["splits"][split]["settings"]
    for name, config in VERSIONS.items():
        if split == "test" and settings == generator_settings(config):
            return DataVersion(name, settings)
    return DataVersion(f"embedded-{split}-{settings_digest(settings)}", settings)
