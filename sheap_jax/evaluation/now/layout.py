"""The official folder of the NoW benchmark.

imagepathsvalidation.txt, imagepathstest.txt                lines subject/challenge/image.jpg
scans/<subject>/*.obj                                       one scan each, millimetres (validation only)
scans_lmks_onlypp/<subject>/*.pp                            seven landmarks on it
NoW_Dataset/final_release_version/iphone_pictures/<line>    the photographs
NoW_Dataset/final_release_version/detected_face/<line with .npy>   a box: left, right, top, bottom in pixels
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sheap_jax.evaluation.geometry_scores import Scan
from sheap_jax.evaluation.scans import load_scan
from sheap_jax.files.regular import read_whole

RELEASE = Path("NoW_Dataset/final_release_version")
CHALLENGES = {
    "multiview_neutral": "neutral",
    "multiview_expressions": "expression",
    "multiview_occlusions": "occlusion",
    "selfie": "selfie",
}
SHOWN = 20  # missing images that an error message names


class NowImage(NamedTuple):
    """One photograph."""

    subject: str
    challenge: str  # as in the folders; CHALLENGES has the short names
    file: str

    @property
    def name(self) -> str:
        return f"{self.subject}/{self.challenge}/{self.file}"

    @property
    def stem(self) -> Path:
        """Relative path of the prediction, without a suffix."""
        return Path(self.subject, self.challenge, Path(self.file).stem)


class Missing(NamedTuple):
    """An image that cannot be scored."""

    image: NowImage
    reason: str

    def __str__(self) -> str:
        return f"{self.image.name}: {self.reason}"


class MissingPredictionsError(ValueError):
    """Some images of the list cannot be scored. Left out without a word, they would make a method look better."""

    def __init__(self, missing: Sequence[Missing], total: int):
        lines = [f"  {one}" for one in missing[:SHOWN]]
        if len(missing) > SHOWN:
            lines.append(f"  and {len(missing) - SHOWN} more")
        super().__init__(
            f"{len(missing)} of {total} images cannot be scored:\n"
            + "\n".join(lines)
            + "\nMake them, or pass --allow-missing to score the others and list these."
        )
        self.missing = list(missing)


class NowFolder:
    """The images of one list, and where their files lie."""

    def __init__(self, directory: str | Path, *, split: str = "validation"):
        """Raises FileNotFoundError without the list; ValueError if a line of it is no subject/challenge/image."""
        self.directory, self.split = Path(directory), split
        path = self.directory / f"imagepaths{split}.txt"
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: {directory} should be the folder of the NoW benchmark")
        lines = read_whole(path).decode(errors="replace").splitlines()
        self.images = [_parse(line, path) for line in lines if line.strip()]
        if not self.images:
            raise ValueError(f"{path} lists no image")

    def photograph(self, image: NowImage) -> Path:
        return self.directory / RELEASE / "iphone_pictures" / image.name

    def box(self, image: NowImage) -> Path:
        return (self.directory / RELEASE / "detected_face" / image.name).with_suffix(".npy")

    def subjects(self) -> list[str]:
        """In the order of the list."""
        return list(dict.fromkeys(image.subject for image in self.images))

    def scan(self, subject: str) -> Scan:
        """Face and landmarks of a subject's scan in metres.

        Raises FileNotFoundError or ValueError if a file is missing, not the only one, or damaged.
        """
        return load_scan(
            _only_file(self.directory / "scans" / subject, ".obj"),
            _only_file(self.directory / "scans_lmks_onlypp" / subject, ".pp"),
        )


def _parse(line: str, path: Path) -> NowImage:
    parts = line.strip().strip("/").split("/")
    if len(parts) != 3 or ".." in parts:
        raise ValueError(f"{path}: the line {line!r} is no subject/challenge/image")
    return NowImage(*parts)


def _only_file(directory: Path, suffix: str) -> Path:
    found = sorted(directory.glob(f"*{suffix}"))
    if len(found) != 1:
        raise FileNotFoundError(f"{directory} holds {len(found)} {suffix} files, it should be one")
    return found[0]
