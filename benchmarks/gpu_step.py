"""The training step at the paper's size on one GPU: pairs per second, memory, utilisation, and where the time goes.

    python benchmarks/gpu_step.py --output benchmarks/results/gpu_step.json
    python benchmarks/gpu_step.py --batch 64 32 --rasterizers pallas_gpu_mosaic xla
    python benchmarks/gpu_step.py --config configs/quickstart.py --batch 2 --steps 2     # a toy, on any device

ViT-B/16, DINOv2 B/14 and LPIPS with random weights, random pictures, our own head in FLAME's place (paper_run.py).
Every batch size is timed over `--steps` steps that wait for the last one only. With `--without-graphs` shares come from
a profile of a few steps: the time of each kernel goes to the innermost of STAGES in the name that JAX gave to its
operation. CUDA graphs would hide these names. Needs the package installed, or PYTHONPATH=.:kernels.
"""

import argparse
import collections
import dataclasses
import itertools
import os
import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
from paper_run import FLAME_LIKE, RandomRun, random_batch, random_run
from profiling import Operation, profile
from timing import environment, report, wait_for_turn

from sheap_jax import assembly, config_files
from sheap_jax.ahead_of_time import program_cost
from sheap_jax.config import Config
from sheap_jax.method.reanimation import Networks
from sheap_jax.training import start
from sheap_jax.training.step import make_step
from sheap_jax.types import Batch

# Scopes in the code. The aim: rasteriser, sort and z-buffer take at most 15 % of the step together.
STAGES = (
    "estimator", "dinov2", "regressor", "head_model", "binding", "surfels", "z_buffer", "lpips", "losses", "optimizer",
)  # fmt: skip
RASTERISER = ("surfels", "z_buffer")
PEAK_BFLOAT16 = {"NVIDIA H200": 989e12, "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA A100-SXM4-80GB": 312e12}
WARM_UP = 3
PROFILED = 3
LONGEST = 12  # operations listed for each stage


def rendered_step(networks: Networks, config: Config) -> Any:
    settings = assembly.render_settings(config)
    return make_step(networks, start.build_optimizers(config), config.losses, settings, rendered=True)


class PreparedStep(NamedTuple):
    """A compiled step, with what it is called with."""

    about: dict[str, Any]
    traced: Any
    compiled: Any
    batch: Batch


def prepare(run: RandomRun, config: Config, batch_size: int) -> PreparedStep:
    """Compile the rendered step for one batch size."""
    batch = random_batch(config, batch_size)
    begin = time.perf_counter()
    traced = rendered_step(run.networks, config).trace(run.state, run.assets, batch)
    compiled = traced.lower().compile()
    seconds = round(time.perf_counter() - begin, 1)
    about = {"batch": batch_size, "rasterizer": config.rasterizer, "compile_s": seconds}
    return PreparedStep(about, traced, compiled, batch)


def time_step(run: RandomRun, step: PreparedStep, *, steps: int, stages: bool) -> dict[str, Any]:
    """Time the step, and where its time goes."""
    state = jax.tree.map(lambda leaf: leaf.copy(), run.state)  # the step takes its arguments' memory
    for _ in range(WARM_UP):
        state, _ = step.compiled(state, run.assets, step.batch)
    jax.block_until_ready(state)
    begin = time.perf_counter()
    for _ in range(steps):
        state, outcome = step.compiled(state, run.assets, step.batch)
    jax.block_until_ready(outcome)
    seconds = (time.perf_counter() - begin) / steps
    result = step.about | step_figures(step, outcome, seconds=seconds)
    if stages:

        def again(state: Any) -> Any:
            return step.compiled(state, run.assets, step.batch)

        try:
            result["stages"] = profile_stages(again, state, step.compiled.as_text())
        except Exception as error:  # no right to profile on this machine, say; the times stand
            result["profile_error"] = f"{type(error).__name__}: {str(error)[:300]}"
    return result


