"""eval.py on the official release, converted from a stand-in of its outputs."""

import json

import cv2
import numpy as np
import pytest
from now_folder import GOOD, write_now_folder

pytest.importorskip("torch", reason="the release is a trace that only torch can read")

import eval as command
from sheap_jax.evaluation.affectnet.features import _load_crop
from sheap_jax.evaluation.affectnet.layout import Images
from sheap_jax.evaluation.expressive import _load_image
from tests.data.official_crops import face, official_corners
from tests.models.traced.tiny_release import write_release


def test_now(tiny_benchmark, tmp_path, capsys):
    """The report lies in the release's directory, as that of a run does, and the release can be converted again."""
    run = write_release(tmp_path) / "run"
    data = write_now_folder(tmp_path, tiny_benchmark)
    command.main(["--checkpoint", str(run), "--benchmark", "now", "--data", str(data), "--allow-missing"])
    assert "# now benchmark (now-validation)" in capsys.readouterr().out
    (report,) = json.loads((run / "evaluation/results.json").read_text())["reports"]
    assert len(report["missing"]) == 2
    assert len(list((run / "evaluation/now_submission").rglob("*.obj"))) == len(GOOD) + 1
    write_release(tmp_path)


def test_other_benchmarks_crop_as_the_release_does(tmp_path):
    """A portrait with 2D landmarks at its border, against the crop cut out and resized."""
    width, height = 300, 400
    image = cv2.resize(np.random.default_rng(0).integers(0, 256, (20, 15, 3), np.uint8), (width, height))
    landmarks = face(width, height, where=(0.2, 0.5))
    for folder in ("images", "landmarks2d"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images/one.png"), image[..., ::-1])
    np.save(tmp_path / "landmarks2d/one.npy", landmarks)
    low, high = np.round(official_corners(landmarks, width, height)).astype(int)
    expected = cv2.resize(image[low[1] : high[1], low[0] : high[0]], (96, 96))
    found = _load_image(tmp_path, "one", 96, "official")
    assert np.abs(found.astype(int) - expected).mean() < 2
    assert np.abs(_load_image(tmp_path, "one", 96, "pixels").astype(int) - expected).mean() > 10
    features = _load_crop(Images([tmp_path / "images/one.png"], landmarks[None], None), 0, 96, "official")
    np.testing.assert_array_equal(features, found)
