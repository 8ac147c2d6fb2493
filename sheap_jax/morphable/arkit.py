"""Expression coefficients as the 52 blendshape weights of ARKit, for models that have the same shapes (ICT)."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

# Apple's documentation, ARFaceAnchor.BlendShapeLocation; left and right are the subject's.
ARKIT_NAMES = (
    "browDownLeft", "browDownRight", "browInnerUp", "browOuterUpLeft", "browOuterUpRight",
    "cheekPuff", "cheekSquintLeft", "cheekSquintRight",
    "eyeBlinkLeft", "eyeBlinkRight", "eyeLookDownLeft", "eyeLookDownRight", "eyeLookInLeft", "eyeLookInRight",
    "eyeLookOutLeft", "eyeLookOutRight", "eyeLookUpLeft", "eyeLookUpRight",
    "eyeSquintLeft", "eyeSquintRight", "eyeWideLeft", "eyeWideRight",
    "jawForward", "jawLeft", "jawOpen", "jawRight",
    "mouthClose", "mouthDimpleLeft", "mouthDimpleRight", "mouthFrownLeft", "mouthFrownRight", "mouthFunnel",
    "mouthLeft", "mouthLowerDownLeft", "mouthLowerDownRight", "mouthPressLeft", "mouthPressRight", "mouthPucker",
    "mouthRight", "mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper",
    "mouthSmileLeft", "mouthSmileRight", "mouthStretchLeft", "mouthStretchRight",
    "mouthUpperUpLeft", "mouthUpperUpRight", "noseSneerLeft", "noseSneerRight", "tongueOut",
)  # fmt: skip
_ABSENT = {"tongueOut"}  # ICT has no such shape; its weight is 0


def arkit_weights(names: Sequence[str], expression: Float[np.ndarray, "*b e"]) -> Float[np.ndarray, "*b 52"] | None:
    """Weights in [0, 1] in the order of ARKIT_NAMES; None for a model without these shapes.

    A model's shapes are recognised by name: ARKit's own, or with _L and _R in place of Left and Right. Where a model
    has both sides of a shape that ARKit has once (browInnerUp, cheekPuff), the weight is their mean.
    """
    channels = [_channels(wanted, names) for wanted in ARKIT_NAMES]
    if any(not found and wanted not in _ABSENT for wanted, found in zip(ARKIT_NAMES, channels, strict=True)):
        return None
    zero = np.zeros(np.shape(expression)[:-1])
    weights = [np.mean(expression[..., found], axis=-1) if found else zero for found in channels]
    return np.clip(np.stack(weights, axis=-1), 0.0, 1.0)


def _channels(wanted: str, names: Sequence[str]) -> list[int]:
    sided = wanted.replace("Left", "_L") if wanted.endswith("Left") else wanted.replace("Right", "_R")
    accepted = {wanted, sided, f"{wanted}_L", f"{wanted}_R"}
    return [index for index, name in enumerate(names) if name in accepted]
