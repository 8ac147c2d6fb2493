"""ViT-B/16 estimator on CPU beside the same network in PyTorch eager: one run, the same cores, float32.

    python benchmarks/estimator_cpu.py --output estimator_cpu.json        # needs torch: pip install -e ".[parity]"

Both networks get the same random weights and must agree before anything is timed. Calls alternate between them, so that
a load from elsewhere meets both; each round gives one ratio, of wall time and of the process's CPU time (both cores),
and the medians are reported. Wall times mean something on a quiet machine only: the load before and after is stored.
On a busy one, `--cores 1` and the CPU times compare: with more, PyTorch's threads spin while they wait for a core.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import report
from tqdm import tqdm

from sheap_jax.models.estimator import HeadEstimator
from sheap_jax.models.transformer import FARL

BATCHES = (1, 8)
WIDTH, DEPTH, HEADS, PATCH, SIZE = 768, 12, 12, 16, 224
TOKEN_HEADS = ("shape", "expression", "pose", "light", "features")


def torch_estimator(params: dict[str, Any]):
    """The estimator as a function of images [b, 3, h, w] in torch, eager, attention by scaled_dot_product_attention.

    Returns the five heads' outputs. Written for speed as CLIP's code does it: one product for query, key and value.
    """
    import torch
    from torch.nn import functional

    def tensor(array) -> "torch.Tensor":
        return torch.tensor(np.array(array, np.float32))  # on the default device

    def dense(p) -> tuple["torch.Tensor", "torch.Tensor"]:
        return tensor(np.asarray(p["kernel"]).T.copy()), tensor(p["bias"])

    def norm(p) -> tuple["torch.Tensor", "torch.Tensor"]:
        return tensor(p["scale"]), tensor(p["bias"])

    vit = params["vit"]
    kernel = np.asarray(vit["patch_embedding"]["kernel"]).reshape(PATCH, PATCH, 3, WIDTH).transpose(3, 2, 0, 1)
    patch_kernel, positions = tensor(kernel.copy()), tensor(vit["positions"]).reshape(-1, WIDTH)
    class_token, extra = tensor(vit["class_token"] + vit["class_position"]), tensor(vit["extra_tokens"])
    mean, deviation = (torch.tensor(values).reshape(3, 1, 1) for values in (FARL.mean, FARL.deviation))
    blocks = []
    for layer in range(DEPTH):
        block = vit[f"block_{layer}"]
        inputs = [block["attention"][name] for name in ("query", "key", "value")]
        stacked = {
            "kernel": np.concatenate([p["kernel"] for p in inputs], axis=1),
            "bias": np.concatenate([p["bias"] for p in inputs]),
        }
        attention = (norm(block["attention_norm"]), dense(stacked), dense(block["attention"]["out"]))
        blocks.append((*attention, norm(block["mlp_norm"]), dense(block["mlp_in"]), dense(block["mlp_out"])))
    heads = [
        (norm(params[f"{name}_head"]["norm"]), *(dense(params[f"{name}_head"][part]) for part in ("hidden", "out")))
        for name in TOKEN_HEADS
    ]
    before, after = norm(vit["norm_before"]), norm(vit["norm"])

    def run(images: "torch.Tensor") -> list["torch.Tensor"]:
        with torch.inference_mode():
            patches = functional.conv2d((images - mean) / deviation, patch_kernel, stride=PATCH)
            tokens = patches.flatten(2).transpose(1, 2) + positions
            batch = len(images)
            tokens = torch.cat([class_token.expand(batch, 1, -1), tokens, extra.expand(batch, -1, -1)], dim=1)
            tokens = functional.layer_norm(tokens, (WIDTH,), *before, eps=FARL.epsilon)
            for attention_norm, inputs, out, mlp_norm, mlp_in, mlp_out in blocks:
                normed = functional.layer_norm(tokens, (WIDTH,), *attention_norm, eps=FARL.epsilon)
                joined = functional.linear(normed, *inputs).reshape(batch, -1, 3, HEADS, WIDTH // HEADS)
                mixed = functional.scaled_dot_product_attention(*joined.permute(2, 0, 3, 1, 4))
                tokens = tokens + functional.linear(mixed.transpose(1, 2).flatten(2), *out)
                normed = functional.layer_norm(tokens, (WIDTH,), *mlp_norm, eps=FARL.epsilon)
                hidden = functional.linear(normed, *mlp_in)
                tokens = tokens + functional.linear(hidden * torch.sigmoid(1.702 * hidden), *mlp_out)
            tokens = functional.layer_norm(tokens[:, -len(TOKEN_HEADS) :], (WIDTH,), *after, eps=FARL.epsilon)
            outputs = []
            for index, (head_norm, hidden, out) in enumerate(heads):
                normed = functional.layer_norm(tokens[:, index], (WIDTH,), *head_norm, eps=1e-6)
                outputs.append(functional.linear(functional.gelu(functional.linear(normed, *hidden)), *out))
            return outputs

    return run


def random_params(estimator: HeadEstimator) -> dict[str, Any]:
    """Weights of which no output is zero."""
    shapes: Any = jax.eval_shape(estimator.init, jax.random.key(0), jnp.zeros((1, SIZE, SIZE, 3)))["params"]
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        noise = rng.normal(size=leaf.shape).astype(np.float32)
        return 1 + 0.1 * noise if path[-1].key == "scale" else noise / np.sqrt(max(leaf.shape[0], 100))

    return jax.tree_util.tree_map_with_path(draw, shapes)


def compare(ours, theirs, *, rounds: int, label: str) -> dict[str, float]:
    """Median times in milliseconds of alternating calls, and median ratios of neighbours (theirs / ours)."""
    times = np.zeros((rounds, 2, 2))  # round, network, (wall, CPU)
    for number in tqdm(range(-2, rounds), desc=label, unit="round"):
        for network, call in enumerate((ours, theirs)):
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            if number >= 0:
                times[number, network] = time.perf_counter() - wall, time.process_time() - cpu
    median, ratio = np.median(times, axis=0) * 1e3, np.median(times[:, 1] / times[:, 0], axis=0)
    return {
        "ours_wall_ms": round(median[0, 0], 1),
        "torch_wall_ms": round(median[1, 0], 1),
        "ours_cpu_ms": round(median[0, 1], 1),
        "torch_cpu_ms": round(median[1, 1], 1),
        "speedup_wall": round(ratio[0], 3),
        "speedup_cpu": round(ratio[1], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path, help="JSON file; without, the result is only printed")
    parser.add_argument("--cores", type=int, default=os.cpu_count(), help="pin the process to so many cores")
    options = parser.parse_args()
    os.sched_setaffinity(0, range(options.cores))
    import torch

    torch.set_num_threads(options.cores)
    estimator = HeadEstimator(300, 100, 16, 5, style=FARL)
    params = random_params(estimator)
    reference = torch_estimator(params)
    forward = jax.jit(lambda params, images: estimator.apply({"params": params}, images))
    device_params = jax.tree.map(jnp.asarray, params)
    result: dict[str, Any] = {
        "what": "ViT-B/16 estimator, float32, milliseconds per call; speedup = torch / ours, median over rounds",
        "jax": jax.__version__, "torch": torch.__version__, "cores": options.cores, "rounds": options.rounds,
        "load_before": os.getloadavg(),
    }  # fmt: skip
    for batch in BATCHES:
        images = np.random.default_rng(batch).uniform(size=(batch, SIZE, SIZE, 3)).astype(np.float32)
        ours_images, their_images = jnp.asarray(images), torch.from_numpy(np.moveaxis(images, -1, 1).copy())
        output: Any = forward(device_params, ours_images)
        features, expected = output.estimate.features, reference(their_images)[-1].numpy()
        error = float(np.abs(features - expected).max() / np.abs(expected).max())
        if error > 1e-4:
            raise SystemExit(f"the networks differ by {error:.1e}: nothing was timed")
        times = compare(
            lambda x=ours_images: jax.block_until_ready(forward(device_params, x)),
            lambda x=their_images: reference(x),
            rounds=options.rounds,
            label=f"batch {batch}",
        )
        result[f"batch_{batch}"] = times | {"relative_difference": error}
    result["load_after"] = os.getloadavg()
    report(result, options.output)


if __name__ == "__main__":
    main()
