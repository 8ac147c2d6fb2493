from argparse import Namespace

import cv2
import jax
import numpy as np
import pytest

from sheap_jax.data.prepare.clips import PrepareError
from sheap_jax.data.prepare.decoding import VideoDecoder
from sheap_jax.inference import crops, reenact
from sheap_jax.inference.avatar import load_model_of, save_avatar
from sheap_jax.inference.avatar_renderer import AvatarRenderer
from sheap_jax.inference.driving import estimate_driving, load_driving
from sheap_jax.inference.faces import BoxFaces, WholePicture
from sheap_jax.inference.predictor import Predictor
from tests.data.tiny_videos import FRAMES, face_points, write_video
from tests.inference.tiny_avatar import tiny_avatar, tiny_predictor


def write_params(path, **changes):
    """Five rows of two people in turn, as predict.py writes them for a video of 10 frames per second."""
    rng = np.random.default_rng(3)
    arrays = {
        "track": np.array([0, 1, 0, 1, 0]),
        "rate": np.array(10.0),
        "shape": rng.normal(size=(5, 3)),
        "expression": rng.normal(size=(5, 2)),
        "rotations": 0.1 * rng.normal(size=(5, 2, 3)),
        "translation": np.zeros((5, 3)),
    } | changes
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return arrays


def test_a_track_of_a_parameter_file_drives(tmp_path):
    arrays = write_params(tmp_path / "params.npz")
    driving = load_driving(tmp_path / "params.npz", track=1)
    np.testing.assert_allclose(driving.times, np.arange(3) / 10.0)
    np.testing.assert_allclose(driving.head.rotations, arrays["rotations"][[1, 3]], rtol=1e-6)
    write_params(tmp_path / "bare.npz", track=None, rate=None, shape=None)
    assert len(load_driving(tmp_path / "bare.npz").head.expression) == 5, "only the motion is needed"
    write_params(tmp_path / "list.npz", rate=np.array([10.0]), frames=np.array([[7]]))
    np.testing.assert_allclose(load_driving(tmp_path / "list.npz").times, np.arange(8) / 10.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"rotations": None}, "lacks rotations"),
        ({"translation": np.zeros((4, 3))}, "translation has 4 rows"),
        ({"expression": np.full((5, 2), np.nan)}, "expression of frame 0 is not finite"),
        ({"track": np.full(5, 3)}, "nobody has the track 0"),
        ({"frame": np.array([0, 0, 4, 4, 2])}, "frame must ascend"),
        ({"frames": np.array(2**50)}, "states 1125899906842624 frames"),
        ({"expression": np.array(3.0)}, r"expression has shape \(\) of float64, expected \[n, e\] of numbers"),
        ({"rate": np.array("fast")}, "rate has shape"),
        ({"times": np.array([0.0, 0.2, 0.1, 0.4])}, "times must be 4 ascending numbers"),
    ],
)
def test_a_parameter_file_that_cannot_drive_is_named(tmp_path, changes, reason):
    write_params(tmp_path / "params.npz", **changes)
    with pytest.raises(ValueError, match=rf"params\.npz.*{reason}"):
        load_driving(tmp_path / "params.npz")


def test_frames_without_the_person_repeat_the_one_before(tmp_path):
    """Eight frames, the person in 1, 4 and 5."""
    arrays = write_params(tmp_path / "params.npz", frame=np.array([1, 2, 4, 5, 5]), frames=np.array(8))
    driving = load_driving(tmp_path / "params.npz")
    shown = np.array([0, 0, 0, 0, 2, 4, 4, 4])  # rows of the file
    np.testing.assert_allclose(driving.head.expression, arrays["expression"][shown], rtol=1e-6)
    write_params(tmp_path / "open.npz", frame=np.array([1, 2, 4, 5, 5]))
    assert len(load_driving(tmp_path / "open.npz").head.expression) == 6, "up to the last row"


