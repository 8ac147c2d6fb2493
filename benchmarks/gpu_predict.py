"""ViT-B/16 estimator on one GPU: latency of one image, throughput of many, beside `torch.compile` of the same network.

    python benchmarks/gpu_predict.py --output benchmarks/results/gpu_predict.json

bfloat16, images already on the device. Latency waits for every call; throughput waits for the last of many. PyTorch
comes last, and is left out where it is missing, has no CUDA, or fails. `--batch 1 2 --calls 2` tries it on a CPU.
"""

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from estimator_cpu import random_params, torch_estimator
from timing import environment, report, wait_for_turn

from sheap_jax.models.estimator import HeadEstimator
from sheap_jax.models.transformer import FARL

SIZE = 224


def time_calls(call: Callable[[], Any], wait: Callable[[Any], Any], *, calls: int) -> dict[str, float]:
    """Milliseconds of one call: alone (median), and in a queue of many."""
    for _ in range(3):
        wait(call())
    alone = []
    for _ in range(calls):
        begin = time.perf_counter()
        wait(call())
        alone.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    for _ in range(calls - 1):
        call()
    wait(call())
    queued = (time.perf_counter() - begin) / calls
    return {"alone_ms": 1e3 * float(np.median(alone)), "queued_ms": 1e3 * queued}


def torch_calls(params: dict[str, Any], images: dict[int, np.ndarray], *, mode: str) -> dict[int, Callable[[], Any]]:
    """Calls of the compiled network in PyTorch, for each batch of images. They have been made twice."""
    import torch

    torch.set_default_device("cuda")
    compiled = torch.compile(torch_estimator(params), mode=mode)

    def call(half: Any) -> Any:
        with torch.autocast("cuda", torch.bfloat16):
            return compiled(half)

    calls = {}
    for batch, pictures in images.items():
        half = torch.from_numpy(np.moveaxis(pictures, -1, 1).copy()).to("cuda", torch.bfloat16)
        calls[batch] = functools.partial(call, half)
        for _ in range(2):
            calls[batch]()
    torch.cuda.synchronize()
    return calls


def torch_on_gpu() -> bool:
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def random_images(batch: int) -> np.ndarray:
    return np.random.default_rng(batch).uniform(size=(batch, SIZE, SIZE, 3)).astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 16, 64, 256])
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--mode", default="max-autotune", help="of torch.compile; reduce-overhead compiles sooner")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    estimator = HeadEstimator(300, 100, 16, 5, style=FARL, dtype=jnp.bfloat16)
    params = random_params(HeadEstimator(300, 100, 16, 5, style=FARL))
    # Weights in the type that products are taken in: nothing is converted at every call.
    own = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), params)
    forward = jax.jit(lambda params, images: estimator.apply({"params": params}, images))
    images = {batch: random_images(batch) for batch in options.batch}
    on_device = jax.device_put(images)
    ours = {batch: functools.partial(forward, own, on_device[batch]) for batch in options.batch}
    for call in ours.values():
        jax.block_until_ready(call())
    theirs, error = {}, None
    if torch_on_gpu():
        try:
            theirs = torch_calls(params, images, mode=options.mode)
        except Exception as found:  # our own figures stand all the same
            error = f"{type(found).__name__}: {str(found)[:300]}"
    wait_for_turn()
    result: dict[str, Any] = environment() | {"what": "ViT-B/16 estimator, bfloat16, 224 pixels", "batches": []}
    result |= {"torch_error": error} if error else {}
    for batch in options.batch:
        times = time_calls(ours[batch], jax.block_until_ready, calls=options.calls)
        found: dict[str, Any] = {"batch": batch, "ours": times, "ours_images_per_s": 1e3 * batch / times["queued_ms"]}
        result["batches"].append(found)
        report(result, options.output)
    for found in result["batches"]:
        if found["batch"] in theirs:
            import torch

            times = time_calls(theirs[found["batch"]], lambda _: torch.cuda.synchronize(), calls=options.calls)
            found["torch_compile"] = times | {"mode": options.mode}
            report(result, options.output)


if __name__ == "__main__":
    main()
