"""The method's forward pass: from a source and a target image to the rendered target.

source --estimator--> shape, light, f, (its own expression and pose)      target --estimator--> expression, pose
f + context --regressor--> local surfels --binding to the target's mesh--> surfels --light of the source--> image
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from tileraster import EllipsoidImage, MeshImage, SurfelImage

from sheap_jax import geometry
from sheap_jax.method import lighting, rendering
from sheap_jax.method.binding import bind
from sheap_jax.method.lighting import LightPrior
from sheap_jax.method.losses.true_shape import TrueShapes
from sheap_jax.method.source_colors import seen_colors
from sheap_jax.models.dinov2 import patch_features
from sheap_jax.models.estimator import EstimatorOutput, HeadEstimator
from sheap_jax.models.graph_network import FaceNeighbourhood
from sheap_jax.models.perceptual import Lpips
from sheap_jax.models.regressor import GaussianRegressor
from sheap_jax.models.vit import Vit
from sheap_jax.morphable import MorphableModel, forward, landmarks
from sheap_jax.morphable.model import points_on_faces
from sheap_jax.types import Camera, Estimate, HeadParams, LocalSurfels, PrototypeState, Surfels


class Networks(NamedTuple):
    """The modules without their parameters: static under jit."""

    estimator: HeadEstimator
    regressor: GaussianRegressor
    dinov2: Vit | None = None  # frozen, as the next one: their parameters are in Assets.frozen
    lpips: Lpips | None = None


class Assets(NamedTuple):
    """Constant arrays of the method."""

    model: MorphableModel
    neighbourhood: FaceNeighbourhood
    light_prior: LightPrior
    camera: Camera  # one for all images: the head moves, the camera does not
    frozen: dict[str, Any]  # parameters of the frozen networks, by their names in Networks
    truth: TrueShapes | None = None  # of generated people, where losses.true_shape has a weight


class PosedHead(NamedTuple):
    """A head as one image shows it."""

    params: HeadParams
    vertices: Float[Array, "b v 3"]
    landmarks: Float[Array, "b 68 2"]  # pixels


class EstimatedPair(NamedTuple):
    """What the estimator says of a pair of images of one person."""

    source: PosedHead  # everything from the source
    target: PosedHead  # shape of the source, expression and pose of the target
    source_estimate: Estimate
    target_estimate: Estimate
    context: Float[Array, "b t d"]  # of the source, for the UV generator's cross-attention
    source_image: Float[Array, "b h w 3"]


class Avatar(NamedTuple):
    """The surfels of the source person, bound to the target's mesh and lit by the source's light."""

    local: LocalSurfels
    surfels: Surfels
    normals: Float[Array, "b n 3"]  # of the surfels, world space, unit
    colors: Float[Array, "b n 3"]


class Rendering(NamedTuple):
    surfels: SurfelImage | EllipsoidImage
    mesh: MeshImage


@jax.named_scope("head_model")
def pose_head(assets: Assets, params: HeadParams) -> PosedHead:
    """Mesh and projected landmarks of head parameters."""
    vertices = forward(assets.model, params)
    points = landmarks(assets.model, vertices, params.rotations)
    return PosedHead(params, vertices, geometry.project(points, assets.camera))


def estimate_pair(
    networks: Networks,
    params: dict[str, Any],
    assets: Assets,
    source: Float[Array, "b h w 3"],
    target: Float[Array, "b h w 3"],
) -> EstimatedPair:
    """Both images through the estimator in one batch: shape from the source, expression and pose from the target."""
    with jax.named_scope("estimator"):
        output: Any = networks.estimator.apply({"params": params["estimator"]}, jnp.concatenate([source, target]))
    first, second = (jax.tree.map(lambda x, k=k: jnp.split(x, 2)[k], output) for k in range(2))
    driven = second.estimate.head._replace(shape=first.estimate.head.shape)
    return EstimatedPair(
        source=pose_head(assets, first.estimate.head),
        target=pose_head(assets, driven),
        source_estimate=first.estimate,
        target_estimate=second.estimate,
        context=context_tokens(networks, assets, source, first),
        source_image=source,
    )


def context_tokens(
    networks: Networks, assets: Assets, source: Float[Array, "b h w 3"], output: EstimatorOutput
) -> Float[Array, "b t d"]:
    """DINOv2's patch tokens of the source images where a run has its weights, else the estimator's own."""
    if networks.dinov2 is None:
        return output.patch_tokens
    with jax.named_scope("dinov2"):
        return patch_features(networks.dinov2, assets.frozen["dinov2"], source)


def share_mean(model: MorphableModel, head: PosedHead, share: float, axes: tuple[str, ...] = ()) -> PosedHead:
    """The same head with another gradient: of its shape's, the part that is common to the batch counts `share`.

    Hair, necks and what light leaves unexplained pull all heads the same way. Pictures would so change the mean head,
    which landmarks and prior know better. With 0 pictures only tell one person from another. `axes` are those of the
    devices that share the batch.
    """
    if share == 1.0:
        return head
    shape = head.params.shape
    mean = jnp.mean(shape, axis=0)
    if axes:
        mean = jax.lax.pmean(mean, axes)
    params = head.params._replace(shape=shape - (1.0 - share) * (mean - jax.lax.stop_gradient(mean)))
    return head._replace(params=params, vertices=forward(model, params))


def build_avatar(
    networks: Networks, params: dict[str, Any], assets: Assets, prototypes: PrototypeState, pair: EstimatedPair
) -> Avatar:
    """Gaussians of the source person on the target's mesh, with their colours in the source's light."""
    with jax.named_scope("regressor"):
        colors = None
        if networks.regressor.source_colors:
            head = pair.source.vertices
            colors = seen_colors(pair.source_image, head, assets.model, prototypes, assets.camera)
        local: Any = networks.regressor.apply(
            {"params": params["regressor"]},
            pair.source_estimate.features,
            pair.context,
            prototypes,
            uv_anchors(assets.model, prototypes),
            assets.neighbourhood,
            colors,
        )
    light = lighting.coefficients(assets.light_prior, pair.source_estimate.light)
    vertices, faces = pair.target.vertices, assets.model.faces
    return pose_avatar(local, prototypes, vertices, faces, light, isotropic=networks.regressor.isotropic)


@jax.named_scope("binding")
def pose_avatar(
    local: LocalSurfels,
    prototypes: PrototypeState,
    vertices: Float[Array, "*b v 3"],
    faces: Int[Array, "f 3"],
    light: Float[Array, "*b 9 3"],
    *,
    isotropic: bool = False,
) -> Avatar:
    """Local surfels on a posed mesh, lit by harmonic coefficients: albedo x Lambertian shading."""
    surfels = bind(local, prototypes, vertices, faces, isotropic=isotropic)
    normals = geometry.quaternion_to_matrix(surfels.quats)[..., 2]
    return Avatar(local, surfels, normals, surfels.albedo * lighting.shade(normals, light))


def uv_anchors(model: MorphableModel, prototypes: PrototypeState) -> Float[Array, "n 2"]:
    """Where each prototype sits in the UV chart; all at zero in a model without one, for regressors without maps."""
    if not model.uv.shape[0]:
        return jnp.zeros((*prototypes.parent_face.shape, 2))
    return points_on_faces(model.uv, model.uv_faces, prototypes.parent_face, prototypes.barycentric)


def render(
    assets: Assets,
    avatar: Avatar,
    vertices: Float[Array, "b v 3"],
    background: Float[Array, "b 3"],
    *,
    size: int,
    implementation: str | None = None,
    primitive: rendering.Primitive = "surfels",
    surfel_capacity: int | None = None,
    mesh_capacity: int | None = None,
    screen_probe: Float[Array, "b n 2"] | None = None,
) -> Rendering:
    """The avatar over a plain background, and the mesh's z-buffer, both seen by the training camera."""
    options = {"width": size, "height": size, "implementation": implementation}
    surfels = rendering.render_surfels(
        avatar.surfels,
        avatar.colors,
        assets.camera,
        background=background,
        primitive=primitive,
        screen_probe=screen_probe,
        max_intersections=surfel_capacity,
        **options,
    )
    mesh = rendering.render_mesh(
        vertices, assets.model.faces, assets.camera, max_intersections=mesh_capacity, **options
    )
    return Rendering(surfels, mesh)


def border_color(image: Float[Array, "b h w 3"]) -> Float[Array, "b 3"]:
    """Mean colour of the top corners and sides of a frame, where a head crop shows mostly background.

    The surfels are composited over this constant: the paper names no background, a face mask is not needed for
    it, and a colour taken from the image keeps the loss at silhouettes from pulling surfels outwards.
    """
    height, width = image.shape[1:3]
    strip = max(width // 16, 1)
    upper = image[:, : height * 2 // 3]
    sides = jnp.concatenate([upper[:, :, :strip], upper[:, :, -strip:]], axis=2)
    return jnp.mean(sides, axis=(1, 2))