def test_pauses_of_the_driving_video_are_kept(tmp_path):
    rigged = tiny_avatar()
    save_avatar(rigged, tmp_path / "a.npz")
    times = np.array([0.0, 0.04, 2.0, 2.5])
    write_params(tmp_path / "params.npz", times=times)
    reenact.main([str(tmp_path / name) for name in ("a.npz", "params.npz", "out.mp4")] + ["--size", "32"])
    decoder = VideoDecoder(tmp_path / "out.mp4")
    assert len(list(decoder)) == 3
    np.testing.assert_allclose([*decoder.starts, decoder.end], times, atol=1e-4)


@pytest.mark.parametrize(
    ("output", "options", "words"),
    [
        ("file", (), "file is a file: name a folder for the pictures, or a video .mp4"),
        ("folder.mp4", (), "folder.mp4 is a folder: name a video"),
        ("out.mp4", ("--size", "0"), "argument --size: 0 is no number of pixels"),
        ("out.mp4", ("--background", "2", "0", "0"), "argument --background: 2 is not from 0 to 1"),
    ],
)
def test_what_cannot_be_written_is_said_at_once(tmp_path, capsys, output, options, words):
    (tmp_path / "file").touch()
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises((SystemExit, ValueError)) as stop:
        reenact.main([str(tmp_path / "no.npz"), str(tmp_path / "no.npz"), str(tmp_path / output), *options])
    assert words in capsys.readouterr().err + str(stop.value)


@pytest.mark.parametrize("name", ["out.avi", "out.MKV", "out.png"])
def test_outputs_of_another_kind_are_refused_at_once(tmp_path, name):
    with pytest.raises(ValueError, match=r"videos are written as \.mp4, pictures into a folder"):
        reenact.main(["nothing.npz", "nothing.npz", str(tmp_path / name)])


def test_a_video_with_faceless_frames_keeps_its_time(tmp_path):
    write_video(tmp_path / "bob.mp4")
    text = "file,frame,left,top,right,bottom\n" + "".join(f"bob.mp4,{k},{40 + k},40,100,100\n" for k in (2, 5))
    (tmp_path / "boxes.csv").write_text(text)
    driving = estimate_driving(tiny_predictor(), tmp_path / "bob.mp4", BoxFaces(tmp_path / "boxes.csv"))
    pictures = list(driving.pictures(32))
    assert len(driving.head.expression) == len(pictures) == FRAMES
    np.testing.assert_allclose(driving.times, np.arange(FRAMES + 1) / 25.0)
    changes = np.flatnonzero(np.abs(np.diff(driving.head.expression, axis=0)).max(axis=1))
    np.testing.assert_array_equal(changes, [4])


def test_faces_beside_the_avatar_are_not_stretched(tmp_path):
    """The official framing stretches, for the network alone: here red pictures of 160 x 120 pixels as a whole."""
    write_video(tmp_path / "a.mp4", 2)
    driving = estimate_driving(tiny_predictor(), tmp_path / "a.mp4", WholePicture(framing="official"))
    shown = next(driving.pictures(32))
    np.testing.assert_array_equal((shown[:, 0, 0] > 100).nonzero()[0], np.arange(4, 28))  # 24 of 32 rows


def test_pictures_of_several_sizes_do_not_drive(tmp_path):
    for number, width in enumerate((32, 32, 48)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((32, width, 3), np.uint8))
    with pytest.raises(PrepareError, match=r"2\.png has 48 x 32 pixels, 0\.png has 32 x 32"):
        estimate_driving(tiny_predictor(), tmp_path, WholePicture())


def test_parameters_of_another_model_are_refused(tmp_path):
    write_params(tmp_path / "params.npz", expression=np.zeros((5, 7)))
    rigged = tiny_avatar()
    with pytest.raises(ValueError, match="are not of ellipsoid"):
        next(reenact.reenact(rigged, load_model_of(rigged), load_driving(tmp_path / "params.npz"), size=32))


