"""An avatar with the expressions and head poses of somebody else's video.

    sheap reenact alice.npz bob/params.npz out.mp4
    sheap reenact alice.npz bob.mp4 out.mp4 --checkpoint runs/clip --face-landmarker face_landmarker.task

DRIVING is the params.npz that `sheap predict` saves, or a video, a picture or a folder of pictures, which a training
run reads; then one option says where the faces are. Avatar and driving must share a morphable model.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np
from jaxtyping import Float, UInt8
from tqdm import tqdm

from sheap_jax import command_line
from sheap_jax.data.prepare.clips import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from sheap_jax.data.prepare.landmarks import MOST_FACES
from sheap_jax.files.pictures import save_picture
from sheap_jax.files.places import check_writable
from sheap_jax.inference.avatar import ERRORS, RiggedSurfels, check_fits, load_avatar, load_model_of
from sheap_jax.inference.avatar_renderer import WHITE, AvatarRenderer
from sheap_jax.inference.crops import add_face_options, open_finder
from sheap_jax.inference.driving import Driving, estimate_driving, load_driving
from sheap_jax.inference.predictor import Predictor
from sheap_jax.inference.video_files import VideoFile
from sheap_jax.morphable import MorphableModel
from sheap_jax.training import pretrained


def reenact(
    rigged: RiggedSurfels,
    model: MorphableModel,
    driving: Driving,
    *,
    size: int,
    background: tuple[float, float, float] = WHITE,
) -> Iterator[UInt8[np.ndarray, "size size 3"]]:
    """One picture of the avatar per driving frame. ValueError if `driving` is of another morphable model."""
    ours = [values.shape for values in rigged.head[1:]]
    theirs = [values.shape[1:] for values in driving.head[1:]]
    if ours != theirs:
        raise ValueError(f"expression, rotations and translation of the sizes {theirs} are not of {model.name}: {ours}")
    render = AvatarRenderer(rigged, model, size=size, background=background)
    for frame in range(len(driving.head.shape)):
        picture = render(jax.tree.map(lambda values, frame=frame: values[frame], driving.head))
        yield np.round(255 * picture).astype(np.uint8)


def write_pictures(
    path: Path, pictures: Iterable[UInt8[np.ndarray, "h w 3"]], *, times: Float[np.ndarray, "n+1"]
) -> None:
    """A video if the path ends in .mp4, else a folder of 000000.png and so on. OSError if it cannot be written.

    Args:
      times: seconds at which pictures start, and the last one ends.
    """
    if path.suffix.lower() == ".mp4":
        path.parent.mkdir(parents=True, exist_ok=True)
        with VideoFile(path) as video:
            for picture, end in zip(pictures, times[1:], strict=True):
                video.write(picture, until=float(end))
        return
    for number, picture in enumerate(pictures):
        save_picture(picture, path / f"{number:06d}.png")


def main(arguments: list[str]) -> None:
    parser = command_line.make_parser("reenact", __doc__, urls=("checkpoint",))
    parser.add_argument("avatar", metavar="AVATAR", help="avatar .npz that `sheap avatar` made")
    parser.add_argument("driving", metavar="DRIVING", help="params.npz, video, picture or folder of pictures")
    parser.add_argument("output", metavar="OUT", type=Path, help="video .mp4, or a folder for one .png per frame")
    parser.add_argument("--checkpoint", default=pretrained.NAME, metavar="DIR", help=f"for pictures: {pretrained.HELP}")
    add_face_options(parser)
    parser.add_argument("--track", type=int, default=0, metavar="N", help="which person of the driving video")
    parser.add_argument("--beside", action="store_true", help="the driving picture to the left of each frame")
    parser.add_argument("--size", type=_pixels, default=256, metavar="PIXELS", help="side of the pictures in pixels")
    parser.add_argument(
        "--background",
        type=_share,
        nargs=3,
        metavar=("R", "G", "B"),
        default=WHITE,
        help="colour behind the head, 0 to 1 (default: white)",
    )
    parser.add_argument("--morphable", metavar="NPZ", help="the morphable model, if it is not where the avatar says")
    options = parser.parse_args(arguments)
    if options.output.suffix.lower() in (VIDEO_SUFFIXES | IMAGE_SUFFIXES) - {".mp4"}:
        raise ValueError(f"{options.output}: videos are written as .mp4, pictures into a folder")
    is_video = options.output.suffix.lower() == ".mp4"
    if options.output.exists() and options.output.is_dir() == is_video:
        there = "a folder: name a video" if is_video else "a file: name a folder for the pictures, or a video .mp4"
        raise ValueError(f"{options.output} is {there}")
    check_writable(options.output.parent)
    rigged = load_avatar(options.avatar)
    model = load_model_of(rigged, options.morphable)
    driving = read_driving(options, rigged)
    pictures = reenact(rigged, model, driving, size=options.size, background=tuple(options.background))
    if options.beside:
        if not driving.predictions:
            raise ValueError("--beside: parameters alone have no pictures")
        pairs = zip(driving.pictures(options.size), pictures, strict=True)
        pictures = (np.concatenate(pair, axis=1) for pair in pairs)
    count = len(driving.head.shape)
    write_pictures(options.output, tqdm(pictures, total=count, unit="frame", desc="reenact"), times=driving.times)
    print(f"{options.output}: {count} frames")


def _pixels(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of pixels, from 1 on")
    return int(text)


def _share(text: str) -> float:
    if not 0.0 <= float(text) <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to 1")
    return float(text)


def read_driving(options: argparse.Namespace, rigged: RiggedSurfels) -> Driving:
    """The driving that the options name. Checks that it fits this avatar before it reads pictures."""
    if Path(options.driving).suffix.lower() == ".npz":
        return load_driving(options.driving, track=options.track)
    predictor = Predictor.from_checkpoint(options.checkpoint)
    check_fits(rigged, predictor.model)
    with open_finder(options, max_faces=MOST_FACES, framing=predictor.framing) as finder:
        return estimate_driving(predictor, options.driving, finder, track=options.track)


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
