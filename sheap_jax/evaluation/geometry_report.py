"""Scan-to-mesh errors as the rows, curves and values per image of a report.

Everything is a table of tables of lists: kind of geometry -> method -> errors of each image. The first method is the
one under test, the others are its baselines.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from sheap_jax.evaluation.geometry_scores import ScanErrors, pool, statistics
from sheap_jax.evaluation.report import Comparison

GeometryErrors = Mapping[str, Mapping[str, Sequence[ScanErrors]]]


def geometry_comparisons(errors: GeometryErrors) -> list[Comparison]:
    """Median, mean and standard deviation of the pooled errors, by kind, alignment and baseline."""
    rows = []
    for kind, methods in errors.items():
        pooled = {name: pool(values)._asdict() for name, values in methods.items()}
        for alignment in ScanErrors._fields:
            measured = [(name, statistics(of[alignment])) for name, of in pooled.items() if len(of[alignment])]
            if not measured:
                continue
            (_, ours), *baselines = measured
            for name, baseline in baselines or [("", None)]:
                rows += [
                    Comparison(
                        f"{kind}, {alignment}, {field}",
                        "mm",
                        False,
                        value,
                        name,
                        getattr(baseline, field) if baseline else float("nan"),
                    )
                    for field, value in ours._asdict().items()
                ]
    return rows


def geometry_curves(errors: GeometryErrors) -> dict[str, dict[str, Float[np.ndarray, "n"]]]:
    """The pooled errors after similarity alignment, a panel for each kind."""
    return {
        f"{kind}, similarity": {name: pool(values).similarity for name, values in methods.items()}
        for kind, methods in errors.items()
    }


def values_per_image(errors: Mapping[str, Sequence[ScanErrors]]) -> dict[str, Float[np.ndarray, "n"]]:
    """Median and mean of each image by itself, for paired comparisons; NaN where an image has no scan point.

    `errors` are those of one method, by kind; all kinds have the same images.
    """
    values = {}
    for kind, images in errors.items():
        for alignment in ScanErrors._fields:
            single = [getattr(one, alignment) for one in images]
            if any(len(one) for one in single):
                for field, measure in (("median", np.median), ("mean", np.mean)):
                    numbers = [float(measure(one)) if len(one) else np.nan for one in single]
                    values[f"{kind}, {alignment}, {field}"] = np.array(numbers)
    return values