def test_parameters_become_pictures_and_a_video(tmp_path):
    rigged = tiny_avatar()
    save_avatar(rigged, tmp_path / "a.npz")
    arrays = write_params(tmp_path / "params.npz")
    for output in ("frames", "out.mp4"):
        reenact.main([str(tmp_path / name) for name in ("a.npz", "params.npz", output)] + ["--size", "32"])
    pictures = [cv2.imread(str(path))[..., ::-1] for path in sorted((tmp_path / "frames").iterdir())]
    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert len(pictures) == 3 == video.get(cv2.CAP_PROP_FRAME_COUNT)
    assert video.get(cv2.CAP_PROP_FPS) == 10.0
    second = rigged.head._replace(**{k: arrays[k][2].astype(np.float32) for k in ("expression", "rotations")})
    expected = AvatarRenderer(rigged, load_model_of(rigged), size=32)(second)
    np.testing.assert_allclose(pictures[1] / 255, expected, atol=0.51 / 255)
    assert abs(pictures[0].astype(int) - pictures[1]).max() > 5, "the avatar moves"


def test_pictures_drive_beside_the_avatar(tmp_path, monkeypatch):
    """The frame's left half is the driving picture, its right half the avatar with what the run reads from it."""
    predictor = tiny_predictor()
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda directory: predictor)
    rigged = tiny_avatar()
    save_avatar(rigged, tmp_path / "a.npz")
    (tmp_path / "bob").mkdir()
    images = np.random.default_rng(4).integers(0, 255, (2, 32, 32, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        cv2.imwrite(str(tmp_path / f"bob/{number}.png"), image[..., ::-1])
    arguments = [str(tmp_path / name) for name in ("a.npz", "bob", "frames")]
    reenact.main([*arguments, "--checkpoint", "RUN", "--cropped", "--beside", "--size", "32"])
    frame = cv2.imread(str(tmp_path / "frames/000001.png"))[..., ::-1]
    np.testing.assert_array_equal(frame[:, :32], images[1])
    head = jax.tree.map(lambda x: x[1], predictor(images.astype(np.float32) / 255))
    expected = AvatarRenderer(rigged, load_model_of(rigged), size=32)(head)
    np.testing.assert_allclose(frame[:, 32:] / 255, expected, atol=1.1 / 255)


def test_pictures_need_to_know_where_their_faces_are(tmp_path, monkeypatch):
    save_avatar(tiny_avatar(), tmp_path / "a.npz")
    arguments = [str(tmp_path / name) for name in ("a.npz", "bob.mp4", "out.mp4")]
    write_video(tmp_path / "bob.mp4")
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda directory: tiny_predictor())
    with pytest.raises(ValueError, match=r"bob\.mp4 is not stated: --face-landmarker"):
        reenact.main([*arguments, "--checkpoint", "RUN"])


class TwoFaces:
    """Landmarks of a large face on the left and of a small one on the right: as many as it may give."""

    def __init__(self, model, *, max_faces: int) -> None:
        self.max_faces = max_faces

    def start(self, clip) -> None:
        """Nothing to do."""

    def detect(self, number, image):
        large = face_points(number) - (20.0, 0.0)
        return np.stack([large, 0.6 * face_points(number) + (80.0, 20.0)])[: self.max_faces]

    def finish(self, frames) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


@pytest.mark.parametrize(("track", "middle"), [(0, 50.0), (1, 122.0)])
def test_another_person_of_a_video_can_drive(tmp_path, monkeypatch, track, middle):
    monkeypatch.setattr(Predictor, "from_checkpoint", lambda directory: tiny_predictor())
    monkeypatch.setattr(crops, "FaceLandmarker", TwoFaces)
    none = dict.fromkeys(("boxes", "cropped", "landmarks"))
    video = write_video(tmp_path / "both.mp4")
    options = Namespace(**none, driving=video, checkpoint="RUN", track=track, face_landmarker="model.task")
    (prediction,) = reenact.read_driving(options, tiny_avatar()).predictions
    np.testing.assert_allclose(prediction.box.center[:, 0], middle + np.arange(FRAMES) * (1.0, 0.6)[track], atol=3)
