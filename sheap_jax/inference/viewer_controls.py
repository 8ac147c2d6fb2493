"""The viewer's sliders, and the head and light that they describe."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sheap_jax.inference.viewer_scene import LightChange
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.model import mean_params
from sheap_jax.types import HeadParams

MOST_SHAPES, MOST_EXPRESSIONS = 10, 24  # the first ones; models may have hundreds
SHAPE_RANGE, EXPRESSION_RANGE = 3.0, 2.0
JAW_DEGREES = {"open": (0.0, 35.0), "sideways": (-15.0, 15.0)}  # rotations about x and y
STEP = 0.01


class Controls:
    """Sliders for shape, expression, jaw and light, and switches for mesh and surfels; `moved` is called on any change.

    `gui` is viser's `server.gui`. What has no slider keeps the value that `set` gave it.
    """

    def __init__(self, gui: Any, model: MorphableModel, moved: Callable[[], None]):
        self._moved, self._model = moved, model
        self._rest = jax.tree.map(np.asarray, mean_params(model))
        self.mesh = self._watch(gui.add_checkbox("mesh", True))
        self.surfels = self._watch(gui.add_checkbox("surfels", True))
        gui.add_button("Neutral expression").on_click(lambda _: self.set(self._neutral()))
        shapes = [f"shape {k + 1}" for k in range(model.identity_basis.shape[0])][:MOST_SHAPES]
        self._shape = self._sliders(gui, "Shape", dict.fromkeys(shapes, (-SHAPE_RANGE, SHAPE_RANGE)))
        expressions = model.expression_names[:MOST_EXPRESSIONS]
        self._expression = self._sliders(
            gui, "Expression", dict.fromkeys(expressions, (-EXPRESSION_RANGE, EXPRESSION_RANGE))
        )
        has_jaw = "jaw" in model.joint_names
        self._jaw = self._sliders(gui, "Jaw", JAW_DEGREES) if has_jaw else []
        ranges = {"brightness": (0.0, 2.0), "from the left": (-1.0, 1.0), "from above": (-1.0, 1.0)}
        self._light = self._sliders(gui, "Light on the surfels", ranges)
        self._light[0].value = 1.0

    def set(self, params: HeadParams) -> None:
        """Move the sliders to a head; it looks straight ahead at the origin, since the camera is what turns here."""
        self._rest = jax.tree.map(np.asarray, params)
        values = [
            *zip(self._shape, params.shape, strict=False),
            *zip(self._expression, params.expression, strict=False),
        ]
        if self._jaw:
            jaw = np.degrees(params.rotations[self._model.joint_names.index("jaw")])
            values += zip(self._jaw, jaw, strict=False)
        for slider, value in values:
            slider.value = float(np.clip(value, slider.min, slider.max))

    def params(self) -> HeadParams:
        """The head that the sliders describe."""
        shape, expression = self._rest.shape.copy(), self._rest.expression.copy()
        shape[: len(self._shape)] = [_value(slider) for slider in self._shape]
        expression[: len(self._expression)] = [_value(slider) for slider in self._expression]
        rotations = np.zeros_like(self._rest.rotations)
        if self._jaw:
            jaw = self._model.joint_names.index("jaw")
            rotations[jaw, : len(self._jaw)] = np.radians([_value(slider) for slider in self._jaw])
        return HeadParams(*map(jnp.asarray, (shape, expression, rotations, np.zeros(3, np.float32))))

    def light(self) -> LightChange:
        return LightChange(*(jnp.float32(_value(slider)) for slider in self._light))

    def _neutral(self) -> HeadParams:
        return jax.tree.map(np.zeros_like, self._rest)._replace(shape=self.params().shape)

    def _sliders(self, gui: Any, title: str, ranges: dict[str, tuple[float, float]]) -> list[Any]:
        with gui.add_folder(title, expand_by_default=title != "Shape"):
            return [
                self._watch(gui.add_slider(name, min=low, max=high, step=STEP, initial_value=0.0))
                for name, (low, high) in ranges.items()
            ]

    def _watch(self, control: Any) -> Any:
        control.on_update(lambda _: self._moved())
        return control


def _value(slider: Any) -> float:
    """Where a slider stands, within its ends: a page can send anything for it."""
    value = slider.value
    if not isinstance(value, (int, float)) or not np.isfinite(value):
        return float(np.clip(0.0, slider.min, slider.max))
    return float(np.clip(value, slider.min, slider.max))
