"""LPIPS with VGG16 (Zhang et al., CVPR 2018): torchvision's convolutions and the published linear layers."""

import re
from typing import Any

from sheap_jax.models.convert.mapping import Conversion, Entry, Tensors, apply_table, unwrapped, without_prefix
from sheap_jax.models.perceptual import VGG16_STAGES, VggStages
from sheap_jax.models.weights import NetworkWeights

WHAT = "LPIPS with VGG16: the linear layers (vgg.pth of the lpips package) with torchvision's vgg16 beside them (--vgg)"


def convert_lpips(tensors: Tensors, *, stages: VggStages = VGG16_STAGES) -> Conversion:
    """Weights of `perceptual.Lpips` from both files' tensors, or from the state of a whole LPIPS module.

    Raises ConversionError if a convolution or a linear layer is missing or of another shape.
    """
    tensors = {_published_name(name): tensor for name, tensor in unwrapped(tensors).items()}
    own: dict[str, Any] = {}
    for anchor in ("lin0.model.1.weight", "features.0.weight"):  # of two files, each with a prefix of its own
        prefix, under = without_prefix(tensors, anchor, what=WHAT)
        family = anchor.split(".")[0].rstrip("0")
        own |= {name: tensor for name, tensor in under.items() if name.startswith(family)}
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(f"{prefix}{family}")}
    converted = apply_table(_table(stages), own, what=WHAT)
    architecture: dict[str, Any] = {"stages": [list(stage) for stage in stages]}
    return Conversion(NetworkWeights("lpips", architecture, converted.params), sorted([*converted.unused, *tensors]))


def _published_name(name: str) -> str:
    """A whole LPIPS module calls torchvision's `features.5` `net.slice2.5`."""
    return re.sub(r"(^|\.)net\.slice\d+\.", r"\1features.", name)


def _table(stages: VggStages) -> list[Entry]:
    """Torchvision numbers convolutions, ReLUs and poolings through: a stage of n convolutions takes 2 n + 1 numbers."""
    entries, number, inputs = [], 0, 3
    for index, stage in enumerate(stages):
        for layer, width in enumerate(stage):
            ours, theirs = f"convolution_{index}_{layer}", f"features.{number + 2 * layer}"
            shape = (width, inputs, 3, 3)
            entries.append(Entry(f"{ours}/kernel", f"{theirs}.weight", shape, lambda w: w.transpose(2, 3, 1, 0)))
            entries.append(Entry(f"{ours}/bias", f"{theirs}.bias", (width,)))
            inputs = width
        number += 2 * len(stage) + 1
        linear = (f"linear_{index}", f"lin{index}.model.1.weight", (1, inputs, 1, 1))
        entries.append(Entry(*linear, lambda w: w[0, :, 0, 0]))
    return entries
