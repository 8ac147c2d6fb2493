"""Files of the paper's assets as their owners write them, at their true sizes, with contents of our own.

FLAME is the open ICT head in FLAME's files and counts; weights are random under their published names.
"""

import json
import pickle
from pathlib import Path

import numpy as np

from sheap_jax.morphable.flame_files import COMPONENTS, EXPRESSIONS, FACES, JOINT_NAMES, VERTICES
from sheap_jax.morphable.ict import convert
from sheap_jax.morphable.ict_source import read_source
from sheap_jax.morphable.model import MorphableModel
from tests.models import published_names as published
from tests.morphable import fake_flame

ICT_JOINTS = {"root": 0, "neck": 1, "left_eye": 2, "right_eye": 3}  # it has no jaw


def write_flame(folder: Path, ict: Path) -> list[str]:
    """FLAME 2020's four files with the ICT head in them; the arguments of `python -m sheap_jax.morphable.flame`."""
    head = convert(read_source(ict))
    extra = VERTICES - len(head.template)
    arrays = _flame_arrays(head, extra)
    model = fake_flame.write_model(folder / "generic_model.pkl", arrays)
    landmarks = {
        "full_lmk_faces_idx": np.asarray(head.landmark_faces, np.int64)[None],
        "full_lmk_bary_coords": np.asarray(head.landmark_barycentrics)[None],
        "static_lmk_faces_idx": np.asarray(head.landmark_faces, np.int64)[17:],
        "static_lmk_bary_coords": np.asarray(head.landmark_barycentrics)[17:],
        "dynamic_lmk_faces_idx": np.asarray(head.contour_faces, np.int64),
        "dynamic_lmk_bary_coords": np.asarray(head.contour_barycentrics),
    }
    np.save(folder / "landmark_embedding.npy", np.array(landmarks, dtype=object), allow_pickle=True)
    _write_template(folder / "head_template.obj", head, arrays)
    masks = {name: np.flatnonzero(np.asarray(mask) > 0.5) for name, mask in head.regions.items()}
    (folder / "FLAME_masks.pkl").write_bytes(pickle.dumps(masks, protocol=2))
    files = {"--landmarks": "landmark_embedding.npy", "--template": "head_template.obj", "--masks": "FLAME_masks.pkl"}
    return ["--model", str(model), *(part for option, name in files.items() for part in (option, str(folder / name)))]


def _flame_arrays(head: MorphableModel, extra: int) -> dict[str, np.ndarray]:
    """The head with FLAME's counts: some vertices and triangles more, no effect of the components that ICT lacks."""
    template = np.asarray(head.template, float)
    inside = template.mean(axis=0) + 1e-3 * np.eye(3)[:extra]
    triangles = np.tile(len(template) + np.arange(extra), (FACES - len(head.faces), 1))
    components = np.zeros((VERTICES, 3, COMPONENTS))
    identity, expression = np.asarray(head.identity_basis), np.asarray(head.expression_basis)
    components[: len(template), :, : len(identity)] = np.moveaxis(identity, 0, -1)
    first = COMPONENTS - EXPRESSIONS
    components[: len(template), :, first : first + len(expression)] = np.moveaxis(expression, 0, -1)
    regressor, weights = np.zeros((len(JOINT_NAMES), VERTICES)), np.zeros((VERTICES, len(JOINT_NAMES)))
    for name, row in ICT_JOINTS.items():
        column = JOINT_NAMES.index(name)
        regressor[column, : len(template)] = np.asarray(head.joint_regressor)[row]
        weights[: len(template), column] = np.asarray(head.skinning_weights)[:, row]
    regressor[JOINT_NAMES.index("jaw"), np.argmin(template[:, 1])] = 1.0
    weights[len(template) :, 0] = 1.0
    return {
        "v_template": np.concatenate([template, inside]),
        "f": np.concatenate([np.asarray(head.faces), triangles]).astype(np.uint32),
        "shapedirs": components,
        "posedirs": np.random.default_rng(0).normal(size=(VERTICES, 3, 36)) * 1e-4,
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], dtype=np.uint32),
        "J": regressor @ np.concatenate([template, inside]),
    }


def _write_template(path: Path, head: MorphableModel, arrays: dict[str, np.ndarray]) -> None:
    """An OBJ with the uv layout; the triangles that ICT lacks lie on one point."""
    corners = np.concatenate([np.asarray(head.uv_faces), np.zeros((FACES - len(head.faces), 3), int)]) + 1
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in arrays["v_template"]]
    lines += [f"vt {u:.6f} {v:.6f}" for u, v in np.asarray(head.uv)]
    for face, uv in zip(arrays["f"].astype(int) + 1, corners, strict=True):
        lines.append("f " + " ".join(f"{vertex}/{point}" for vertex, point in zip(face, uv, strict=True)))
    path.write_text("\n".join(lines) + "\n")


def write_weights(folder: Path) -> list[list[str]]:
    """FaRL, DINOv2 and LPIPS as torch saves them; arguments of `python -m sheap_jax.models.convert`, but the output."""
    import torch

    torch.save({"state_dict": _nested("visual.", published.clip_visual())}, folder / "farl.pth")
    torch.save(_draw(published.dinov2_hub()), folder / "dinov2_vitb14_pretrain.pth")
    torch.save(_draw(published.vgg16()), folder / "vgg16.pth")
    torch.save({name: value.abs() for name, value in _draw(published.lpips_linear()).items()}, folder / "vgg.pth")
    return [
        ["farl", str(folder / "farl.pth")],
        ["dinov2", str(folder / "dinov2_vitb14_pretrain.pth")],
        ["lpips", str(folder / "vgg.pth"), "--vgg", str(folder / "vgg16.pth")],
    ]


def _nested(prefix: str, shapes: published.Shapes) -> dict:
    return {prefix + name: value for name, value in _draw(shapes).items()}


def _draw(shapes: published.Shapes) -> dict:
    """Random tensors that keep activations of about the same size from layer to layer."""
    import torch

    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, shape in shapes.items():
        fan_in = int(np.prod(shape[1:])) or 1
        values = torch.randn(shape, generator=generator) / max(fan_in, 1) ** 0.5
        if len(shape) == 1:
            is_scale = name.endswith(".weight") or name.endswith(".gamma")
            values = 1.0 + 0.1 * values if is_scale else 0.1 * values
        tensors[name] = values
    return tensors


def write_light_prior(folder: Path) -> Path:
    """The unpacked Basel Illumination Prior: light from all sides, and some from one."""
    rng = np.random.default_rng(0)
    (folder / "parameters").mkdir(parents=True)
    for number in range(40):
        coefficients = rng.normal(scale=0.1, size=(9, 3))
        coefficients[0] += 0.8
        content = {"environmentMap": {"coefficients": coefficients.tolist()}}
        (folder / "parameters" / f"{number:04d}.rps").write_text(json.dumps(content))
    return folder
