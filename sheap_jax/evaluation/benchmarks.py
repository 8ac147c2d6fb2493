"""Every benchmark under one signature, for `sheap eval`."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from sheap_jax.evaluation.affectnet import evaluate_affectnet
from sheap_jax.evaluation.clips import HOW_TO_HOLD_OUT, evaluate_clips
from sheap_jax.evaluation.embedded import evaluate_embedded
from sheap_jax.evaluation.embedded_set import ensure_test_people
from sheap_jax.evaluation.expressive import evaluate_expressive
from sheap_jax.evaluation.faces import evaluate_faces
from sheap_jax.evaluation.nersemble import nersemble_report
from sheap_jax.evaluation.now import evaluate_now
from sheap_jax.evaluation.predictions import NetworkUnderTest
from sheap_jax.evaluation.report import BenchmarkReport


class Task(NamedTuple):
    """What to evaluate on, and how."""

    data: Path | None  # None: the benchmark's own. embedded has some; clips takes those of the run
    output: Path  # the report's directory; submissions go below it
    image_size: int  # pixels of the square images that the network takes
    allow_missing: bool = False
    progress: Callable[[Iterable], Iterable] = iter
    trained_on: Path | None = None  # the shards of the run; None: generated heads


RENDERED = ("embedded", "clips")  # benchmarks that score pictures too
SUBMITTED = ("now", "nersemble")  # benchmarks that write files for others to score, to disks alone


def run_benchmark(name: str, predictor: NetworkUnderTest, task: Task) -> BenchmarkReport:
    """Run one of BENCHMARKS. Raises what `check_benchmark` raises, then what the benchmark does."""
    check_benchmark(name, task.data)
    return BENCHMARKS[name](predictor, task)


def check_benchmark(name: str, data: Path | None) -> None:
    """Check at no cost that a benchmark can start.

    Raises ValueError for an unknown one, or one that needs `data`; FileNotFoundError if these are not there.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"there is no benchmark {name!r}; choose from {', '.join(BENCHMARKS)}")
    if data is None and name not in ("embedded", "clips"):
        raise ValueError(f"the benchmark {name} needs its data: pass --data {name}=PATH")
    if data is not None and not data.exists():
        raise FileNotFoundError(f"--data {name}={data}: there is no such file or folder")


def _embedded(predictor: NetworkUnderTest, task: Task) -> BenchmarkReport:
    return evaluate_embedded(
        predictor, task.data or ensure_test_people(), image_size=task.image_size, progress=task.progress
    )


def _clips(predictor: NetworkUnderTest, task: Task) -> BenchmarkReport:
    directory = task.data or task.trained_on
    if directory is None:
        raise ValueError(
            "the run was trained on generated heads, the benchmark clips needs frames held out of real clips: "
            f"{HOW_TO_HOLD_OUT} and pass --data clips=PATH"
        )
    return evaluate_clips(predictor, directory, image_size=task.image_size)


def _faces(predictor: NetworkUnderTest, task: Task) -> BenchmarkReport:
    return evaluate_faces(predictor, _data(task), image_size=task.image_size, progress=task.progress)


def _now(predictor: NetworkUnderTest, task: Task) -> BenchmarkReport:
    return evaluate_now(
        predictor,
        _data(task),
        image_size=task.image_size,
        output=task.output / "now_submission",
        allow_missing=task.allow_missing,
        progress=task.progress,
    )


def _expressive(predictor: NetworkUnderTest, task: Task) -> BenchmarkReport:
    return evaluate_expressive(
        predictor,
        _data(task),
        image_size=task.image_size,
        allow_missing=task.allow_missing,
        progress=task.progress,
    )


def _affectnet(predictor: NetworkUnderTest, task: Task) -> BenchmarkReport:
    return evaluate_affectnet(predictor, _data(task), image_size=task.image_size, progress=task.progress)


def _nersemble(predictor: NetworkUnderTest, task: Task) -> BenchmarkReport:
    archive = task.output / "nersemble_submission.zip"
    return nersemble_report(predictor, _data(task), archive, image_size=task.image_size, progress=task.progress)


def _data(task: Task) -> Path:
    assert task.data is not None, "run_benchmark checks this"
    return task.data


BENCHMARKS: dict[str, Callable[[NetworkUnderTest, Task], BenchmarkReport]] = {
    "embedded": _embedded,
    "clips": _clips,
    "faces": _faces,
    "now": _now,
    "expressive": _expressive,
    "nersemble": _nersemble,
    "affectnet": _affectnet,
}
