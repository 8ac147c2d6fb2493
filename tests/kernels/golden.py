"""The golden files of `tests/golden/rasteriser` (its README defines them), and how far a result is from them."""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tests.kernels.cases import OUTPUTS, Scene, relative_error

FOLDER = Path(__file__).parents[1] / "golden/rasteriser"
NAMES = {
    "color": "rgb",
    "alpha": "alpha",
    "depth": "depth_acc",
    "median_depth": "depth_median",
    "normal": "normal_cam",
    "distortion": "distortion",
}
INPUTS = ("means", "quats", "scales", "opacities", "colors", "viewmat", "K", "background")
SMALL = ("front_on", "edge_on", "opaque_stack", "random64")  # they fit the canvas of cases.SIZE
HEAD = "head_shell_2000"
Golden = dict[str, np.ndarray]


class Errors(NamedTuple):
    """Largest absolute error of each output on safe pixels, relative error of each input's gradient."""

    outputs: dict[str, float]
    gradients: dict[str, float]

    def beyond(self, outputs: dict[str, float], gradient: float) -> list[str]:
        """A line for each quantity that is farther off than allowed; NaN is."""
        found = {name: (error, outputs[name]) for name, error in self.outputs.items()}
        found |= {f"gradient of {name}": (error, gradient) for name, error in self.gradients.items()}
        return [f"{name}: {error:.1e} > {most:.0e}" for name, (error, most) in found.items() if not error <= most]


FLOAT64 = (dict.fromkeys(NAMES, 1e-9), 1e-7)
FLOAT32 = (
    {"color": 2e-4, "alpha": 2e-4, "depth": 5e-4, "median_depth": 1e-4, "normal": 5e-4, "distortion": 1e-5},
    2e-3,
)


def load(name: str) -> Golden:
    with np.load(FOLDER / f"{name}.npz") as golden:
        return dict(golden)


def size_of(golden: Golden) -> dict[str, int]:
    return {"width": int(golden["width"]), "height": int(golden["height"])}


def scene_of(golden: Golden, dtype: jnp.dtype) -> Scene:
    return Scene(*(jnp.asarray(golden[name], dtype) for name in INPUTS))


def weights_of(golden: Golden, dtype: jnp.dtype, *, height: int, width: int) -> dict[str, jax.Array]:
    """The weights of loss_all, zero on the part of the canvas that the golden image does not have."""
    weights = {name: golden[f"w_{NAMES[name]}"] for name in OUTPUTS}
    margins = (0, height - int(golden["height"])), (0, width - int(golden["width"]))
    return {
        name: jnp.asarray(np.pad(value, (*margins, *((0, 0),) * (value.ndim - 2))), dtype)
        for name, value in weights.items()
    }


def errors(golden: Golden, image, gradients: Scene) -> Errors:
    """Of an image, which may be larger than the golden one, and of the gradients of loss_all."""
    height, width = int(golden["height"]), int(golden["width"])
    outputs = {}
    for name, key in NAMES.items():
        safe = golden["safe_normal" if name == "normal" else "safe"]
        found = np.asarray(getattr(image, name), np.float64)[:height, :width]
        outputs[name] = float(np.abs(found - golden[key])[safe].max())
    pairs = zip(INPUTS, gradients, strict=True)
    return Errors(outputs, {name: relative_error(own, golden[f"grad_all_{name}"]) for name, own in pairs})
