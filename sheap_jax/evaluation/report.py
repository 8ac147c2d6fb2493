"""What an evaluation found, and how it is written: JSON for programs, Markdown and pictures for people."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sheap_jax.evaluation.geometry_scores import cumulative_curve

CURVE_LIMIT = 8.0  # mm, as in the NoW benchmark's plots


class Comparison(NamedTuple):
    """One number of ours beside that of a method that looked at nothing, or at less."""

    quantity: str
    unit: str  # empty for pure numbers
    higher_is_better: bool
    ours: float
    baseline: str  # what the baseline is
    baseline_value: float

    @property
    def ratio(self) -> float:
        """Ours over the baseline's."""
        return self.ours / self.baseline_value if self.baseline_value else float("nan")


class Report(NamedTuple):
    """Everything that an evaluation has to say."""

    benchmark: str
    counts: Mapping[str, int]  # what was evaluated: frames, identities, pairs, scan points ...
    comparisons: Sequence[Comparison]
    curves: Mapping[str, Mapping[str, Float[np.ndarray, "n"]]]  # panel -> method -> pooled errors in mm
    samples: UInt8[np.ndarray, "h w 3"] | None = None  # a grid of pictures


def markdown_table(report: Report) -> str:
    """The comparisons as a Markdown table. The arrow says which direction is better."""
    counts = ", ".join(f"{count:,} {name}" for name, count in report.counts.items())
    lines = [
        f"# {report.benchmark} benchmark",
        "",
        f"{counts}.",
        "",
        "| quantity | ours | baseline | value | ours / baseline |",
        "| --- | ---: | --- | ---: | ---: |",
    ]
    for row in report.comparisons:
        name = f"{row.quantity}{f' [{row.unit}]' if row.unit else ''} {'↑' if row.higher_is_better else '↓'}"
        lines.append(f"| {name} | {row.ours:.3f} | {row.baseline} | {row.baseline_value:.3f} | {row.ratio:.2f} |")
    return "\n".join(lines) + "\n"


def write_report(report: Report, directory: str | Path) -> list[Path]:
    """Write results.json, results.md, cumulative_error.png and samples.png (if there are any); returns their paths."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / "results.json", directory / "results.md", directory / "cumulative_error.png"]
    paths[0].write_text(json.dumps(_as_json(report), indent=2) + "\n")
    paths[1].write_text(markdown_table(report))
    _plot_curves(report, paths[2])
    if report.samples is not None:
        paths.append(directory / "samples.png")
        save_picture(report.samples, paths[-1])
    return paths


def save_picture(picture: UInt8[np.ndarray, "h w 3"], path: str | Path) -> None:
    """Write an RGB picture; the suffix gives the format. Raises OSError if it cannot be written."""
    import cv2

    Path(path).parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1])):
        raise OSError(f"could not write the picture {path}: is the disk full or the suffix unknown?")


def _as_json(report: Report) -> dict:
    rows = [row._asdict() | {"ratio": None if np.isnan(row.ratio) else row.ratio} for row in report.comparisons]
    return {"benchmark": report.benchmark, "counts": dict(report.counts), "comparisons": rows}


def _plot_curves(report: Report, path: Path) -> None:
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
        axis.legend(loc="lower right", title="median")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
