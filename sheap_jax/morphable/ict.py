"""The open ICT Face Model Light as a `MorphableModel`:

    sheap convert ict ICT-FaceKit assets/ict.npz

The source has bases, uv and landmarks but no skeleton. We add joints and skinning for root, neck and eyes (the jaw is
a blendshape), a uv chart, sliding contour landmarks, and the origin that the official camera expects.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from sheap_jax import command_line
from sheap_jax.cropping import crop_box
from sheap_jax.files.file_kinds import check_npz_output
from sheap_jax.files.mesh_files import TextureChart
from sheap_jax.geometry import OFFICIAL_DISTANCE, OFFICIAL_FOCAL
from sheap_jax.morphable.contour import silhouette_contour
from sheap_jax.morphable.ict_lite import lite_topology
from sheap_jax.morphable.ict_source import (
    NARROW_FACE_END,
    PART_NAMES,
    IctSource,
    read_source,
    vertex_parts,
)
from sheap_jax.morphable.ict_uv import uv_chart, uv_subset
from sheap_jax.morphable.model import MorphableModel
from sheap_jax.morphable.storage import save_model

ERRORS = (OSError, ValueError)
SUBSETS = ("lite", "full")
JOINT_NAMES = ("root", "neck", "left_eye", "right_eye")
PARENTS = (-1, 0, 1, 1)

# Anatomy in the source's frame (centimetres), set by hand on a side view: the neck lies between two lines y(z).
_SKULL_BASE = ((-7.0, -3.0), (5.0, -8.7))  # (z, y) below the occiput and at the throat
_NECK_END = ((-9.2, -14.5), (5.5, -19.3))  # (z, y) of the lower rim, nape and front
_NECK_PIVOT = (0.0, -3.0, -0.5)  # where the skull nods on the spine, between and below the ears
_NECK_ROOT = (0.0, -17.2, 1.0)  # middle of the neck's lower end


class Skeleton(NamedTuple):
    """`MorphableModel.joint_regressor` and `skinning_weights`."""

    regressor: Float[np.ndarray, "j v"]
    weights: Float[np.ndarray, "v j"]


def convert(source: IctSource, *, subset: str = "lite") -> MorphableModel:
    """Build the model from the source's arrays.

    Args:
      subset: "lite" (about FLAME's size, no teeth or tongue, see ict_lite) or "full" (every vertex of the source).

    Raises:
      ValueError: an unknown subset.
    """
    if subset not in SUBSETS:
        raise ValueError(f"subset {subset!r}: choose one of {', '.join(SUBSETS)}")
    kept, faces, chart = _topology(source, subset)
    parts = vertex_parts(len(source.vertices))[kept]
    centimetres = source.vertices[kept].astype(np.float64)
    position = np.full(len(source.vertices), -1)
    position[kept] = np.arange(len(kept))
    landmark_faces, barycentrics = _vertex_landmarks(faces, position[source.landmarks])
    template = centimetres / 100.0
    template = template + framing_shift(template[position[source.landmarks]])
    skin = np.all(parts[faces] <= PART_NAMES.index("head_neck"), axis=1)
    contour = silhouette_contour(
        template, faces, landmark_faces, barycentrics, skin=skin, camera_distance=OFFICIAL_DISTANCE
    )
    skeleton = build_skeleton(centimetres, parts, eye_centers(source))
    return MorphableModel(
        template=_float(template),
        identity_basis=_float(source.identity_basis[:, kept] / 100.0),
        expression_basis=_float(source.expression_basis[:, kept] / 100.0),
        pose_basis=jnp.zeros((0, len(kept), 3), jnp.float32),
        joint_regressor=_float(skeleton.regressor),
        skinning_weights=_float(skeleton.weights),
        faces=jnp.asarray(faces, jnp.int32),
        uv=_float(chart.uv),
        uv_faces=jnp.asarray(chart.faces, jnp.int32),
        landmark_faces=jnp.asarray(landmark_faces, jnp.int32),
        landmark_barycentrics=_float(barycentrics),
        contour_faces=jnp.asarray(contour.faces, jnp.int32),
        contour_barycentrics=_float(contour.barycentrics),
        regions=_regions(kept, parts, head_share(centimetres)),
        parents=PARENTS,
        joint_names=JOINT_NAMES,
        expression_names=source.expression_names,
        name=f"ict-{subset}",
    )


def _topology(source: IctSource, subset: str) -> tuple[np.ndarray, np.ndarray, TextureChart]:
    """Kept source vertices, faces over them, uv chart."""
    chart = uv_chart(source)
    if subset == "full":
        return np.arange(len(source.vertices)), source.faces, chart
    lite = lite_topology(source)
    return lite.vertices, lite.faces, uv_subset(chart, source.vertices, source.faces, lite.vertices[lite.faces])


def _vertex_landmarks(faces: Int[np.ndarray, "f 3"], vertices: Int[np.ndarray, "68"]) -> tuple[np.ndarray, np.ndarray]:
    """A face and a one-hot barycentric coordinate for landmarks that are vertices."""
    flat = faces.ravel()
    order = np.argsort(flat, kind="stable")
    first = order[np.searchsorted(flat[order], vertices)]  # first corner that is the vertex
    return first // 3, np.eye(3)[first % 3]


def framing_shift(landmarks: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "3"]:
    """Translation in metres after which the crop rule and the official camera agree on these landmarks.

    The camera sees a fixed window. After the shift, `crop_box` of the projected landmarks is exactly that window: the
    mean head at zero pose is framed like any crop. Found by alternating the depth (box size) and the height (box
    centre).
    """
    shift = np.zeros(3)
    for _ in range(100):
        moved = landmarks + shift
        depth = OFFICIAL_DISTANCE - moved[:, 2]
        image = OFFICIAL_FOCAL * moved[:, :2] / depth[:, None] * (1, -1)  # window of side 1 about the origin
        box = crop_box(image)
        mean_depth = depth.mean()
        correction = np.array([-box.center[0], box.center[1], 0.0]) * mean_depth / OFFICIAL_FOCAL
        correction[2] = -mean_depth * (box.half / 0.5 - 1.0)
        shift += correction
    return shift


def build_skeleton(
    vertices: Float[np.ndarray, "v 3"], parts: Int[np.ndarray, "v"], centers: Float[np.ndarray, "2 3"]
) -> Skeleton:
    """Joints and skinning weights from neutral vertices and the eyeballs' centres, left and right, in centimetres."""
    head = head_share(vertices)
    eyes = [parts == PART_NAMES.index(f"eyeball_{side}") for side in ("left", "right")]
    skin = parts <= PART_NAMES.index("head_neck")
    rim = skin & (head < 0.05)
    skull_base = skin & (np.abs(vertices[:, 1] - _NECK_PIVOT[1]) < 2.0) & (vertices[:, 2] < 6.0)
    regressor = [
        affine_weights(vertices, rim, np.array(_NECK_ROOT)),
        affine_weights(vertices, skull_base, np.array(_NECK_PIVOT)),
        *(affine_weights(vertices, eye, center) for eye, center in zip(eyes, centers, strict=True)),
    ]
    weights = np.stack([1.0 - head, head, np.zeros_like(head), np.zeros_like(head)], axis=1)
    for joint, eye in enumerate(eyes, start=2):
        weights[eye] = np.eye(len(JOINT_NAMES))[joint]
    return Skeleton(np.stack(regressor), weights)


def head_share(vertices: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "v"]:
    """How much a vertex follows the skull: 1 above its base, 0 at the end of the neck, a smooth step between."""
    z, y = vertices[:, 2], vertices[:, 1]
    top, bottom = _line(_SKULL_BASE, z), _line(_NECK_END, z)
    t = np.clip((y - bottom) / (top - bottom), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def _line(points: tuple[tuple[float, float], tuple[float, float]], z: Float[np.ndarray, "v"]) -> np.ndarray:
    """The straight line through two (z, y) points."""
    (z0, y0), (z1, y1) = points
    return y0 + (z - z0) * (y1 - y0) / (z1 - z0)


def affine_weights(
    vertices: Float[np.ndarray, "v 3"], region: Bool[np.ndarray, "v"], target: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "v"]:
    """The most even weights over a region that sum to one and reproduce `target`.

    They are as near to the region's mean as the target allows (least squares). So the point follows every identity as
    under an affine map of the region.
    """
    chosen = np.flatnonzero(region)
    system = np.vstack([vertices[chosen].T, np.ones(len(chosen))])
    weights = np.zeros(len(vertices))
    weights[chosen] = np.linalg.lstsq(system, np.append(target, 1.0), rcond=None)[0]
    return weights


def eye_centers(source: IctSource) -> Float[np.ndarray, "2 3"]:
    """Centres of the eyeballs, left and right, from all of their vertices: a coarser mesh keeps few of them."""
    parts = vertex_parts(len(source.vertices))
    eyes = [parts == PART_NAMES.index(f"eyeball_{side}") for side in ("left", "right")]
    return np.stack([eyeball_center(source.vertices[eye].astype(np.float64)) for eye in eyes])


def eyeball_center(vertices: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3"]:
    """Centre of the ball fitted to the back half of an eyeball, where no cornea bulges."""
    back = vertices[vertices[:, 2] < (vertices[:, 2].min() + vertices[:, 2].max()) / 2]
    system = np.column_stack([2.0 * back, np.ones(len(back))])
    return np.linalg.lstsq(system, (back**2).sum(axis=1), rcond=None)[0][:3]


def _regions(
    kept: Int[np.ndarray, "v"], parts: Int[np.ndarray, "v"], head: Float[np.ndarray, "v"]
) -> dict[str, jnp.ndarray]:
    """Named masks, under the names of the embedded head; `face` (without ears and neck) is what evaluation compares."""
    skin = parts <= PART_NAMES.index("head_neck")
    face, neck = kept < NARROW_FACE_END, skin & (head < 0.8)
    interior = [PART_NAMES.index(name) for name in ("mouth_socket", "gums_tongue", "teeth")]
    masks = {
        "face": face & ~neck,
        "neck": neck,
        "skull": skin & ~face & ~neck,
        "left_eye": parts == PART_NAMES.index("eyeball_left"),
        "right_eye": parts == PART_NAMES.index("eyeball_right"),
        "mouth_interior": np.isin(parts, interior),
    }
    return {name: _float(mask) for name, mask in masks.items()}


def _float(array: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(array, jnp.float32)


def main(arguments: list[str] | None = None) -> None:
    """Command line."""
    parser = command_line.make_parser("convert ict", __doc__)
    parser.add_argument(
        "source", type=Path, metavar="SOURCE", help="clone of github.com/ICT-VGL/ICT-FaceKit, or an .npz made of one"
    )
    parser.add_argument("output", type=Path, metavar="OUT.npz", help="the model file to write, .npz")
    parser.add_argument("--subset", choices=SUBSETS, default="lite", help="mesh resolution")
    options = parser.parse_args(arguments)
    check_npz_output(options.output)
    model = convert(read_source(options.source), subset=options.subset)
    save_model(model, options.output)
    vertices, faces = model.template.shape[0], model.faces.shape[0]
    print(
        f"{options.output}: {model.name}, {vertices} vertices, {faces} faces, "
        f"{model.identity_basis.shape[0]} identity and {model.expression_basis.shape[0]} expression channels"
    )


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
