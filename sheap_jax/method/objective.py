"""The objective of one batch of pairs: which terms there are, what masks and weighs them.

The terms themselves are in sheap_jax/method/losses, one value per pixel, landmark or surfel.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int
from tileraster import MeshImage

from sheap_jax.config import LossWeights
from sheap_jax.method import reanimation
from sheap_jax.method.losses import consistency, landmark, perceptual, photometric, regularisers, true_shape
from sheap_jax.method.losses.weighting import LossTerm, masked_mean, over_devices, weigh
from sheap_jax.method.reanimation import Assets, Avatar, EstimatedPair, Networks, PosedHead, Rendering
from sheap_jax.method.rendering import SCALED_AXES, Primitive
from sheap_jax.morphable import MorphableModel
from sheap_jax.types import Batch, Frame, PrototypeState

DEPTH_SCALE = 0.01  # metres that count as 1 in the depth term
DEPTH_CUTOFF = 0.03  # metres beyond which a difference is a silhouette, not an error


class RenderSettings(NamedTuple):
    """How the target is rendered. Static under jit."""

    size: int
    implementation: str | None = None
    primitive: Primitive = "surfels"
    surfel_capacity: int | None = None  # max_intersections of the rasteriser; None: its default
    mesh_capacity: int | None = None


class Objective(NamedTuple):
    """The loss, what to log and what else the step needs of this batch."""

    terms: dict[str, Float[Array, ""]]  # unweighted mean of each term
    finite: Bool[Array, "b"]  # which pairs gave finite numbers
    opacities: Float[Array, "b n"] | None  # of the surfels; None when nothing was rendered, as the next one
    overflow: Int[Array, "b 2"] | None  # entries of surfels and of the mesh that the rasteriser had no room for


def needs_rendering(weights: LossWeights, networks: Networks) -> bool:
    """Whether a term of the rendered target or its surfels has a weight; the perceptual one needs LPIPS as well."""
    perceptual_weight = 0.0 if networks.lpips is None else weights.perceptual
    pictures = (weights.l1, weights.ssim, weights.gradient, perceptual_weight)
    return any(pictures) or any((weights.normal, weights.depth, weights.offset, weights.scale))


def geometry_objective(
    params: dict[str, Any],
    networks: Networks,
    assets: Assets,
    batch: Batch,
    weights: LossWeights,
    size: int,
    axes: tuple[str, ...] = (),
) -> tuple[Float[Array, ""], Objective]:
    """Landmarks and coefficient priors alone: a cheap start that brings the heads to their place.

    On a device of a mesh with `axes`, `batch` is its share of the batch and the loss its share of the loss; what is
    logged is of the whole batch.
    """
    pair = reanimation.estimate_pair(networks, params, assets, batch.source.image, batch.target.image)
    loss = weigh(_geometry_terms(pair, assets, batch, weights, size), axes=axes)
    return loss.total, Objective(over_devices(loss.means, axes), _finite(pair, None), None, None)


def full_objective(
    params: dict[str, Any],
    screen_probe: Float[Array, "b n 2"],
    networks: Networks,
    assets: Assets,
    prototypes: PrototypeState,
    batch: Batch,
    weights: LossWeights,
    settings: RenderSettings,
    axes: tuple[str, ...] = (),
) -> tuple[Float[Array, ""], Objective]:
    """All terms. The gradient with respect to `screen_probe` (zeros) is the densification statistic."""
    pair = reanimation.estimate_pair(networks, params, assets, batch.source.image, batch.target.image)
    seen = reanimation.share_mean(assets.model, pair.target, weights.mean_share, axes)
    avatar = reanimation.build_avatar(networks, params, assets, prototypes, pair._replace(target=seen))
    rendering = reanimation.render(
        assets,
        avatar,
        seen.vertices,
        reanimation.border_color(batch.target.image),
        screen_probe=screen_probe,
        **settings._asdict(),
    )
    terms = (
        _geometry_terms(pair, assets, batch, weights, settings.size)
        | _photometric_terms(rendering, batch.target, networks, assets, weights)
        | _consistency_terms(rendering, avatar, seen, assets, prototypes, weights)
        | _surfel_terms(avatar, prototypes, weights, settings.primitive)
    )
    loss = weigh(terms, axes=axes)
    overflow = jnp.stack([rendering.surfels.overflow, rendering.mesh.overflow], axis=-1)
    squared_error = masked_mean((rendering.surfels.color - batch.target.image) ** 2, None, axes=axes)
    logged = over_devices(loss.means | {"psnr": squared_error}, axes)
    logged["psnr"] = -10 * jnp.log10(logged["psnr"])
    return loss.total, Objective(logged, _finite(pair, rendering), avatar.surfels.opacities, overflow)


def _geometry_terms(
    pair: EstimatedPair, assets: Assets, batch: Batch, weights: LossWeights, size: int
) -> dict[str, LossTerm]:
    """Landmarks of both frames, and priors. The target is posed with the source's shape: so shape becomes identity."""
    terms = {}
    for name, head, frame in (("source", pair.source, batch.source), ("target", pair.target, batch.target)):
        error = landmark.landmark_error(head.landmarks, frame.landmarks, image_size=float(size))
        mask = landmark.landmark_weights(frame.landmark_weight, contour=weights.contour, mouth=weights.mouth)
        terms[f"landmarks_{name}"] = LossTerm(error, weights.landmarks / 2, mask)
    expressions = jnp.stack([pair.source.params.expression, pair.target.params.expression])
    terms["shape"] = LossTerm(regularisers.coefficient_energy(pair.source.params.shape), weights.shape)
    terms["expression"] = LossTerm(regularisers.coefficient_energy(expressions), weights.expression)
    if assets.truth is not None:
        error = true_shape.true_shape_error(pair.source.params.shape, batch.record[:, 0], assets.truth)
        terms["true_shape"] = LossTerm(error, weights.true_shape)
    return terms


