"""A whole fit, tiny: from a video and a folder of weights to an avatar beside the video."""

import dataclasses
import shutil

import cv2
import jax
import numpy as np
import pytest

from sheap_jax import Predictor, config_files
from sheap_jax.commands import fit
from sheap_jax.config import Devices, Weights
from sheap_jax.config_checks import check_config
from sheap_jax.config_files import ConfigError
from sheap_jax.inference.avatar import load_avatar
from sheap_jax.training.pretrained import save_pretrained
from tests.data.tiny_videos import HEIGHT, WIDTH, all_points, draw, write_landmarks
from tests.inference.tiny_avatar import tiny_predictor

COUNT, SCALE = 4, 2  # frames of the video, and how much larger than usual they are


@pytest.fixture
def weights(tmp_path):
    """The folder of a model whose configuration trains on any device."""
    predictor = tiny_predictor()
    config = dataclasses.replace(predictor.config, rasterizer=None)
    save_pretrained(tmp_path / "weights", config, predictor.parts().learned)
    return tmp_path / "weights"


@pytest.fixture
def video(tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / "me.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (SCALE * WIDTH, SCALE * HEIGHT)
    )
    for frame in range(COUNT):
        picture = cv2.resize(draw(frame), None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()
    write_landmarks(tmp_path / "points.npz", {"me.mp4": SCALE * all_points(COUNT)})
    return tmp_path / "me.mp4"


def arguments(video, weights, *more: str) -> list[str]:
    folder = video.parent
    known = ["--landmarks", str(folder / "points.npz"), "--checkpoint", str(weights), "--output", str(folder / "out")]
    return [str(video), *known, *more]


def test_a_video_becomes_a_run_parameters_and_an_avatar(tmp_path, video, weights):
    fit.main(arguments(video, weights, "--steps", "2", "--rendered", "0"))
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"frames", "run", "me", "avatar.npz", "side_by_side.mp4"}
    assert {path.name for path in (out / "me").iterdir()} == {"params.npz", "overlay.mp4"}
    params = np.load(out / "me/params.npz")
    assert len(params["expression"]) == COUNT
    assert np.ptp(params["shape"], axis=0).max() == 0.0  # one identity
    side = cv2.VideoCapture(str(out / "side_by_side.mp4"))
    assert side.get(cv2.CAP_PROP_FRAME_COUNT) == COUNT
    assert side.get(cv2.CAP_PROP_FRAME_WIDTH) == 2 * fit.SIZE
    assert load_avatar(out / "avatar.npz").parent_face.shape[0] > 0

    config = config_files.load_json(out / "run/config.json")
    assert config.weights.start == str(weights)
    before, after = (Predictor.from_checkpoint(place).parts().learned.params for place in (weights, out / "run"))
    moved = np.abs(after["estimator"]["shape_head"]["out"]["bias"] - before["estimator"]["shape_head"]["out"]["bias"])
    assert 0 < moved.max() < 0.01, "two steps from the weights, not from a new start"
    jax.tree.map(np.testing.assert_array_equal, after["regressor"], before["regressor"])  # nothing was rendered

    made = [out / "frames/manifest.json", *(out / "run/checkpoints").iterdir()]
    times = [path.stat().st_mtime_ns for path in made]
    fit.main(arguments(video, weights, "--steps", "2", "--rendered", "0"))  # finished: made from what is there
    assert [path.stat().st_mtime_ns for path in made] == times

    with pytest.raises(ConfigError, match="run was begun with other options: choose another --output, or remove"):
        fit.main(arguments(video, weights, "--steps", "3", "--rendered", "0"))
    shutil.copy(video, tmp_path / "you.mp4")
    with pytest.raises(ValueError, match=r"out is of other videos, .*me\.mp4: choose another --output"):
        fit.main(arguments(tmp_path / "you.mp4", weights))


def test_what_cannot_be_is_said_before_anything_is_made(tmp_path, video, weights):
    (tmp_path / "photo.jpg").touch()
    for name in ("photo.jpg", "nothing.mp4"):
        with pytest.raises(ValueError, match=f"{name} is no video file"):
            fit.main(arguments(tmp_path / name, weights))
    with pytest.raises(ValueError, match=r"holds no weights to start from: make them with `sheap export RUN OUT/`"):
        fit.main(arguments(video, tmp_path))
    shutil.copy(video, tmp_path / "side_by_side.mp4")
    inside = ["--landmarks", str(tmp_path / "points.npz"), "--checkpoint", str(weights), "--output", str(tmp_path)]
    with pytest.raises(ValueError, match=r"results would replace .*side_by_side\.mp4 itself"):
        fit.main([str(tmp_path / "side_by_side.mp4"), *inside])
    (tmp_path / "overlay").mkdir()
    shutil.copy(video, tmp_path / "overlay/overlay.mp4")
    with pytest.raises(ValueError, match=r"results would replace .*overlay\.mp4 itself"):
        fit.main([str(tmp_path / "overlay/overlay.mp4"), *inside])
    with pytest.raises(SystemExit):
        fit.main(arguments(video, weights, "--steps", "-5"))
    assert not (tmp_path / "out").exists()


def test_what_belongs_to_the_machine_that_trained_is_left_behind(weights, tmp_path):
    """Devices, accumulation and frozen weights that nobody else has."""
    trained = config_files.load_json(weights / "config.json")
    changed = dataclasses.replace(
        trained,
        rasterizer="pallas_gpu",
        devices=Devices(fsdp=16),
        weights=Weights(estimator="farl.npz", lpips="lpips.npz"),
        optimizer=dataclasses.replace(trained.optimizer, accumulate=16),
    )
    config_files.save_json(changed, weights / "config.json")
    places = fit.Places(tmp_path / "frames", tmp_path / "run", tmp_path / "a.npz", tmp_path / "s.mp4")
    config = fit.fitted_config(str(weights), places, geometry_steps=2, rendered_steps=1)
    check_config(config)
    assert config.rasterizer is None
    assert config.devices == Devices()
    assert config.weights == Weights(start=str(weights))
    assert config.optimizer.accumulate == 1


def test_weights_of_another_head_are_refused(tmp_path, video, weights):
    """Before the first step, with the name of the file."""
    predictor = tiny_predictor()
    learned = predictor.parts().learned
    params = dict(learned.params)
    params["estimator"] = {k: v for k, v in params["estimator"].items() if k != "shape_head"}
    save_pretrained(weights, predictor.config, learned._replace(params=params))
    with pytest.raises(ValueError, match=r"weights\.npz does not fit the networks"):
        fit.main(arguments(video, weights))
    assert not (tmp_path / "out").exists()
