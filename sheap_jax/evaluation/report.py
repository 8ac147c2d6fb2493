"""What an evaluation found, and how it is written: JSON for programs, Markdown and pictures for people."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.evaluation.geometry_scores import cumulative_curve
from sheap_jax.files.pictures import save_picture
from sheap_jax.files.urls import open_path
from sheap_jax.files.whole_file import whole_file

CURVE_LIMIT = 8.0  # mm, as in the NoW benchmark's plots
SHOWN = 20  # missing or doubtful predictions that a table names; the JSON has them all


class Comparison(NamedTuple):
    """One number of ours beside that of a baseline, which sees nothing or less."""

    quantity: str
    unit: str  # empty for pure numbers
    higher_is_better: bool
    ours: float
    baseline: str = ""  # what the baseline is; empty where there is none
    baseline_value: float = math.nan

    @property
    def ratio(self) -> float:
        """Ours over the baseline's."""
        return self.ours / self.baseline_value if self.baseline_value else math.nan


class Measured(NamedTuple):
    """One number of each image, ours and that of a baseline."""

    quantity: str
    unit: str
    higher_is_better: bool
    ours: Float[np.ndarray, "n"]
    baseline: str
    baseline_values: Float[np.ndarray, "n"]

    def comparison(self) -> Comparison:
        """The means over the images."""
        head = (self.quantity, self.unit, self.higher_is_better)
        return Comparison(*head, float(self.ours.mean()), self.baseline, float(self.baseline_values.mean()))


class PerImage(NamedTuple):
    """Numbers of each image (or pair of images) by itself: two runs can be compared image by image."""

    images: Sequence[str]
    people: Sequence[str]  # images of one person are not independent of one another
    values: Mapping[str, Float[np.ndarray, "n"]]  # NaN where an image has no such number


class BenchmarkReport(NamedTuple):
    """Everything that an evaluation has to say."""

    benchmark: str
    version: str  # numbers of different versions must not be compared
    counts: Mapping[str, int]  # what was evaluated: frames, identities, pairs, scan points ...
    comparisons: Sequence[Comparison]
    per_image: Sequence[PerImage] = ()
    curves: Mapping[str, Mapping[str, Float[np.ndarray, "n"]]] = {}  # panel -> method -> pooled errors in mm
    published: Mapping[str, float] = {}  # medians of other methods in mm: marks in the first panel
    missing: Sequence[str] = ()  # what could not be evaluated, and why
    doubtful: Sequence[str] = ()  # what was evaluated although it is probably a mistake, and why
    settings: Mapping[str, Any] = {}  # what the version stands for, as JSON values
    main_rows: Sequence[tuple[str, str]] = ()  # (quantity, baseline) of what a terminal shows; empty: of all
    samples: UInt8[np.ndarray, "h w 3"] | None = None  # a grid of pictures
    submission: Path | None = None  # file or folder that was written for others to score


def markdown_table(report: BenchmarkReport) -> str:
    """The comparisons as a Markdown table. The arrow says which direction is better."""
    counts = ", ".join(f"{count:,} {name}" for name, count in report.counts.items())
    lines = [
        f"# {report.benchmark} benchmark ({report.version})",
        "",
        f"{counts}.",
    ]
    if report.comparisons:
        head = "| quantity | ours | baseline | value | ours / baseline |"
        lines += ["", head, "| --- | ---: | --- | ---: | ---: |"]
    for row in report.comparisons:
        name = f"{row.quantity}{f' [{row.unit}]' if row.unit else ''} {'↑' if row.higher_is_better else '↓'}"
        rest = f"{row.baseline} | {row.baseline_value:.3f} | {row.ratio:.2f}" if row.baseline else " | | "
        lines.append(f"| {name} | {row.ours:.3f} | {rest} |")
    lines += _listed(f"{len(report.missing)} missing, not in any number above", report.missing)
    lines += _listed(f"{len(report.doubtful)} doubtful, in the numbers above", report.doubtful)
    return "\n".join(lines) + "\n"


