"""Videos or photographs to shards.

    sheap prepare VIDEOS --face-landmarker face_landmarker.task --output assets/clips
    sheap prepare VOX2/dev/mp4 --layout voxceleb2 --max-frames 16 --landmarks LANDMARKS.npz --output assets/voxceleb2

The same command goes on after a stop. docs/data.md says what a layout is, and what is left out and why.
"""

import argparse
import contextlib
import io
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from sheap_jax import command_line
from sheap_jax.data.prepare.clip_result import ClipConversion, Settings, load_status
from sheap_jax.data.prepare.clips import Clip, PrepareError, find_clips
from sheap_jax.data.prepare.engines import convert_here, convert_with_beam
from sheap_jax.data.prepare.landmarks import FaceLandmarker, LandmarkSource, NpzLandmarks
from sheap_jax.data.prepare.layouts import LAYOUTS, Layout
from sheap_jax.data.prepare.pack import HOLD_OUT_RULES, HoldOut, PreparationReport, check_kept, pack, summary
from sheap_jax.data.prepare.quality import Quality
from sheap_jax.files.one_writer import one_writer
from sheap_jax.files.places import check_writable

ERRORS = (OSError, ValueError, RuntimeError, PrepareError)
LOCAL = "local"


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, prepare, report. Exits with 1 only if nothing was written."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    parser = _parser()
    options, for_beam = parser.parse_known_args(arguments)
    if for_beam and options.runner == LOCAL:
        parser.error(f"unknown options {' '.join(for_beam)} (a Beam runner's own options need --runner)")
    report = _prepare(options, for_beam)
    print(summary(report))
    if not any(report.written.values()):
        parser.exit(1, "error: nothing was written\n")


def _prepare(options: argparse.Namespace, for_beam: Sequence[str]) -> PreparationReport:
    quality = Quality(options.min_face, options.min_sharpness, options.max_jump)
    found = find_clips(options.inputs, Layout(options.layout))
    check_writable(options.output)
    with contextlib.ExitStack() as stack:
        source = _landmark_source(options, stack)
        options.output.mkdir(parents=True, exist_ok=True)
        stack.enter_context(one_writer(options.output, way_out="choose another --output"))
        if not options.replace:
            check_kept(found, options.output)
        conversion = ClipConversion(
            source=source,
            settings=Settings(options.image_size, options.stride, options.max_frames, quality),
            folder=(options.output / "parts").absolute(),
            time_limit=options.time_limit,
        )
        left = [clip for clip in found.clips if _is_left(clip, conversion, retry_failed=options.retry_failed)]
        if not left:
            print(f"nothing to do: all {len(found.clips)} clips were converted before")
        elif options.runner != LOCAL:
            convert_with_beam(left, conversion, runner=options.runner, options=for_beam)
        else:
            _convert_with_progress(left, conversion, total=len(found.clips), processes=options.processes)
        hold_out = HoldOut(options.test_share, options.hold_out)
        provenance = {"inputs": [str(path) for path in options.inputs], "layout": options.layout}
        return pack(found, conversion, options.output, hold_out=hold_out, provenance=provenance)


def _is_left(clip: Clip, conversion: ClipConversion, *, retry_failed: bool) -> bool:
    status = load_status(clip, conversion)
    return status is None or (retry_failed and status.reason is not None)


def _convert_with_progress(
    clips: Sequence[Clip], conversion: ClipConversion, *, total: int, processes: int | None
) -> None:
    records = failed = 0
    with tqdm(total=total, initial=total - len(clips), desc="preparing", unit="clip") as bar:
        for clip, status in convert_here(clips, conversion, processes=processes):
            records, failed = records + status.records, failed + (status.reason is not None)
            bar.set_postfix(records=records, failed=failed, refresh=False)
            bar.update()
            if status.reason is not None:
                bar.write(f"failed: {clip.path}: {status.reason}")


def _landmark_source(options: argparse.Namespace, stack: contextlib.ExitStack) -> LandmarkSource:
    if options.landmarks is not None:
        return NpzLandmarks(options.landmarks, min_confidence=options.min_confidence)
    landmarker = FaceLandmarker(options.face_landmarker, min_confidence=options.min_confidence)
    return stack.enter_context(contextlib.closing(landmarker))


def _parser() -> argparse.ArgumentParser:
    settings, quality, hold_out = Settings(), Quality(), HoldOut()
    parser = command_line.make_parser("prepare", __doc__)
    add = parser.add_argument
    add("inputs", nargs="+", type=Path, metavar="INPUT", help="video, image, or folder of them")
    add("--output", required=True, type=Path, metavar="DIR", help="directory of the shards")
    add(
        "--layout",
        default="video",
        metavar="LAYOUT",
        help=f"whose face a file shows: {', '.join(LAYOUTS)}, or a path template",
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--landmarks", type=Path, metavar="FILE.npz", help="68 landmarks per frame, made before")
    source.add_argument("--face-landmarker", type=Path, metavar="MODEL.task", help="MediaPipe model; needs mediapipe")
    add(
        "--image-size",
        type=_positive,
        default=settings.image_size,
        metavar="PIXELS",
        help="side of the crops in pixels",
    )
    add("--stride", type=_positive, default=settings.stride, metavar="N", help="use every N-th frame")
    add(
        "--max-frames",
        type=_whole,
        default=settings.max_frames,
        metavar="N",
        help="frames of a clip, spread over it; 0: no limit",
    )
    add("--min-face", type=float, default=quality.min_face, metavar="PIXELS", help="least side of the landmarks' box")
    add(
        "--min-sharpness",
        type=float,
        default=quality.min_sharpness,
        metavar="X",
        help="least variance of the face's Laplacian",
    )
    add("--min-confidence", type=_share, default=0.5, metavar="SHARE", help="least score of the detection")
    add(
        "--max-jump",
        type=float,
        default=quality.max_jump,
        metavar="X",
        help="most movement between used frames, in sides of the box",
    )
    add("--test-share", type=_share, default=hold_out.share, metavar="SHARE", help="share held out as split test")
    add("--hold-out", choices=HOLD_OUT_RULES, default=hold_out.rule, help="hold out people, or the end of each clip")
    add("--processes", type=_whole, metavar="N", help="worker processes; 0: none but this one (default: one per core)")
    add("--time-limit", type=float, default=600.0, metavar="S", help="most seconds for one clip")
    add("--retry-failed", action="store_true", help="try the clips that failed before once more")
    add("--replace", action="store_true", help="leave out clips of the output that are not among the inputs")
    add("--runner", default=LOCAL, metavar="RUNNER", help="local, or a Beam runner; further options go to Beam")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _whole(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return value


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
