"""How good re-animated pictures are, beside baselines that need no network."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from sheap_jax.evaluation import image_scores
from sheap_jax.evaluation.report import Measured

SOURCE_IMAGE, MEAN_COLOR = "source image", "mean colour of the target"  # baselines
FACE_PSNR, FACE_SSIM = "re-animation, face, PSNR", "re-animation, face, SSIM"


def picture_scores(
    source: Float[np.ndarray, "p h w 3"],
    target: Float[np.ndarray, "p h w 3"],
    rendered: Float[np.ndarray, "p h w 3"],
    landmarks: Sequence[Float[np.ndarray, "l 2"]],
) -> list[Measured]:
    """PSNR and SSIM against the target: in the face (hull of its landmarks) and in the whole frame.

    Args:
        source, target, rendered: one picture of each for every pair, in [0, 1].
        landmarks: of each target, pixels; their number may differ.
    """
    height, width = target.shape[1:3]
    face = np.stack([image_scores.hull_mask(points, height=height, width=width) for points in landmarks])
    rows = []
    for region, mask in (("face", face), ("frame", np.ones_like(face))):
        weights = mask[..., None].astype(target.dtype)
        color = (target * weights).sum(axis=(1, 2), keepdims=True) / weights.sum(axis=(1, 2), keepdims=True)
        baselines = {SOURCE_IMAGE: source, MEAN_COLOR: np.broadcast_to(color, target.shape)}
        for score, unit, measure in (("PSNR", "dB", image_scores.psnr), ("SSIM", "", image_scores.ssim)):
            ours = measure(rendered, target, mask)
            rows += [
                Measured(f"re-animation, {region}, {score}", unit, True, ours, name, measure(picture, target, mask))
                for name, picture in baselines.items()
            ]
    return rows