def short_table(report: BenchmarkReport) -> str:
    """`markdown_table` with the report's main rows alone, and how many there are besides."""
    main = [row for row in report.comparisons if (row.quantity, row.baseline) in report.main_rows]
    if not main:
        return markdown_table(report)
    rest = len(report.comparisons) - len(main)
    return markdown_table(report._replace(comparisons=main)) + f"\nRows that results.md has besides: {rest}.\n"


def _listed(title: str, entries: Sequence[str]) -> list[str]:
    """A title and the first entries below it; nothing where there are none."""
    if not entries:
        return []
    more = [f"- and {len(entries) - SHOWN} more, in results.json"] if len(entries) > SHOWN else []
    return ["", f"**{title}:**", "", *(f"- {entry}" for entry in entries[:SHOWN]), *more]


def write_reports(reports: Sequence[BenchmarkReport], directory: str | Path) -> list[Path]:
    """Write one results.json and results.md, and each report's error curves and samples.

    Returns their paths, and those of the submissions that were written before.
    """
    directory = open_path(directory)
    texts = {
        directory / "results.json": json.dumps({"reports": [_as_json(report) for report in reports]}, indent=1) + "\n",
        directory / "results.md": "\n".join(markdown_table(report) for report in reports),
    }
    for path, text in texts.items():
        with whole_file(path) as temporary:
            temporary.write_text(text)
    paths = list(texts)
    for report in reports:
        if report.curves:
            paths.append(directory / f"{report.benchmark}_cumulative_error.png")
            _plot_curves(report, paths[-1])
        if report.samples is not None:
            paths.append(directory / f"{report.benchmark}_samples.png")
            save_picture(report.samples, paths[-1])
        if report.submission is not None:
            paths.append(report.submission)
    return paths


def _as_json(report: BenchmarkReport) -> dict[str, Any]:
    rows = [row._asdict() | {"ratio": row.ratio} for row in report.comparisons]
    rows = [{name: _finite(value) for name, value in row.items()} for row in rows]
    return {
        "benchmark": report.benchmark,
        "version": report.version,
        "settings": dict(report.settings),
        "counts": dict(report.counts),
        "comparisons": rows,
        "missing": list(report.missing),
        "doubtful": list(report.doubtful),
        "per_image": [_per_image_as_json(one) for one in report.per_image],
    }


def _per_image_as_json(per_image: PerImage) -> dict[str, Any]:
    numbers = {name: [_finite(round(float(v), 6)) for v in column] for name, column in per_image.values.items()}
    return {"images": list(per_image.images), "people": list(per_image.people), "values": numbers}


def _finite(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plot_curves(report: BenchmarkReport, path: Path) -> None:
    """Share of scan points below each error, one panel for each kind of geometry."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(report.curves), figsize=(5 * len(report.curves), 4), squeeze=False)
    thresholds = np.linspace(0.0, CURVE_LIMIT, 401)
    for axis, (panel, methods) in zip(axes[0], report.curves.items(), strict=True):
        for name, errors in methods.items():
            axis.plot(thresholds, cumulative_curve(errors, thresholds), label=f"{name} ({np.median(errors):.2f} mm)")
        axis.set(title=panel, xlabel="scan-to-mesh error [mm]", ylabel="scan points [%]")
        axis.set(xlim=(0, CURVE_LIMIT), ylim=(0, 100))
        axis.grid(alpha=0.3)
    for place, (name, median) in enumerate(report.published.items()):
        # A median is where a curve crosses one half.
        axes[0, 0].plot(
            median, 50, "^" if place % 2 else "v", markersize=5, label=f"{name} ({median:.2f} mm), published"
        )
    for axis in axes[0]:
        axis.legend(loc="lower right", title="median", fontsize="x-small" if report.published else None)
    figure.tight_layout()
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=110)
    pyplot.close(figure)
