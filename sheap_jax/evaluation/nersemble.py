"""Submissions to the public NeRSemble benchmark, task single-view 3D face reconstruction (SVFR). Its server scores.

    sheap eval --checkpoint DIR --benchmark nersemble --data SVFR_DIR

    input        SVFR_DIR/<participant>/<sequence>_<time>_<serial>/rgb.png      512 px, cropped to the face
    submission   <participant>/<sequence>_<time>_<serial>/mesh_posed.ply, landmarks_posed.npy
                                                          mesh_neutral.ply, landmarks_neutral.npy

Traps: participants have three digits in both; the time has no leading zeros in the input's folders and three digits in
the submission; sequences hold + and - ("EMO-1-shout+laugh") and _, so that time and serial are read from the end; a
serial may start with a zero and stays text. Landmarks may be left out for meshes of 5,023 vertices, which are then
taken for FLAME: we always write them. Meshes are written with their vertices as they are, never merged.
"""

import re
import zipfile
from collections.abc import Callable, Iterable, Sequence
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from sheap_jax.data.photographs import read_photograph
from sheap_jax.evaluation.geometry_scores import Mesh
from sheap_jax.evaluation.predictions import NetworkUnderTest, neutral, pose_heads
from sheap_jax.evaluation.report import BenchmarkReport
from sheap_jax.files.mesh_files import ply_bytes
from sheap_jax.files.whole_file import whole_file

BATCH_SIZE = 32
_FRAME = re.compile(r"(?P<sequence>[A-Za-z0-9_+-]+)_(?P<time>[0-9]+)_(?P<serial>[0-9]+)")


class SvfrFrame(NamedTuple):
    """One input photograph."""

    participant: int
    sequence: str
    time: int
    serial: str

    @property
    def input_folder(self) -> str:
        return f"{self.participant:03d}/{self.sequence}_{self.time}_{self.serial}"

    @property
    def submission_folder(self) -> str:
        return f"{self.participant:03d}/{self.sequence}_{self.time:03d}_{self.serial}"


def parse_frame(participant: str, folder: str) -> SvfrFrame:
    """A frame from the names of its two folders. Raises ValueError if they are not of the benchmark's form."""
    match = _FRAME.fullmatch(folder)
    if match is None or not participant.isdigit():
        raise ValueError(f"{participant}/{folder} is no <participant>/<sequence>_<time>_<serial>")
    return SvfrFrame(int(participant), match["sequence"], int(match["time"]), match["serial"])


def list_frames(directory: str | Path) -> list[SvfrFrame]:
    """All photographs of the benchmark's folder `svfr`. Raises FileNotFoundError if there are none."""
    paths = sorted(Path(directory).glob("*/*/rgb.png"))
    if not paths:
        raise FileNotFoundError(f"{directory} holds no <participant>/<sequence>_<time>_<serial>/rgb.png")
    return [parse_frame(path.parent.parent.name, path.parent.name) for path in paths]


def add_head(archive: zipfile.ZipFile, frame: SvfrFrame, kind: str, mesh: Mesh, faces: Int[np.ndarray, "f 3"]) -> None:
    """Write one head into the submission; `kind` is posed or neutral. Raises ValueError for broken meshes."""
    if kind not in ("posed", "neutral"):
        raise ValueError(f"a submission has posed and neutral heads, not {kind!r}")
    landmarks: Float[np.ndarray, "7 3"] = np.asarray(mesh.landmarks, np.float64)
    if landmarks.shape != (7, 3) or not (np.isfinite(landmarks).all() and np.isfinite(mesh.vertices).all()):
        raise ValueError(f"{frame.submission_folder}: a head has finite vertices and landmarks [7, 3]")
    stream = BytesIO()
    np.save(stream, landmarks)
    archive.writestr(f"{frame.submission_folder}/mesh_{kind}.ply", ply_bytes(mesh.vertices, faces))
    archive.writestr(f"{frame.submission_folder}/landmarks_{kind}.npy", stream.getvalue())


def write_submission(
    predictor: NetworkUnderTest,
    directory: str | Path,
    archive: str | Path,
    *,
    image_size: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[SvfrFrame]:
    """Posed and neutral heads of all photographs below `directory` as one zip; returns the frames in it.

    The photographs are taken as they are, scaled to `image_size`: the benchmark has cropped them. An older archive is
    replaced only once the new one is complete.

    Raises FileNotFoundError or ValueError for missing, misnamed or damaged input, or pictures that are not square.
    """
    frames = list_frames(directory)
    model, faces = predictor.model, np.asarray(predictor.model.faces)
    with whole_file(archive) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as file:
        for start in progress(range(0, len(frames), BATCH_SIZE)):
            batch = frames[start : start + BATCH_SIZE]
            params = predictor(_load_images(Path(directory), batch, image_size))
            for kind, shown in (("posed", params), ("neutral", neutral(model, params))):
                for frame, mesh in zip(batch, pose_heads(model, shown).meshes(), strict=True):
                    add_head(file, frame, kind, mesh, faces)
    return frames


def nersemble_report(
    predictor: NetworkUnderTest,
    directory: str | Path,
    archive: str | Path,
    *,
    image_size: int,
    progress: Callable[[Iterable], Iterable] = iter,
) -> BenchmarkReport:
    """Write the submission and report what is in it. Only the server gives numbers."""
    frames = write_submission(predictor, directory, archive, image_size=image_size, progress=progress)
    people = {frame.participant for frame in frames}
    counts = {"frames to be scored by the server": len(frames), "people": len(people)}
    return BenchmarkReport("nersemble", "svfr", counts, [], submission=Path(archive))


def _load_images(directory: Path, frames: Sequence[SvfrFrame], size: int) -> Float[jnp.ndarray, "n size size 3"]:
    import cv2

    images = []
    for frame in frames:
        path = directory / frame.input_folder / "rgb.png"
        image = read_photograph(path)
        if image.shape[0] != image.shape[1]:
            raise ValueError(f"{path} has {image.shape[1]} x {image.shape[0]} pixels: the benchmark's crops are square")
        images.append(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA))
    return jnp.asarray(np.stack(images), jnp.float32) / 255.0