def step_figures(step: PreparedStep, outcome: Any, *, seconds: float) -> dict[str, Any]:
    """Speed, utilisation and memory of a step that takes so many seconds."""
    flops = program_cost.matrix_flops(step.traced.jaxpr)
    result = {
        "step_ms": 1e3 * seconds,
        "pairs_per_s": step.about["batch"] / seconds,
        "matrix_tflop": flops / 1e12,
        "tflop_per_s": flops / seconds / 1e12,
        "temporary_gib": step.compiled.memory_analysis().temp_size_in_bytes / 2**30,
        "applied": bool(outcome.applied),
        "overflow": float(outcome.metrics["overflow/surfels"]),
    }
    peak = PEAK_BFLOAT16.get(jax.devices()[0].device_kind)
    if peak:
        result["utilisation"] = flops / seconds / peak
    used = jax.devices()[0].memory_stats()
    if used:
        result["peak_gib_so_far"] = used["peak_bytes_in_use"] / 2**30
    return result


def profile_stages(step: Callable[[Any], Any], state: Any, program: str) -> dict[str, Any]:
    """Milliseconds and share of each stage in one step, and the longest operations without a stage."""

    def call() -> Any:
        nonlocal state
        state, _ = step(state)
        return state

    operations = profile(call, program, calls=PROFILED)
    stages = collections.defaultdict[str, float](float)
    inside = collections.defaultdict[str, list[Operation]](list)
    for one in operations:
        found = re.findall(rf"\b({'|'.join(STAGES)})\b", one.name)
        stage = found[-1] if found else "other"
        stages[stage] += one.milliseconds
        inside[stage].append(one)
    total = sum(stages.values())
    rasteriser = sum(stages[name] for name in RASTERISER) / total if total else 0.0
    return {
        "attributed_ms": total,  # step_ms minus this is what the profile missed
        "by_stage": {
            name: {
                "ms": stages[name],
                "share": stages[name] / total,
                "longest": [one._asdict() for one in inside[name][:LONGEST]],
            }
            for name in sorted(stages, key=lambda name: -stages[name])
        },
        "rasteriser_share": rasteriser,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/base.py")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of it")
    parser.add_argument("--head", default=FLAME_LIKE, help="in place of the configuration's (default: %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16, 32, 64, 128], help="pairs")
    parser.add_argument("--rasterizers", nargs="+", help="implementations of tileraster; default: the configuration's")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument(
        "--without-graphs",
        action="store_true",
        help="no CUDA graphs, which hide names: adds the profile of the first batch size",
    )
    parser.add_argument("--output", type=Path, help="JSON, written anew after every program")
    options = parser.parse_args()
    if options.without_graphs:
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_command_buffer="
    changed = [f"--config.{one}" for one in options.set]
    config = config_files.parse_arguments([*changed, "--config", options.config], default="", description="")
    config = dataclasses.replace(config, morphable=options.head)
    run = random_run(config, head=options.head)
    result: dict[str, Any] = environment() | {
        "config": config.name, "set": options.set, "cuda_graphs": not options.without_graphs, "programs": [],
    }  # fmt: skip
    wanted = list(itertools.product(options.batch, options.rasterizers or [config.rasterizer]))
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(prepare, run, dataclasses.replace(config, rasterizer=rasterizer), batch_size)
            for batch_size, rasterizer in wanted
        ]
    wait_for_turn()
    for (batch_size, rasterizer), job in zip(wanted, jobs, strict=True):
        try:
            found = time_step(
                run, job.result(), steps=options.steps, stages=options.without_graphs and batch_size == options.batch[0]
            )
        except Exception as error:  # out of memory, or a kernel that does not compile: the rest stands
            message = f"{type(error).__name__}: {str(error)[:300]}"
            found = {"batch": batch_size, "rasterizer": rasterizer, "error": message}
        result["programs"].append(found)
        report(result, options.output)


if __name__ == "__main__":
    main()
