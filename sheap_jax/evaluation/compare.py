"""Two evaluations side by side, with paired bootstrap confidence intervals.

An image is easy or hard for both runs alike, so the difference is taken image by image. Images of one person are not
independent, so the bootstrap draws people, with all of their images.
"""

import os
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from sheap_jax.files.json_files import read_json
from sheap_jax.files.urls import open_path

RESAMPLES = 4000
COVERAGE = 0.95
FEWEST_PEOPLE = 2  # with one, there is nothing to draw


class Interval(NamedTuple):
    """The mean difference over images (second run minus first) and its confidence interval."""

    difference: float
    low: float
    high: float
    images: int
    people: int


class PairedValues(NamedTuple):
    """What two runs have of the same images."""

    first: Float[np.ndarray, "n"]
    second: Float[np.ndarray, "n"]
    people: np.ndarray  # whose image it is, names


class CompareError(ValueError):
    """The two files cannot be compared; the message says why."""


def paired_bootstrap(
    first: Float[np.ndarray, "n"],
    second: Float[np.ndarray, "n"],
    people: np.ndarray,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval | None:
    """Percentile interval of mean(second - first) over resampled people (Efron and Tibshirani 1993, chapter 13).

    Images where one of the two has no number (NaN) are left out; None if fewer than two people remain.
    """
    difference = np.asarray(second, np.float64) - first
    known = np.isfinite(difference)
    difference = difference[known]
    names, person = np.unique(np.asarray(people)[known], return_inverse=True)
    if len(names) < FEWEST_PEOPLE:
        return None
    sums, counts = np.bincount(person, difference), np.bincount(person)
    weights = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), resamples)
    means = (weights @ sums) / (weights @ counts)
    tail = (1 - COVERAGE) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(difference.mean()), float(low), float(high), int(known.sum()), len(names))


def compare_files(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> str:
    """Markdown tables of all benchmarks that two results.json files share.

    Raises FileNotFoundError; CompareError if a file is damaged, they share no benchmark, or their versions differ.
    """
    names, (ours, theirs) = _names(open_path(first), open_path(second)), (load_results(first), load_results(second))
    shared = [benchmark for benchmark in ours if benchmark in theirs]
    if not shared:
        raise CompareError(f"{first} holds {sorted(ours)}, {second} holds {sorted(theirs)}: no benchmark is in both")
    return "\n".join(compare_reports(ours[benchmark], theirs[benchmark], names=names) for benchmark in shared)


def load_results(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """The reports of a results.json, by benchmark. Raises FileNotFoundError or CompareError."""
    try:
        reports = read_json(path)["reports"]
        return {report["benchmark"]: report for report in reports}
    except (KeyError, TypeError, ValueError) as error:
        raise CompareError(
            f"{path} is no results.json that `sheap eval` wrote: give RUN/evaluation/results.json"
        ) from error


def compare_reports(first: dict[str, Any], second: dict[str, Any], *, names: tuple[str, str]) -> str:
    """One Markdown table. Raises CompareError if the versions differ."""
    if first["version"] != second["version"]:
        raise CompareError(
            f"{names[0]} was measured on {first['version']}, {names[1]} on {second['version']}: their numbers mean "
            "different things. Run sheap eval again on the same version of the data."
        )
    others = {row["quantity"]: row for row in second["comparisons"]}
    intervals = {quantity: paired_bootstrap(*pair) for quantity, pair in paired_values(first, second).items()}
    lines = [
        f"# {first['benchmark']} ({first['version']}): {names[0]} and {names[1]}",
        "",
        f"| quantity | {names[0]} | {names[1]} | mean difference per image, {COVERAGE:.0%} interval | |",
        "| --- | ---: | ---: | ---: | --- |",
    ]
    seen = set()
    for row in first["comparisons"]:
        if row["quantity"] in seen or row["quantity"] not in others:
            continue
        seen.add(row["quantity"])
        name = row["quantity"] + (f" [{row['unit']}]" if row["unit"] else "")
        numbers = f"{_number(row['ours'])} | {_number(others[row['quantity']]['ours'])}"
        lines.append(f"| {name} | {numbers} | {_verdict(intervals.get(row['quantity']), row)} |")
    for label, missing in zip(names, (first["missing"], second["missing"]), strict=True):
        if missing:
            lines += ["", f"{label} lacks {len(missing)} images; differences are over the images of both."]
    return "\n".join(lines) + "\n"


def paired_values(first: dict[str, Any], second: dict[str, Any]) -> dict[str, PairedValues]:
    """The values of two reports on their common images, by quantity."""
    found = {}
    for ours, theirs in zip(first["per_image"], second["per_image"], strict=True):
        places = {image: place for place, image in enumerate(theirs["images"])}
        mine = [place for place, image in enumerate(ours["images"]) if image in places]
        others = [places[ours["images"][place]] for place in mine]
        people = np.array(ours["people"])[mine]
        for quantity in ours["values"].keys() & theirs["values"].keys():
            values = np.array(ours["values"][quantity], float)[mine]
            found[quantity] = PairedValues(values, np.array(theirs["values"][quantity], float)[others], people)
    return found


def _verdict(interval: Interval | None, row: dict[str, Any]) -> str:
    if interval is None:
        return " | "
    text = f"{interval.difference:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
    if interval.low <= 0 <= interval.high:
        return f"{text} | no clear difference"
    return f"{text} | {'better' if (interval.low > 0) == row['higher_is_better'] else 'worse'}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Short names that differ: runs/a/evaluation/results.json is `a`."""
    short = [path.parent.parent.name if path.parent.name == "evaluation" else path.stem for path in (first, second)]
    return (short[0], short[1]) if short[0] != short[1] and all(short) else (str(first), str(second))
