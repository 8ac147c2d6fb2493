"""Score a folder of predicted meshes, from any method, on the NoW benchmark.

    sheap now PRED_DIR NOW_DIR --unit mm

PRED_DIR holds <subject>/<challenge>/<image>.obj (or .ply), with neutral expression and pose, and beside each mesh its
seven landmarks as .npy [7, 3] or .txt. Without --unit only the size-free error is measured.
"""

import functools
import sys
from pathlib import Path

from tqdm import tqdm

from sheap_jax import command_line
from sheap_jax.evaluation.now.layout import NowFolder
from sheap_jax.evaluation.now.score import now_report, score_predictions
from sheap_jax.evaluation.report import markdown_table, write_reports
from sheap_jax.evaluation.scans import STEERING_POINTS
from sheap_jax.files.places import check_writable

ERRORS = (OSError, ValueError)
METRES = {"m": 1.0, "cm": 0.01, "mm": 0.001}


def main(arguments: list[str]) -> None:
    parser = command_line.make_parser("now", __doc__)
    parser.add_argument("predictions", metavar="PRED_DIR", help="predicted meshes and landmarks")
    parser.add_argument("now", metavar="NOW_DIR", help="the official folder of the benchmark")
    parser.add_argument("--unit", choices=sorted(METRES), help="of the meshes: also measure the metrical variant")
    parser.add_argument("--allow-missing", action="store_true", help="list images without prediction, score the rest")
    parser.add_argument(
        "--all-points", action="store_true", help="let all points of a scan steer its alignment: six times as long"
    )
    parser.add_argument("--output", metavar="DIR", help="where the report goes (default: PRED_DIR/evaluation)")
    options = parser.parse_args(arguments)
    output = Path(options.output or Path(options.predictions) / "evaluation")
    check_writable(output)
    found = score_predictions(
        NowFolder(options.now),
        options.predictions,
        unit=METRES.get(options.unit),
        allow_missing=options.allow_missing,
        steering=None if options.all_points else STEERING_POINTS,
        progress=functools.partial(tqdm, desc="scan-to-mesh errors", unit="mesh", leave=False),
    )
    report = now_report(found)
    files = write_reports([report], output)
    print(markdown_table(report))
    print("written:", *files, sep="\n  ")


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
