"""Command line: `python -m sheap_jax.data.prepare INPUT... --output DIR --landmarks FILE.npz`."""

import argparse
import contextlib
from pathlib import Path

from sheap_jax.data.prepare.clips import IDENTITY_RULES, find_clips
from sheap_jax.data.prepare.landmarks import FaceLandmarker, LandmarkSource, NpzLandmarks
from sheap_jax.data.prepare.run import HOLD_OUT_RULES, Settings, prepare, summary


def main(arguments: list[str] | None = None) -> None:
    """Parse, prepare, report. Exits with 1 only if nothing was written."""
    parser = _parser()
    options = parser.parse_args(arguments)
    settings = Settings(
        image_size=options.image_size,
        stride=options.stride,
        identity_from=options.identity_from,
        test_share=options.test_share,
        hold_out=options.hold_out,
    )
    try:
        clips = find_clips(options.inputs, identity_from=settings.identity_from)
        with contextlib.ExitStack() as stack:
            report = prepare(clips, _landmark_source(options, stack), options.output, settings=settings)
    except (OSError, ValueError, RuntimeError) as error:
        parser.exit(1, f"error: {error}\n")
    print(summary(report))
    if not any(report.written.values()):
        parser.exit(1, "error: nothing was written\n")


def _landmark_source(options: argparse.Namespace, stack: contextlib.ExitStack) -> LandmarkSource:
    if options.landmarks is not None:
        return NpzLandmarks(options.landmarks)
    return stack.enter_context(contextlib.closing(FaceLandmarker(options.face_landmarker)))


def _parser() -> argparse.ArgumentParser:
    defaults = Settings()
    parser = argparse.ArgumentParser(
        prog="python -m sheap_jax.data.prepare", description="Videos or photographs and their landmarks to shards."
    )
    parser.add_argument("inputs", nargs="+", type=Path, metavar="INPUT", help="video, image, or folder of them")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="directory of the shards")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--landmarks", type=Path, metavar="FILE.npz", help="68 landmarks per frame, made before")
    source.add_argument("--face-landmarker", type=Path, metavar="MODEL.task", help="MediaPipe model; needs mediapipe")
    parser.add_argument("--image-size", type=_positive, default=defaults.image_size, help="side of the crops in pixels")
    parser.add_argument("--stride", type=_positive, default=defaults.stride, help="use every N-th frame")
    parser.add_argument(
        "--identity-from", choices=IDENTITY_RULES, default=defaults.identity_from, help="what one person is"
    )
    parser.add_argument("--test-share", type=_share, default=defaults.test_share, help="share held out as split test")
    parser.add_argument(
        "--hold-out", choices=HOLD_OUT_RULES, default=defaults.hold_out, help="hold out people, or the end of each clip"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not in [0, 1)")
    return value


if __name__ == "__main__":
    main()
