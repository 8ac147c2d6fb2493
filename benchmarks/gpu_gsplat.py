"""gsplat's CUDA kernels for 2D Gaussians on the scenes of rasteriser.py: the time to beat.

    pip install gsplat                      # 1.5: its wheel holds sources, compiled at the first call (nvcc, minutes)
    python benchmarks/gpu_gsplat.py --output benchmarks/results/gpu_gsplat.json

Colour, alpha, depth, normals and distortion, and the gradient of the sum of their squares, as ours. gsplat composites
the depth of centres, so that its images are not exactly ours (kernels/tileraster/README.md).
"""

import argparse
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from scenes import head_shell
from timing import report, require

CALLS, ROUNDS = 20, 5


def time_calls(call: Callable[[], Any]) -> float:
    """Milliseconds of one call in a row of them, the best row."""
    import torch

    for _ in range(3):
        call()
    torch.cuda.synchronize()
    rows = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for _ in range(CALLS):
            call()
        torch.cuda.synchronize()
        rows.append((time.perf_counter() - start) / CALLS)
    return 1e3 * min(rows)


def time_scene(surfels: int, pixels: int, batch: int) -> dict[str, Any]:
    """Forward, and forward with backward."""
    import torch
    from gsplat import rasterization_2dgs

    scene = {
        name: torch.from_numpy(np.array(value)).cuda()
        for name, value in head_shell(surfels, pixels, batch)._asdict().items()
    }
    thickness = torch.ones_like(scene["opacities"])[..., None]
    learned = [
        scene["means"],
        scene["quats"],
        torch.cat([scene["scales"], thickness], dim=-1),
        scene["opacities"],
        scene["colors"],
    ]
    cameras = scene["viewmats"][:, None], scene["intrinsics"][:, None]  # one camera for each image

    def images() -> list[Any]:
        colors, alphas, normals, _, distortion, _, _ = rasterization_2dgs(
            *learned, *cameras, pixels, pixels, render_mode="RGB+D", distloss=True
        )
        return [colors, alphas, normals, distortion]

    def gradients() -> Any:
        return torch.autograd.grad(sum((value * value).sum() for value in images()), learned)

    with torch.no_grad():
        forward = time_calls(images)
    for value in learned:
        value.requires_grad_()
    both = time_calls(gradients)
    return {
        "surfels": surfels,
        "pixels": pixels,
        "batch": batch,
        "ms_per_image": {"forward": forward / batch, "forward_and_backward": both / batch},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--surfels", type=int, nargs="+", default=[20_000, 40_000])
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 32])
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    require("torch", "gsplat")
    import torch

    jax.config.update("jax_platforms", "cpu")  # JAX only makes the scenes, the GPU's memory is PyTorch's
    if not torch.cuda.is_available():
        sys.exit("needs a GPU that PyTorch sees")
    result: dict[str, Any] = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "gsplat": version("gsplat"),
        "scenes": [],
    }
    for surfels in options.surfels:
        for batch in options.batch:
            result["scenes"].append(time_scene(surfels, options.pixels, batch))
            report(result, options.output)


if __name__ == "__main__":
    main()
