"""An avatar with the expressions and head poses of somebody else's video.

    python -m sheap_jax.inference.reenact alice.npz driving.mp4 out.mp4 --checkpoint RUN
    python -m sheap_jax.inference.reenact alice.npz params.npz frames/

DRIVING is a video or a folder of pictures, framed as in training (crops; no face detection here), whose parameters the
run estimates; or an .npz with the fields of HeadParams of N frames: expression, rotations, translation (keys as
predict.py writes them). Avatar, run and parameters must share a morphable model.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from sheap_jax.inference.avatar import ERRORS, RiggedSurfels, load_avatar, load_model_of
from sheap_jax.inference.avatar_renderer import WHITE, AvatarRenderer
from sheap_jax.inference.driving import DrivingFrame, estimate_frames, frames_per_second, load_params
from sheap_jax.inference.predictor import Predictor
from sheap_jax.inference.video import write_frames
from sheap_jax.morphable import MorphableModel

DEFAULT_FPS = 25.0


def reenact(
    rigged: RiggedSurfels,
    model: MorphableModel,
    frames: Iterable[DrivingFrame],
    *,
    size: int,
    background: tuple[float, float, float] = WHITE,
    beside: bool = False,
) -> Iterator[Float[np.ndarray, "size w 3"]]:
    """The avatar's pictures in [0, 1], one per driving frame; `beside` puts the driving picture to the left of each.

    Raises ValueError if a frame's parameters are of another morphable model, or it has no picture to put beside.
    """
    import cv2

    render = AvatarRenderer(rigged, model, size=size, background=background)
    for frame in frames:
        sizes = [np.shape(values) for values in frame.params[1:]]
        if sizes != [np.shape(values) for values in rigged.head[1:]]:
            raise ValueError(f"expression, rotations and translation of the sizes {sizes} are not of {model.name}")
        picture = render(frame.params)
        if beside:
            if frame.image is None:
                raise ValueError("parameters alone have no driving picture to put beside the avatar")
            picture = np.concatenate([cv2.resize(frame.image, (size, size)), picture], axis=1)
        yield picture


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("avatar", metavar="AVATAR", help=".npz of sheap_jax.inference.avatar")
    parser.add_argument("driving", metavar="DRIVING", help="video, folder of pictures, or .npz of parameters")
    parser.add_argument("output", metavar="OUT", help="video .mp4, or a folder for one .png per frame")
    parser.add_argument("--checkpoint", metavar="RUN", help="training run that reads the pictures; not for an .npz")
    parser.add_argument("--morphable", metavar="NPZ", help="the morphable model, if it is not where the avatar says")
    parser.add_argument("--size", type=int, default=256, help="side of the pictures in pixels (default: 256)")
    parser.add_argument("--fps", type=float, help="default: the driving video's own, else 25")
    parser.add_argument("--background", type=float, nargs=3, metavar=("R", "G", "B"), default=WHITE)
    parser.add_argument("--beside", action="store_true", help="the driving picture to the left of each frame")
    options = parser.parse_args(arguments)
    rigged = load_avatar(options.avatar)
    model = load_model_of(rigged, options.morphable)
    frames, fps = _driving(options)
    pictures = reenact(
        rigged, model, frames, size=options.size, background=tuple(options.background), beside=options.beside
    )
    count = write_frames(options.output, tqdm(pictures, unit="frame", desc="reenact"), fps=options.fps or fps)
    print(f"{options.output}: {count} frames")


def _driving(options: argparse.Namespace) -> tuple[Iterable[DrivingFrame], float]:
    """The frames and their rate."""
    if Path(options.driving).suffix == ".npz":
        return load_params(options.driving), DEFAULT_FPS
    if options.checkpoint is None:
        raise ValueError(f"{options.driving} holds pictures: --checkpoint RUN says which network reads them")
    frames = estimate_frames(Predictor(options.checkpoint), options.driving)
    return frames, frames_per_second(options.driving) or DEFAULT_FPS


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except ERRORS as error:
        sys.exit(f"{type(error).__name__}: {error}")
