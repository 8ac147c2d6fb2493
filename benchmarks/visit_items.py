"""The items of benchmarks/gpu_visit.py: what they run, for how long, and which of their figures matter most."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

Result = dict[str, Any]


class Item(NamedTuple):
    """One process of a visit. In commands {work} is a folder for its files."""

    name: str
    seconds: float  # limit from its turn on; of one that runs beside the others, and at most half of the visit
    command: list[str]  # script of benchmarks/ and its arguments; --output FILE is added
    toy: list[str]
    headline: Callable[[Result], str]
    when: Literal["beside", "turn", "alone"] = "turn"
    needs: tuple[str, ...] = ()  # packages


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


KERNELS = ["pallas_gpu_triton", "pallas_gpu_mosaic"]
RASTERISER = [
    "rasteriser.py", "--surfels", "40000", "20000", "--pixels", "224", "--batch", "32", "1",
    "--implementations", *KERNELS, "--stages", "32", "--profile",
]  # fmt: skip
PROFILE = ["gpu_step.py", "--without-graphs", "--batch", "32", "--rasterizers", KERNELS[0], "--steps", "3"]
STEP = ["gpu_step.py", "--batch", "64", "32", "--rasterizers", KERNELS[0]]
LEARNING = ["gpu_learning.py", "--work", "{work}/learning", "--set", "data.embedded.processes=8"]
PREDICTION = ["gpu_predict.py", "--batch", "1", "64", "--mode", "reduce-overhead"]

TOY_SHELL = ["--surfels", "300", "--pixels", "48", "--batch", "1"]
TOY_STEP = ["gpu_step.py", "--config", "configs/quickstart.py", "--batch", "2", "--rasterizers", "xla"]
TOY_LEARNING = [
    "gpu_learning.py", "--work", "{work}/learning", "--batch", "4", "--steps", "102", "--geometry-steps", "100",
    "--set", "data.embedded.train_identities=6", "--set", "data.embedded.test_identities=3",
]  # fmt: skip

# beside: runs while the others prepare, as it times nothing. turn: prepares from the start on, and its script calls
# timing.wait_for_turn. alone: is started at its turn.
FIRST = [
    Item(
        "kernels",
        240,
        ["gpu_kernels.py"],
        ["gpu_kernels.py", *TOY_SHELL, "--runs", "2", "--implementations", "xla"],
        _kernels,
        "beside",
    ),
    Item("rasteriser", 90, RASTERISER, ["rasteriser.py", *TOY_SHELL, "--implementations", "xla"], _rasteriser),
    Item("step", 60, STEP, [*TOY_STEP, "--steps", "2"], _step),
    Item("profile", 40, PROFILE, [*TOY_STEP, "--steps", "2", "--without-graphs"], _step),
    Item("prediction", 30, PREDICTION, ["gpu_predict.py", "--batch", "1", "--calls", "2"], _prediction),
    Item("ceilings", 30, ["ceilings.py"], ["ceilings.py"], _ceilings),
    Item("learning", 600, LEARNING, TOY_LEARNING, _learning),
]
DEEPER = [
    Item("tuning", 60, ["gpu_tuning.py"], ["gpu_tuning.py", *TOY_SHELL, "--interpret"], _tuning),
    Item(
        "reproducible",
        200,
        ["gpu_reproducible.py", "--batch", "32", "--steps", "200"],
        ["gpu_reproducible.py", "--config", "configs/quickstart.py", "--batch", "2", "--steps", "3"],
        _reproducible,
        "alone",
    ),
    Item("gsplat", 300, ["gpu_gsplat.py"], ["gpu_gsplat.py"], _gsplat, "alone", needs=("torch", "gsplat")),
    Item(
        "truth",
        600,
        ["gpu_truth.py", "--minutes", "4"],
        ["gpu_truth.py", "--config", "configs/quickstart.py", "--minutes", "2", "--points", "1"],
        _truth,
        "alone",
        needs=("grain", "array_record"),
    ),
]
LISTS = {"first": FIRST, "deeper": DEEPER}
