"""The training step at the paper's size on one GPU: pairs per second, memory, utilisation, and where the time goes.

    python benchmarks/gpu_step.py --output benchmarks/results/gpu_step.json
    python benchmarks/gpu_step.py --batch 64 32 --rasterizers pallas_gpu_mosaic xla
    python benchmarks/gpu_step.py --config configs/quickstart.py --batch 2 --steps 2     # a toy, on any device

ViT-B/16, DINOv2 B/14 and LPIPS with random weights, random pictures, our own head in FLAME's place (paper_run.py).
Every batch size is timed over `--steps` steps that wait for the last one only. Shares come from a profile of a few
steps: the time of each kernel goes to the innermost of STAGES in the name that JAX gave to its operation. With
`--compile-only` programs only go into the cache that JAX_COMPILATION_CACHE_DIR names. The device then only serves the
compiler's own measurements. Needs the package installed, or PYTHONPATH=.:kernels.
"""

import argparse
import collections
import dataclasses
import itertools
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
from paper_run import FLAME_LIKE, RandomRun, random_batch, random_run
from timing import environment, report

from sheap_jax import assembly, config_files
from sheap_jax.ahead_of_time import program_cost
from sheap_jax.ahead_of_time.abstract_run import abstract_run
from sheap_jax.config import Config
from sheap_jax.method.reanimation import Networks
from sheap_jax.training import start
from sheap_jax.training.step import make_step

# Scopes in the code. The aim: rasteriser, sort and z-buffer take at most 15 % of the step together.
STAGES = (
    "estimator", "dinov2", "regressor", "head_model", "binding", "surfels", "z_buffer", "lpips", "losses", "optimizer",
)  # fmt: skip
RASTERISER = ("surfels", "z_buffer")
PEAK_BFLOAT16 = {"NVIDIA H200": 989e12, "NVIDIA H100 80GB HBM3": 989e12, "NVIDIA A100-SXM4-80GB": 312e12}
WARM_UP = 3
PROFILED = 3


def rendered_step(networks: Networks, config: Config) -> Any:
    settings = assembly.render_settings(config)
    return make_step(networks, start.build_optimizers(config), config.losses, settings, rendered=True)


def compile_only(config: Config, batch_size: int) -> dict[str, Any]:
    """Compile the step from shapes alone."""
    run = abstract_run(config, batch_size=batch_size)
    begin = time.perf_counter()
    rendered_step(run.networks, config).lower(run.state, run.assets, run.batch).compile()
    return {"batch": batch_size, "rasterizer": config.rasterizer, "compile_s": time.perf_counter() - begin}


def time_step(run: RandomRun, config: Config, batch_size: int, *, steps: int, profile: bool) -> dict[str, Any]:
    """Compile and time the rendered step for one batch size."""
    step = rendered_step(run.networks, config)
    batch = random_batch(config, batch_size)
    state = jax.tree.map(lambda leaf: leaf.copy(), run.state)  # the step takes its arguments' memory
    begin = time.perf_counter()
    traced = step.trace(state, run.assets, batch)
    compiled = traced.lower().compile()
    compile_seconds = time.perf_counter() - begin
    for _ in range(WARM_UP):
        state, _ = compiled(state, run.assets, batch)
    jax.block_until_ready(state)
    begin = time.perf_counter()
    for _ in range(steps):
        state, outcome = compiled(state, run.assets, batch)
    jax.block_until_ready(outcome)
    seconds = (time.perf_counter() - begin) / steps
    result = {"batch": batch_size, "rasterizer": config.rasterizer, "compile_s": round(compile_seconds, 1)}
    result |= step_figures(traced, compiled, outcome, batch_size=batch_size, seconds=seconds)
    if profile:

        def again(state: Any) -> Any:
            return compiled(state, run.assets, batch)

        try:
            result["stages"] = profile_stages(again, state, compiled.as_text())
        except Exception as error:  # no right to profile on this machine, say; the times stand
            result["profile_error"] = f"{type(error).__name__}: {str(error)[:300]}"
    return result


def step_figures(traced: Any, compiled: Any, outcome: Any, *, batch_size: int, seconds: float) -> dict[str, Any]:
    """Speed, utilisation and memory of a step that takes so many seconds."""
    flops = program_cost.matrix_flops(traced.jaxpr)
    result = {
        "step_ms": 1e3 * seconds,
        "pairs_per_s": batch_size / seconds,
        "matrix_tflop": flops / 1e12,
        "tflop_per_s": flops / seconds / 1e12,
        "temporary_gib": compiled.memory_analysis().temp_size_in_bytes / 2**30,
        "applied": bool(outcome.applied),
        "overflow": float(outcome.metrics["loss/overflow"]),
    }
    peak = PEAK_BFLOAT16.get(jax.devices()[0].device_kind)
    if peak:
        result["utilisation"] = flops / seconds / peak
    used = jax.devices()[0].memory_stats()
    if used:
        result["peak_gib_so_far"] = used["peak_bytes_in_use"] / 2**30
    return result


