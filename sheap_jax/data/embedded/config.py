"""What to generate. Every field is part of the cache key: a finished data set is reused only if all are equal."""

import dataclasses
from collections.abc import Mapping
from typing import Any

GENERATOR_VERSION = 3  # raise it when the same settings give other images


@dataclasses.dataclass(frozen=True)
class EmbeddedConfig:
    """Size and difficulty of the data set."""

    train_identities: int = 192
    test_identities: int = 24
    clips_per_identity: int = 2
    frames_per_clip: int = 4
    image_size: int = 128  # pixels
    seed: int = 0
    detail: str = "fine"  # mesh resolution of the people, see sheap_jax.morphable.embedded
    supersampling: float = 1.5  # rendered pixels per stored pixel and axis
    landmark_noise: float = 0.012  # standard deviation per point, in distances between the eyes
    missing_landmarks: float = 0.01  # share of landmarks that the simulated detector loses (weight 0)
    truth_splits: tuple[str, ...] = ("test",)
    processes: int | None = None  # None: one per core, at most 8; does not change the result

    def __post_init__(self) -> None:
        for name in ("train_identities", "test_identities", "clips_per_identity", "frames_per_clip", "image_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"EmbeddedConfig.{name} is {getattr(self, name)}, it must be at least 1")
        unknown = set(self.truth_splits) - {"train", "test"}
        if unknown:
            raise ValueError(f"EmbeddedConfig.truth_splits names {sorted(unknown)}; the splits are train and test")

    def settings(self) -> Mapping[str, Any]:
        """JSON values that decide the content; how many processes worked on it does not."""
        values = dataclasses.asdict(self)
        del values["processes"]
        return {**values, "truth_splits": list(self.truth_splits), "generator_version": GENERATOR_VERSION}
