"""Runs on real clips side by side: the table of docs/results.md, and the numbers behind it without any picture or name.

    sheap eval --checkpoint runs/clip --benchmark clips      # for each run
    python benchmarks/clips_table.py "all landmarks=runs/clip" "mouth left out=runs/clip_mouth" \
        --output benchmarks/results/clips.json
    python benchmarks/clips_table.py --from benchmarks/results/clips.json         # prints the table of a file
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Quantity in the report -> digits in the table, and the baseline that is shown where it is the same for every run.
ROWS = {
    "landmarks, eyes, nose and mouth": (2, "mean head"),
    "landmarks, eyes": (2, "mean head"),
    "landmarks, nose": (2, "mean head"),
    "landmarks, mouth": (2, "mean head"),
    "landmarks, opening of the mouth": (2, "mean head"),
    "re-animation, face, PSNR": (1, "source image"),
    "re-animation, face, SSIM": (2, "source image"),
}


def collect(runs: Mapping[str, Path]) -> dict[str, Any]:
    """The numbers of each run's evaluation and what they were measured on.

    Raises:
        FileNotFoundError: a run has not been evaluated.
        ValueError: a run's evaluation has no report of the benchmark, or one of another version.
    """
    reports = {name: _report(directory / "evaluation" / "results.json") for name, directory in runs.items()}
    versions = {report["version"] for report in reports.values()}
    if len(versions) != 1:
        raise ValueError(f"the runs were measured on different frames: {', '.join(sorted(versions))}")
    counts = next(iter(reports.values()))["counts"]
    fields = ("quantity", "unit", "ours", "baseline", "baseline_value")
    return {
        "version": versions.pop(),
        "counts": counts,
        "runs": {
            name: [{field: row[field] for field in fields} for row in report["comparisons"]]
            for name, report in reports.items()
        },
    }


def table(results: Mapping[str, Any]) -> str:
    """Markdown: a column for each run, and the baseline."""
    runs = results["runs"]
    lines = ["| held-out frames | " + " | ".join(runs) + " | baseline |", "| --- |" + " ---: |" * len(runs) + " --- |"]
    for quantity, (digits, baseline) in ROWS.items():
        found = [_find(rows, quantity, baseline) for rows in runs.values()]
        cells = [f"{row['ours']:.{digits}f}" for row in found]
        unit = f" [{found[0]['unit']}]" if found[0]["unit"] else ""
        shown = f"{baseline}, {found[0]['baseline_value']:.{digits}f}"
        lines.append(f"| {quantity}{unit} | " + " | ".join(cells) + f" | {shown} |")
    return "\n".join(lines) + "\n"


def _report(path: Path) -> dict[str, Any]:
    for report in json.loads(path.read_text())["reports"]:
        if report["benchmark"] == "clips":
            return report
    raise ValueError(f"{path} has no report of the benchmark clips: run `sheap eval --benchmark clips`")


def _find(rows: list[dict[str, Any]], quantity: str, baseline: str) -> dict[str, Any]:
    for row in rows:
        if (row["quantity"], row["baseline"]) == (quantity, baseline):
            return row
    raise ValueError(f"no number for {quantity!r} beside {baseline!r}: evaluate the run again")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="NAME=DIR", help="name in the table, and directory of the run")
    parser.add_argument("--from", dest="stored", type=Path, metavar="JSON", help="numbers collected before")
    parser.add_argument("--output", type=Path, metavar="JSON", help="where the numbers go")
    options = parser.parse_args()
    if bool(options.runs) == bool(options.stored):
        parser.error("name either runs or --from a file")
    try:
        if options.stored:
            results = json.loads(options.stored.read_text())
        else:
            results = collect({name: Path(place) for name, _, place in (run.rpartition("=") for run in options.runs)})
        print(table(results))
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    if options.output:
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
