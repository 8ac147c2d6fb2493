"""The items of benchmarks/gpu_visit.py: what they run, for how long, and which of their figures matter most."""

from collections.abc import Callable
from typing import Any, NamedTuple

Result = dict[str, Any]


class Item(NamedTuple):
    """One process of a visit. In commands, {work} is a folder and {seconds} what may be spent on the work itself."""

    name: str
    seconds: float  # limit
    command: list[str]  # script of benchmarks/ and its arguments; --output FILE is added
    toy: list[str]
    headline: Callable[[Result], str]
    needs: tuple[str, ...] = ()  # packages
    prepares: tuple[str, ...] = ()  # names in BACKGROUND whose results it uses


def _ceilings(result: Result) -> str:
    peak = result["peak"]
    half = f", bf16 {peak['bfloat16_per_s'] / 1e12:.0f} TFLOP/s" if peak["bfloat16_per_s"] else ""
    return f"{peak['bytes_per_s'] / 1e12:.2f} TB/s, float32 {peak['operations_per_s'] / 1e12:.1f} TFLOP/s{half}"


def _kernels(result: Result) -> str:
    parts = []
    for name, one in result.items():
        if isinstance(one, dict):
            kinds = ("golden", "ellipsoids", "head_shell")
            wrong = sum(len(one.get(kind, {"wrong": ["missing"]})["wrong"]) for kind in kinds)
            equal = f"{one.get('bit_equal_runs', 0)} of {result['runs']} runs equal"
            parts.append(f"{name}: {one['error'][:80] if 'error' in one else f'{wrong} wrong, {equal}'}")
    return "; ".join(parts)


def _rasteriser(result: Result) -> str:
    return "; ".join(
        f"{scene['implementation']} {scene['surfels']} x{scene['batch']}: "
        f"{scene['ms_per_image']['forward_and_backward']:.2f} ms"
        for scene in result["scenes"]
    )


def _step(result: Result) -> str:
    parts = []
    for one in result["programs"]:
        figures = one["error"][:60] if "error" in one else f"{one['step_ms']:.0f} ms, {one['pairs_per_s']:.0f} pairs/s"
        share = f", rasteriser {one['stages']['rasteriser_share']:.0%}" if "stages" in one else ""
        parts.append(f"{one['batch']} pairs, {one['rasterizer'] or 'default'}: {figures}{share}")
    return "; ".join(parts)


def _prediction(result: Result) -> str:
    parts = []
    for one in result["batches"]:
        theirs = f" (torch {one['torch_compile']['alone_ms']:.2f})" if "torch_compile" in one else ""
        parts.append(f"batch {one['batch']}: {one['ours']['alone_ms']:.2f} ms{theirs}")
    return "; ".join(parts)


def _learning(result: Result) -> str:
    rates = {key.removesuffix("_pairs_per_s"): value for key, value in result.items() if key.endswith("_pairs_per_s")}
    speed = ", ".join(f"{value:.0f} {name} pairs/s" for name, value in rates.items())
    return f"{speed}, after {result['steps']} steps {result['curve'][-1]['ratio']:.2f} of the mean head's error"


def _reproducible(result: Result) -> str:
    found = {name: one for name, one in result.items() if isinstance(one, dict)}
    return "; ".join(f"{name}: equal {one['bit_equal']}, {one['step_ms']:.0f} ms" for name, one in found.items())


def _tuning(result: Result) -> str:
    return "; ".join(
        f"{name}: {one['both_ms']:.2f} ms at tile {one['tile']}, chunk {one['chunk']}, {one['forward_warps']} warps"
        for name, one in result["best"].items()
    )


def _gsplat(result: Result) -> str:
    return "; ".join(
        f"{one['surfels']} x{one['batch']}: {one['ms_per_image']['forward_and_backward']:.2f} ms"
        for one in result["scenes"]
    )


def _truth(result: Result) -> str:
    return f"{len(result['curve'])} points, last {result['curve'][-1]}"


KERNELS = ["pallas_gpu_mosaic", "pallas_gpu_triton"]
RASTERISER = [
    "rasteriser.py", "--surfels", "40000", "20000", "--pixels", "224", "--batch", "32", "1",
    "--implementations", *KERNELS, "xla", "--stages", "32",
]  # fmt: skip
STEP = ["gpu_step.py", "--batch", "64", "32", "--rasterizers", KERNELS[0], "xla"]
LEARNING = ["gpu_learning.py", "--work", "{work}/learning", "--set", "data.embedded.processes=12"]
PREDICTION = ["gpu_predict.py", "--batch", "1", "64", "--mode", "reduce-overhead"]

TOY_SHELL = ["--surfels", "300", "--pixels", "48", "--batch", "1"]
TOY_STEP = ["gpu_step.py", "--config", "configs/quickstart.py", "--batch", "2", "--rasterizers", "xla"]
TOY_LEARNING = [
    "gpu_learning.py", "--work", "{work}/learning", "--batch", "4", "--steps", "102", "--geometry-steps", "100",
    "--set", "data.embedded.train_identities=6", "--set", "data.embedded.test_identities=3",
]  # fmt: skip

# What is started with the visit, in the background.
COMPILE = {
    f"compile {batch} {rasterizer}": ["gpu_step.py", "--compile-only", "--batch", batch, "--rasterizers", rasterizer]
    for batch, rasterizer in (("64", KERNELS[0]), ("64", "xla"), ("32", KERNELS[0]), ("32", "xla"))
}
BACKGROUND = COMPILE | {"film": [*LEARNING, "--film"]}
TOY_BACKGROUND = {"compile 64 xla": [*TOY_STEP, "--compile-only"], "film": [*TOY_LEARNING, "--film"]}

FIRST = [
    Item(
        "kernels",
        150,
        ["gpu_kernels.py"],
        ["gpu_kernels.py", *TOY_SHELL, "--runs", "2", "--implementations", "xla"],
        _kernels,
    ),
    Item("ceilings", 30, ["ceilings.py"], ["ceilings.py"], _ceilings),
    Item("rasteriser", 110, RASTERISER, ["rasteriser.py", *TOY_SHELL, "--implementations", "xla"], _rasteriser),
    Item("step", 150, STEP, [*TOY_STEP, "--steps", "2"], _step, prepares=tuple(COMPILE)),
    Item("prediction", 60, PREDICTION, ["gpu_predict.py", "--batch", "1", "--calls", "2"], _prediction),
    Item(
        "learning",
        600,
        [*LEARNING, "--seconds", "{seconds}"],
        [*TOY_LEARNING, "--seconds", "{seconds}"],
        _learning,
        prepares=("film",),
    ),
]
DEEPER = [
    Item("tuning", 150, ["gpu_tuning.py"], ["gpu_tuning.py", *TOY_SHELL, "--interpret"], _tuning),
    Item(
        "reproducible",
        200,
        ["gpu_reproducible.py", "--batch", "32", "--steps", "200"],
        ["gpu_reproducible.py", "--config", "configs/quickstart.py", "--batch", "2", "--steps", "3"],
        _reproducible,
    ),
    Item("gsplat", 300, ["gpu_gsplat.py"], ["gpu_gsplat.py"], _gsplat, needs=("torch", "gsplat")),
    Item(
        "truth",
        600,
        ["gpu_truth.py", "--minutes", "4"],
        ["gpu_truth.py", "--config", "configs/quickstart.py", "--minutes", "2", "--points", "1"],
        _truth,
        needs=("grain", "array_record"),
    ),
]
LISTS = {"first": FIRST, "deeper": DEEPER}