def profile_stages(step: Any, state: Any, program: str) -> dict[str, Any]:
    """Milliseconds and share of each stage in one step, and the longest operations without a stage."""
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(PROFILED):
                state, _ = step(state)
            jax.block_until_ready(state)
        files = list(Path(folder).rglob("*.xplane.pb"))
        times = operation_times(jax.profiler.ProfileData.from_file(str(files[0])))
    names = dict(re.findall(r'^\s*(?:ROOT )?%?([\w.\-]+) = .*?op_name="([^"]*)"', program, flags=re.MULTILINE))
    # Kernels are named after their instruction, without what C does not allow in a name.
    names |= {re.sub(r"\W", "_", operation): name for operation, name in names.items()}
    stages, rest = collections.defaultdict[str, float](float), collections.defaultdict[str, float](float)
    for operation, seconds in times.items():
        name = names.get(operation, operation)
        found = re.findall(rf"\b({'|'.join(STAGES)})\b", name)
        stages[found[-1] if found else "other"] += seconds
        if not found:
            rest[f"{operation} {name}"] += seconds
    total = sum(times.values())
    result: dict[str, Any] = {
        name: {"ms": 1e3 * seconds / PROFILED, "share": seconds / total} for name, seconds in _longest_first(stages)
    }
    rasteriser = sum(stages[name] for name in RASTERISER) / total if total else 0.0
    longest = {name: 1e3 * seconds / PROFILED for name, seconds in _longest_first(rest)[:8]}
    return {
        "attributed_ms": 1e3 * total / PROFILED,  # step_ms minus this is what the profile missed
        "by_stage": result,
        "rasteriser_share": rasteriser,
        "longest_of_other_ms": longest,
    }


def operation_times(data: Any) -> dict[str, float]:
    """Seconds of each operation of the program, over all steps of the profile.

    A kernel that was launched within a CUDA graph goes by its own name: it does not say its operation.
    """
    planes = list(data.planes)
    devices = [plane for plane in planes if plane.name.startswith("/device:GPU")]
    times = collections.defaultdict[str, float](float)
    for plane in devices or planes:
        for line in plane.lines:
            if line.name in ("XLA Ops", "XLA Modules", "Steps"):
                continue  # derived lines say the kernels' times again
            for event in line.events:
                operation = dict(event.stats).get("hlo_op") or (event.name if devices else None)
                if operation:
                    times[str(operation)] += event.duration_ns / 1e9
    return dict(times)


def _longest_first(times: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(times.items(), key=lambda item: -item[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="configs/base.py")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="change a field of it")
    parser.add_argument("--head", default=FLAME_LIKE, help="in place of the configuration's (default: %(default)s)")
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 16, 32, 64, 128], help="the first is profiled")
    parser.add_argument("--rasterizers", nargs="+", help="implementations of tileraster; default: the configuration's")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile-only", action="store_true", help="fill the compilation cache, time nothing")
    parser.add_argument("--output", type=Path, help="JSON, written anew after every program")
    options = parser.parse_args()
    changed = [f"--config.{one}" for one in options.set]
    config = config_files.parse_arguments([*changed, "--config", options.config], default="", description="")
    config = dataclasses.replace(config, morphable=options.head)
    run = None if options.compile_only else random_run(config, head=options.head)
    result: dict[str, Any] = environment() | {"config": config.name, "set": options.set, "programs": []}
    for batch_size, rasterizer in itertools.product(options.batch, options.rasterizers or [config.rasterizer]):
        chosen = dataclasses.replace(config, rasterizer=rasterizer)
        try:
            if run is None:
                found = compile_only(chosen, batch_size)
            else:
                first = batch_size == options.batch[0]
                found = time_step(run, chosen, batch_size, steps=options.steps, profile=first)
        except Exception as error:  # out of memory, or a kernel that does not compile: the rest stands
            message = f"{type(error).__name__}: {str(error)[:300]}"
            found = {"batch": batch_size, "rasterizer": rasterizer, "error": message}
        result["programs"].append(found)
        report(result, options.output)


if __name__ == "__main__":
    main()
