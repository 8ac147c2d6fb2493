"""The bundles of arrays that flow between the modules.

Conventions (docs/conventions.md): metres, radians, images float in [0, 1], RGB, channels last; quaternions wxyz;
matrices act on column vectors; world = head space (+x the subject's left, +y up, +z out of the face); cameras are
OpenCV (x right, y down, z forward); the centre of the top-left pixel is (0.5, 0.5). `*b` are leading batch axes.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, UInt8


class Camera(NamedTuple):
    """A pinhole camera without skew."""

    viewmat: Float[Array, "*b 4 4"]  # world to camera
    intrinsics: Float[Array, "*b 3 3"]  # pixels


class HeadParams(NamedTuple):
    """Parameters of a morphable model: what the estimator predicts about geometry."""

    shape: Float[Array, "*b s"]  # identity coefficients, unit: standard deviations of the model
    expression: Float[Array, "*b e"]  # expression coefficients
    rotations: Float[Array, "*b j 3"]  # rotation vector per joint, joint 0 (root) is the global head pose
    translation: Float[Array, "*b 3"]  # metres, applied after everything else


class Estimate(NamedTuple):
    """Output of the estimator for one image."""

    head: HeadParams
    light: Float[Array, "*b p"]  # weights of the lighting prior's principal components
    features: Float[Array, "*b d"]  # identity features f, the input of the Gaussian regressor


class LocalSurfels(NamedTuple):
    """Surfels in the frame of their parent triangle: the 14 numbers that the graph network predicts."""

    offset: Float[Array, "*b n 3"]  # in units of the triangle's (s_u, s_v, s_n)
    scale: Float[Array, "*b n 3"]  # in units of the triangle's (s_u, s_v, s_n); surfels use the first two
    rotation: Float[Array, "*b n 4"]  # quaternion wxyz
    albedo: Float[Array, "*b n 3"]  # in [0, 1]
    opacity: Float[Array, "*b n"]  # in [0, 1]; zero for inactive prototypes


class Surfels(NamedTuple):
    """Surfels in the world, ready for the rasteriser once `albedo` has been lit."""

    means: Float[Array, "*b n 3"]
    quats: Float[Array, "*b n 4"]  # wxyz, columns of the rotation: tangent u, tangent v, normal
    scales: Float[Array, "*b n 3"]  # standard deviations in metres; the third only serves 3D Gaussians
    opacities: Float[Array, "*b n"]
    albedo: Float[Array, "*b n 3"]


MAX_PER_FACE = 6  # active prototypes on a face, at the start and ever after (the paper's bound)


class PrototypeState(NamedTuple):
    """State of the Gaussian prototypes at fixed capacity N; embeddings are parameters of the regressor."""

    parent_face: Int[Array, "n"]
    barycentric: Float[Array, "n 3"]  # anchor of the prototype on its parent face
    active: Bool[Array, "n"]
    opacity_mean: Float[Array, "n"]  # running mean over images
    gradient_norm: Float[Array, "n"]  # running mean of the screen-space gradient norm


class SeenColors(NamedTuple):
    """What an image shows of each prototype."""

    color: Float[Array, "b n 3"]  # RGB in [0, 1]
    seen: Float[Array, "b n"]  # 1: the prototype's face looks at the camera, 0: away from it


class Frame(NamedTuple):
    """One video frame as the training sees it."""

    image: Float[Array, "*b h w 3"]
    landmarks: Float[Array, "*b l 2"]  # detected, pixels of this image, iBUG 68 order
    landmark_weight: Float[Array, "*b l"]  # 0 for landmarks that were not detected


class Batch(NamedTuple):
    """Pairs of frames of one identity. `record` names the records behind it, for error messages."""

    source: Frame
    target: Frame
    record: Int[Array, "*b 2"]  # index of (source, target) in the split


class RawFrame(NamedTuple):
    """A frame as the loader gives it: bytes cost a quarter of floats to copy and to send to the device."""

    image: UInt8[np.ndarray, "*b h w 3"]
    landmarks: Float32[np.ndarray, "*b l 2"]
    landmark_weight: Float32[np.ndarray, "*b l"]


class RawBatch(NamedTuple):
    """Pairs as the loader gives them; `sheap_jax.data.augment.float_batch` makes a `Batch` of them on the device."""

    source: RawFrame
    target: RawFrame
    mirrored: Bool[np.ndarray, "*b"]  # pairs that are still to be mirrored
    gain: Float32[np.ndarray, "*b 3"]  # colour gain that is still to be applied to both images
    record: Int32[np.ndarray, "*b 2"]
