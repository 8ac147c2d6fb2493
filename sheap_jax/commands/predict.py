"""Predict head geometry from photographs and videos.

    sheap predict photo.jpg holiday/ 'more/*.png' talk.mp4 --output out --face-landmarker face_landmarker.task
    sheap predict photo.jpg --checkpoint runs/clip --output out --face-landmarker face_landmarker.task \\
        --save params,obj,overlay
    sheap predict webcam:0 --seconds 10 --checkpoint runs/clip --output out --face-landmarker face_landmarker.task

Each input gets a folder in the output. docs/prediction.md lists what can be saved, with keys and units. An input that
cannot be used gives one line that says why, the others go on, and the exit code is 1.
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from tqdm import tqdm

from sheap_jax.command_line import make_parser
from sheap_jax.data.prepare.clips import DEFAULT_RATE, Clip, PrepareError
from sheap_jax.files.places import check_writable, folder_below
from sheap_jax.inference import smoothing
from sheap_jax.inference.crops import add_face_options, open_finder
from sheap_jax.inference.inputs import WEBCAM, Failure, Inputs, find_inputs, record_webcam
from sheap_jax.inference.outputs import WRITERS, check_kinds, is_output, write_outputs
from sheap_jax.inference.pipeline import Prediction, predict_clips
from sheap_jax.inference.predictor import Predictor
from sheap_jax.training import pretrained

ERRORS = (OSError, RuntimeError, ValueError)  # one line says all


def predict(options: argparse.Namespace) -> int:
    """Run the command; returns how many inputs failed."""
    predictor = Predictor.from_checkpoint(options.checkpoint)
    check_kinds(options.save, predictor.model)
    with contextlib.ExitStack() as stack:
        finder = stack.enter_context(open_finder(options, max_faces=options.max_faces, framing=predictor.framing))
        check_writable(options.output)  # the writers make it
        clips, failures = gather_inputs(options)
        size, faces, unread = predictor.config.image_size, 0, len(failures)
        bar = stack.enter_context(tqdm(unit="face", desc="predicting"))
        for failure in failures:
            report(failure, bar)
        results = predict_clips(predictor, clips, finder, size=size, workers=options.workers, progress=bar.update)
        for done, result in enumerate(results, start=1):
            written = finish(result, predictor, options) if isinstance(result, Prediction) else result
            if isinstance(written, Failure):
                failures.append(written)
                report(written, bar)
            else:
                faces += len(written.frame)
            bar.set_postfix(inputs=f"{done}/{len(clips)}", failed=len(failures))
    total = len(clips) + unread
    print(f"{faces} faces in {total - len(failures)} of {total} inputs -> {options.output}")
    return len(failures)


def gather_inputs(options: argparse.Namespace) -> Inputs:
    """Clips of all inputs; webcams are recorded first."""
    names, failures = [], []
    for name in options.inputs:
        try:
            is_camera = name.startswith(WEBCAM)
            names.append(str(record_webcam(name, options.output, seconds=options.seconds)) if is_camera else name)
        except ValueError as error:
            failures.append(Failure(name, str(error)))
    found = find_inputs(names, as_video=options.as_video, rate=options.rate, output=options.output)
    blocked = {clip.name: reason for clip in found.clips if (reason := blocked_by(options.output, clip))}
    failures += [*found.failures, *(Failure(str(c.path), blocked[c.name]) for c in found.clips if c.name in blocked)]
    return Inputs([clip for clip in found.clips if clip.name not in blocked], failures)


def blocked_by(output: Path, clip: Clip) -> str | None:
    """Why a clip's results cannot be written, None if they can."""
    try:
        folder = folder_below(output, clip.name)
    except ValueError as error:
        return f"nothing written: {error}"
    files = [path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()]
    if files:
        return f"nothing written: {files[0]} is a file where a folder has to be: move it"
    taken = [path for path in clip.files if is_output(path.name) and path.parent.resolve() == folder.resolve()]
    return f"nothing written: results would replace {taken[0]} itself: choose another --output" if taken else None


def finish(prediction: Prediction, predictor: Predictor, options: argparse.Namespace) -> Prediction | Failure:
    """Smooth and write one prediction."""
    clip = prediction.footage.clip
    if options.one_identity:
        prediction = smoothing.one_identity(prediction)
    if options.smooth and not clip.is_photograph:
        prediction = smoothing.smooth_motion(prediction, min_cutoff=options.min_cutoff, beta=options.beta)
    try:
        write_outputs(options.output, predictor.model, prediction, options.save)
    except (OSError, ValueError, PrepareError) as error:
        return Failure(str(clip.path), f"nothing written: {error}")
    except Exception as error:  # one odd input among thousands must not lose those after it
        return Failure(str(clip.path), f"nothing written: unexpected {type(error).__name__}: {error}")
    return prediction


def report(failure: Failure, bar: tqdm) -> None:
    bar.write(f"failed: {failure.path}: {failure.reason}", file=sys.stderr)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = make_parser("predict", __doc__, urls=("checkpoint",))
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="image, video, folder, pattern or webcam:N")
    parser.add_argument("--checkpoint", default=pretrained.NAME, metavar="DIR", help=pretrained.HELP)
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="gets a folder for each input")
    parser.add_argument(
        "--save", type=kinds, default="params,overlay", metavar="KINDS", help=f"some of {','.join(WRITERS)}"
    )
    parser.add_argument("--as-video", action="store_true", help="the pictures of a folder are the frames of one video")
    parser.add_argument(
        "--rate", type=positive, default=DEFAULT_RATE, metavar="FPS", help="frames per second of --as-video"
    )
    add_face_options(parser, required=True)
    parser.add_argument(
        "--max-faces", type=count, default=8, metavar="N", help="most faces of a picture, for --face-landmarker"
    )
    parser.add_argument("--one-identity", action="store_true", help="one shape for each person in a video")
    parser.add_argument("--smooth", action="store_true", help="One Euro filter over pose and expression of videos")
    parser.add_argument(
        "--min-cutoff", type=positive, default=1.5, metavar="HZ", help="--smooth: cut-off of the filter at rest"
    )
    parser.add_argument(
        "--beta", type=not_negative, default=1.0, metavar="B", help="--smooth: how far the cut-off rises with speed"
    )
    parser.add_argument(
        "--seconds", type=positive, default=10.0, metavar="S", help="webcam recording length in seconds"
    )
    parser.add_argument(
        "--workers", type=count, default=min(4, os.cpu_count() or 1), metavar="N", help="threads that decode images"
    )
    return parser.parse_args(arguments)


def positive(text: str) -> float:
    """A number above 0."""
    if not 0.0 < float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no positive number")
    return float(text)


def not_negative(text: str) -> float:
    """A number from 0 on."""
    if not 0.0 <= float(text) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number from 0 on")
    return float(text)


def count(text: str) -> int:
    """A whole number from 1 on."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number from 1 on")
    return int(text)


def kinds(text: str) -> list[str]:
    """Names of writers, from a list with commas."""
    unknown = [name for name in text.split(",") if name not in WRITERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{','.join(unknown)} cannot be saved; choose from {','.join(WRITERS)}")
    return text.split(",")


def main(arguments: list[str]) -> None:
    if predict(parse(arguments)):
        sys.exit(1)
