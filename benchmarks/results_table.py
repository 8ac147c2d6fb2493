"""README's table of results, from the JSON files that `sheap eval` wrote.

    python benchmarks/results_table.py                    # print it
    python benchmarks/results_table.py --write README.md  # put it between the markers

The files are results.json of `sheap eval --checkpoint DIR` (the embedded benchmark, version embedded-v1), kept as
benchmarks/results/<run>_embedded-v1.json with a line on how they were measured. The last row is of share.json,
which `benchmarks/supervised_share.py` wrote, kept as benchmarks/results/supervised_share_<run>.json where it was
measured.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any, NamedTuple

START, END = "<!-- results table: start -->", "<!-- results table: end -->"
VERSION = "embedded-v1"
RESULTS = Path(__file__).parent / "results"
RUNS = ("quickstart", "small", "pretrained")
SHARED = "neutral heads, similarity, median"  # the quantity of the last row


class Row(NamedTuple):
    """One line of the table."""

    quantity: str  # as in the JSON
    baseline: str
    digits: int = 2


ROWS = (
    Row("neutral heads, similarity, median", "mean head"),
    Row("neutral heads, rigid, median", "mean head"),
    Row("expressive heads, similarity, median", "mean head"),
    Row("where expressions move the face, similarity, median", "predicted head without expression"),
    Row("landmarks", "mean head"),
    Row("re-animation, face, PSNR", "source image", 1),
)


def table(directory: Path = RESULTS) -> str:
    """Markdown: a column for each run, ours with the ratio to the baseline in brackets, and the baselines.

    Raises FileNotFoundError or ValueError if a result is missing or of another version.
    """
    reports = {run: load_report(directory / f"{run}_{VERSION}.json") for run in RUNS}
    lines = [f"| {VERSION} | " + " | ".join(f"`{run}`" for run in RUNS) + " | baseline |"]
    lines.append("| --- |" + " ---: |" * len(RUNS) + " --- |")
    for row in ROWS:
        found = [find(report, row) for report in reports.values()]
        cells = [f"{one['ours']:.{row.digits}f} {one['unit']} ({one['ratio']:.2f})" for one in found]
        values = {f"{one['baseline_value']:.{row.digits}f} {one['unit']}" for one in found}
        # A baseline made of the run's own predictions has another value for each run.
        baseline = row.baseline + (f", {values.pop()}" if len(values) == 1 else "")
        lines.append(f"| {row.quantity} | " + " | ".join(cells) + f" | {baseline} |")
    shares = [share(directory / f"supervised_share_{run}.json") for run in RUNS]
    lines.append(f"| share of the supervised gain, {SHARED} | " + " | ".join(shares) + " | told the true shapes, 1 |")
    return "\n".join(lines) + "\n"


def share(path: Path) -> str:
    """How much of the supervised gain a run has without truth: mean, and spread over seeds. "" if not measured."""
    if not path.exists():
        return ""
    values = json.loads(path.read_text())["values"][SHARED]["share"]
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.2f}{spread}"


def load_report(path: Path) -> dict[str, Any]:
    """The embedded report of a file. Raises FileNotFoundError or ValueError."""
    for report in json.loads(path.read_text())["reports"]:
        if report["version"] == VERSION:
            return report
    raise ValueError(f"{path} holds no report of {VERSION}: run `sheap eval` again")


def find(report: dict[str, Any], row: Row) -> dict[str, Any]:
    """The comparison that a row shows. Raises ValueError if there is none."""
    for comparison in report["comparisons"]:
        if (comparison["quantity"], comparison["baseline"]) == (row.quantity, row.baseline):
            return comparison
    raise ValueError(f"the report lacks {row.quantity!r} beside {row.baseline!r}")


def shown(text: str) -> str | None:
    """What a document has between the markers; None without both."""
    if START not in text or END not in text:
        return None
    return text.split(START)[1].split(END)[0].strip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", metavar="FILE", type=Path, help="replace what is between the markers of this file")
    options = parser.parse_args()
    if options.write is None:
        print(table(), end="")
        return
    text = options.write.read_text()
    if shown(text) is None:
        sys.exit(f"{options.write} lacks the lines {START} and {END}")
    before, rest = text.split(START)
    options.write.write_text(f"{before}{START}\n{table()}{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
