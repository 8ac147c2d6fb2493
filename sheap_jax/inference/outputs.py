"""What `sheap predict --save` writes for each clip: a folder of files, each complete or not there at all.

docs/prediction.md lists files, keys and units.
"""

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sheap_jax.evaluation.predictions import HeadGeometry
from sheap_jax.files.mesh_files import MeshFile, TextureChart, glb_bytes, ply_bytes, write_obj
from sheap_jax.files.places import folder_below
from sheap_jax.inference import head_geometry, overlays
from sheap_jax.inference.pipeline import Prediction
from sheap_jax.models import official
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.arkit import ARKIT_NAMES, arkit_weights

Writer = Callable[[Path, MorphableModel, Prediction, HeadGeometry], None]


def write_outputs(output: Path, model: MorphableModel, prediction: Prediction, kinds: Sequence[str]) -> Path:
    """Write `kinds` (keys of WRITERS) for one clip, in place of all that was written for it before; returns its folder.

    Files are made in a folder aside and moved once all are there; until then the old ones stay. Files that are not
    `is_output` always stay.

    Raises OSError if something cannot be written, ValueError if the folder would lie outside `output`, PrepareError if
    the clip cannot be read again for its pictures.
    """
    folder = folder_below(output, prediction.footage.clip.name)
    folder.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".partial-", dir=folder))
    try:
        posed = head_geometry.posed_heads(model, prediction.head)
        for kind in kinds:
            WRITERS[kind](aside, model, prediction, posed)
        _replace_all(folder, sorted(aside.iterdir()))
    finally:
        shutil.rmtree(aside)
    return folder


def _replace_all(folder: Path, made: Sequence[Path]) -> None:
    """Move what was made into a folder. All old files go before new ones come, so that they never lie side by side."""
    for file in made:
        if (folder / file.name).is_dir():
            raise IsADirectoryError(f"{folder / file.name} is a folder where a file has to be: move it")
    for file in folder.iterdir():
        if is_output(file.name) and file.is_file():
            file.unlink()
    for file in made:
        file.replace(folder / file.name)


def is_output(name: str) -> bool:
    """Whether `write_outputs` writes a file of this name into a clip's folder, for any kind."""
    return _NAMES.fullmatch(name) is not None


def check_kinds(kinds: Sequence[str], model: MorphableModel) -> None:
    """ValueError if one of `kinds` cannot be written for any head of `model`."""
    if "arkit" in kinds and arkit_weights(model.expression_names, np.zeros((1, len(model.expression_names)))) is None:
        raise ValueError(f"{model.name} has no ARKit blendshapes: leave arkit out of --save, or train with ICT's model")


def head_arrays(model: MorphableModel, prediction: Prediction) -> dict[str, np.ndarray]:
    """The contents of params.npz: our keys, then the official release's for the same numbers."""
    head, footage = prediction.head, prediction.footage
    arrays = {
        "frame": prediction.frame,
        "track": prediction.track,
        "frames": np.array(footage.frames),
        "seconds": prediction.seconds,
        "times": footage.times,
        "rate": np.array(footage.rate),
        "picture_size": np.array([footage.height, footage.width]),
        "box_center": prediction.box.center,
        "box_half": prediction.box.half,
        "box_turns": prediction.box.turns,
        "box_stretch": np.asarray(prediction.box.stretch),
        "camera": head_geometry.picture_cameras(prediction.box).matrix,
        "model": np.array(model.name),
        "joint_names": np.array(model.joint_names),
        "expression_names": np.array(model.expression_names),
        **{name: np.asarray(values) for name, values in head._asdict().items()},
    }
    return arrays | official_arrays(model, prediction)


def official_arrays(model: MorphableModel, prediction: Prediction) -> dict[str, np.ndarray]:
    """Parameters under the names of the official release; a joint or eyelid that the model lacks is zero."""
    shape, expression, rotations, translation = map(np.asarray, prediction.head)
    lids = np.array([name.startswith("eyelid") for name in model.expression_names])
    arrays = {"shape_from_facenet": shape, "expr": expression[:, ~lids], "cam_trans": translation}
    arrays["eyelids"] = expression[:, lids] if lids.any() else np.zeros((len(shape), 2), np.float32)
    for key, joint in official.JOINTS.items():
        known = joint in model.joint_names
        arrays[key] = rotations[:, model.joint_names.index(joint)] if known else np.zeros((len(shape), 3), np.float32)
    return arrays