@jax.named_scope("losses")
def _photometric_terms(
    rendering: Rendering, target: Frame, networks: Networks, assets: Assets, weights: LossWeights
) -> dict[str, LossTerm]:
    """The perceptual term is there where the run has LPIPS's weights."""
    rendered = rendering.surfels.color
    mask = photometric_mask(rendering.mesh, assets.model, off_face=weights.off_face, background=weights.background)
    terms = {
        "l1": LossTerm(photometric.l1_error(rendered, target.image), weights.l1, mask),
        "ssim": LossTerm(photometric.ssim_error(rendered, target.image), weights.ssim, mask),
        "gradient": LossTerm(photometric.gradient_error(rendered, target.image), weights.gradient, mask),
    }
    if networks.lpips is not None and weights.perceptual > 0:
        with jax.named_scope("lpips"):
            layers: Any = networks.lpips.apply({"params": assets.frozen["lpips"]}, rendered, target.image)
        terms["perceptual"] = LossTerm(perceptual.perceptual_error(layers), weights.perceptual, mask)
    return terms


def photometric_mask(
    mesh: MeshImage, model: MorphableModel, *, off_face: float, background: float
) -> Float[Array, "b h w"]:
    """How much each pixel counts: 1 on the model's region "face", less on the rest of the head and beyond it.

    No segmentation of the image is needed: the rendered mesh itself says where the face is. A model without that region
    has a head that counts 1 all over.
    """
    if off_face == 1.0 or "face" not in model.regions:
        return jnp.where(mesh.mask, 1.0, background)
    in_face = jnp.mean(model.regions["face"][model.faces], axis=-1) > 0.5
    return jnp.where(mesh.mask, jnp.where(in_face[mesh.face_index], 1.0, off_face), background)


@jax.named_scope("losses")
def _consistency_terms(
    rendering: Rendering,
    avatar: Avatar,
    head: PosedHead,
    assets: Assets,
    prototypes: PrototypeState,
    weights: LossWeights,
) -> dict[str, LossTerm]:
    """Surfels and mesh tell the same geometry: this is how pictures teach the mesh."""
    surfels, mesh = rendering.surfels, rendering.mesh
    normal = consistency.normal_error(avatar.surfels.quats, head.vertices, assets.model.faces, prototypes.parent_face)
    depth = consistency.depth_error(
        surfels.depth, surfels.alpha, mesh.depth, mesh.mask, length_scale=DEPTH_SCALE, cutoff=DEPTH_CUTOFF
    )
    return {
        "normal": LossTerm(normal, weights.normal, prototypes.active[None]),
        "depth": LossTerm(depth, weights.depth, consistency.both_visible(surfels.alpha, mesh.mask)),
    }


def _surfel_terms(
    avatar: Avatar, prototypes: PrototypeState, weights: LossWeights, primitive: Primitive
) -> dict[str, LossTerm]:
    sizes = avatar.local.scale[..., : SCALED_AXES[primitive]]
    active = prototypes.active[None, :, None]
    return {
        "offset": LossTerm(regularisers.offset_excess(avatar.local.offset), weights.offset, active),
        "scale": LossTerm(regularisers.scale_excess(sizes), weights.scale, active),
    }


def _finite(pair: EstimatedPair, rendering: Rendering | None) -> Bool[Array, "b"]:
    """Which pairs of the batch gave finite landmarks and pictures."""
    values = [pair.source.landmarks, pair.target.landmarks]
    if rendering is not None:
        values.append(rendering.surfels.color)
    return jnp.stack([jnp.isfinite(v).reshape(v.shape[0], -1).all(axis=1) for v in values]).all(axis=0)