def _params(folder: Path, model: MorphableModel, prediction: Prediction, posed: HeadGeometry) -> None:
    np.savez(folder / "params.npz", allow_pickle=False, **head_arrays(model, prediction))


def _landmarks(folder: Path, model: MorphableModel, prediction: Prediction, posed: HeadGeometry) -> None:
    matrix = head_geometry.picture_cameras(prediction.box).matrix
    arrays = {
        "frame": prediction.frame,
        "track": prediction.track,
        "landmarks": head_geometry.project_points(matrix, posed.landmarks),
        "landmarks3d": posed.landmarks,
    }
    np.savez(folder / "landmarks.npz", allow_pickle=False, **arrays)


def _camera(folder: Path, model: MorphableModel, prediction: Prediction, posed: HeadGeometry) -> None:
    camera = head_geometry.picture_cameras(prediction.box)
    rows = zip(prediction.frame, prediction.track, camera.matrix, camera.intrinsics, camera.viewmat, strict=True)
    content = {
        "convention": "pixel = P X, X homogeneous head space in metres; OpenCV axes; first pixel's centre (0.5, 0.5)",
        "width": prediction.footage.width,
        "height": prediction.footage.height,
        "faces": [
            {"frame": int(frame), "track": int(track), "P": P.tolist(), "K": K.tolist(), "viewmat": view.tolist()}
            for frame, track, P, K, view in rows
        ],
    }
    (folder / "camera.json").write_text(json.dumps(content, indent=1) + "\n")


def _arkit(folder: Path, model: MorphableModel, prediction: Prediction, posed: HeadGeometry) -> None:
    check_kinds(["arkit"], model)
    weights = arkit_weights(model.expression_names, np.asarray(prediction.head.expression))
    assert weights is not None
    table = np.column_stack([prediction.frame, prediction.track, weights])
    header = ",".join(["frame", "track", *ARKIT_NAMES])
    np.savetxt(folder / "arkit.csv", table, fmt=["%d", "%d"] + ["%.4f"] * 52, delimiter=",", header=header, comments="")


def _meshes(suffix: str) -> Writer:
    def write(folder: Path, model: MorphableModel, prediction: Prediction, posed: HeadGeometry) -> None:
        chart = TextureChart(np.asarray(model.uv), np.asarray(model.uv_faces)) if len(model.uv) else None
        names = mesh_names(prediction)
        for name, vertices in zip(names, posed.vertices, strict=True):
            mesh = MeshFile(vertices, np.asarray(model.faces))
            path = folder / f"{name}.{suffix}"
            if suffix == "obj":
                write_obj(path, *mesh, chart=chart)
            else:
                path.write_bytes({"ply": ply_bytes, "glb": glb_bytes}[suffix](*mesh, chart=chart))

    return write


def mesh_names(prediction: Prediction) -> list[str]:
    """head_<track> for a photograph, head_<track>_<frame> for a video."""
    if prediction.footage.clip.is_photograph:
        return [f"head_{track}" for track in prediction.track]
    return [f"head_{track}_{frame:06d}" for track, frame in zip(prediction.track, prediction.frame, strict=True)]


def _pictures(name: str, *, beside: bool) -> Writer:
    def write(folder: Path, model: MorphableModel, prediction: Prediction, posed: HeadGeometry) -> None:
        overlays.write_overlay(folder / name, np.asarray(model.faces), prediction, posed.vertices, beside=beside)

    return write


_NAMES = re.compile(
    r"params\.npz|landmarks\.npz|camera\.json|arkit\.csv"
    r"|head_\d+(_\d{6,})?\.(obj|ply|glb)"
    r"|(overlay|side_by_side)\.(png|mp4)"
)  # of all files of all WRITERS

WRITERS: dict[str, Writer] = {
    "params": _params,
    "landmarks": _landmarks,
    "camera": _camera,
    "arkit": _arkit,
    "obj": _meshes("obj"),
    "ply": _meshes("ply"),
    "glb": _meshes("glb"),
    "overlay": _pictures("overlay", beside=False),
    "side-by-side": _pictures("side_by_side", beside=True),
}
