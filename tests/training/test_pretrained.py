"""Folders of weights: what goes in comes out in half precision, and only what fits is taken."""

from pathlib import Path

import cv2
import jax
import matplotlib.cbook
import numpy as np
import pytest

from sheap_jax import Predictor
from sheap_jax.cropping import CropBox, crop_image
from sheap_jax.evaluation.predictions import pose_heads, project_landmarks
from sheap_jax.inference import export
from sheap_jax.training import pretrained
from sheap_jax.training.checkpoint import CheckpointError
from tests.inference.tiny_avatar import SIZE, tiny_predictor

# Of the portrait, by MediaPipe's Face Landmarker: the crop, and where the middle of each part lies, in pixels.
HOPPER = CropBox(np.array([263.2, 200.2]), np.array(175.7))
SEEN = {"right eye": (222.5, 192.9), "left eye": (306.2, 187.8), "nose": (266.0, 234.2), "mouth": (267.1, 279.0)}
PARTS = {"right eye": slice(36, 42), "left eye": slice(42, 48), "nose": slice(27, 36), "mouth": slice(48, 68)}


@pytest.fixture
def folder(tmp_path):
    predictor = tiny_predictor()
    pretrained.save_pretrained(tmp_path / "head", predictor.config, predictor.parts().learned)
    return tmp_path / "head"


def test_a_folder_predicts_what_the_run_does(folder):
    """To the roundings of float16, whose relative step is 1e-3."""
    images = np.random.default_rng(2).uniform(size=(2, SIZE, SIZE, 3)).astype(np.float32)
    loaded = Predictor.from_checkpoint(folder)
    expected = tiny_predictor()(images)
    for found, wanted in zip(loaded(images), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=5e-3 * max(1.0, np.abs(wanted).max()))
    before, after = tiny_predictor().parts().learned, loaded.parts().learned
    np.testing.assert_array_equal(after.prototypes.active, before.prototypes.active)
    assert after.prototypes.parent_face.dtype == before.prototypes.parent_face.dtype
    assert {str(leaf.dtype) for leaf in np.asarray(after.params["estimator"]["shape_head"]["out"]["bias"])[:1]} == {
        "float32"
    }
    with pytest.raises(CheckpointError, match="has no step 3"):
        Predictor.from_checkpoint(folder, step=3)


def test_another_network_is_refused(folder):
    arrays = dict(np.load(folder / pretrained.WEIGHTS))
    name = next(key for key in arrays if key.startswith("params/estimator"))
    np.savez(folder / pretrained.WEIGHTS, **{k: v for k, v in arrays.items() if k != name})
    with pytest.raises(ValueError, match=f"does not fit the networks of this configuration .{name} is None"):
        Predictor.from_checkpoint(folder)
    np.savez(folder / pretrained.WEIGHTS, about=np.array("{}"))
    with pytest.raises(ValueError, match="is damaged or no pretrained model"):
        Predictor.from_checkpoint(folder)
    for about in ('{"format_version": 1, "step": Infinity}', '{"format_version": 1, "step": 1e30}', "[" * 10**5):
        np.savez(folder / pretrained.WEIGHTS, **arrays | {"about": np.array(about)})
        with pytest.raises(ValueError, match=r"weights\.npz is damaged or no pretrained model"):
            Predictor.from_checkpoint(folder)
    for value in (np.nan, "text", 1j):
        np.savez(folder / pretrained.WEIGHTS, **arrays | {name: np.full(arrays[name].shape, value)})
        with pytest.raises(ValueError, match=f"{name} holds what is no number"):
            Predictor.from_checkpoint(folder)
    (folder / pretrained.WEIGHTS).write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"weights\.npz"):
        Predictor.from_checkpoint(folder)


def test_a_model_that_has_diverged_is_not_written(tmp_path):
    predictor = tiny_predictor()
    learned = predictor.parts().learned
    large = jax.tree.map(lambda x: x + 7e4, learned.params)
    with pytest.raises(ValueError, match="half precision cannot hold: this model has diverged"):
        pretrained.save_pretrained(tmp_path / "head", predictor.config, learned._replace(params=large))
    assert not (tmp_path / "head" / pretrained.WEIGHTS).exists()


def test_the_word_pretrained_means_the_packaged_model_unless_there_is_one_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert pretrained.find("pretrained") == pretrained.PACKAGED
    assert pretrained.run_folder("pretrained") == Path("runs/pretrained")
    assert pretrained.find("runs/x") == pretrained.run_folder("runs/x") == Path("runs/x")
    Path("pretrained").mkdir()
    assert pretrained.find("pretrained") == pretrained.PACKAGED
    Path("pretrained/config.json").touch()
    assert pretrained.find("pretrained") == pretrained.run_folder("pretrained") == Path("pretrained")


def test_export_writes_a_folder_and_spares_another(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export.Predictor, "from_checkpoint", lambda checkpoint: tiny_predictor())
    export.main(["RUN", f"{tmp_path}/out/"])
    assert "MB, images of 32 pixels" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["config.json", "weights.npz"]
    export.main(["RUN", f"{tmp_path}/out/"])  # its own folder is replaced
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").touch()
    with pytest.raises(ValueError, match="photos holds something else"):
        export.main(["RUN", f"{tmp_path}/photos/"])


def test_the_packaged_model_sees_a_face():
    """Grace Hopper, in the public domain: her landmarks, by another network, to a tenth of the distance of her eyes."""
    predictor = Predictor.from_checkpoint("pretrained")
    size = predictor.config.image_size
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        photo = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    crop = crop_image(np.ascontiguousarray(photo), HOPPER, size)
    head = predictor(crop[None].astype(np.float32) / 255)
    points = project_landmarks(pose_heads(predictor.model, head), image_size=size)[0]
    parts = {name: points[part].mean(axis=0) for name, part in PARTS.items()}
    scale = size / (2 * float(HOPPER.half))
    eyes = np.linalg.norm(points[36] - points[45])
    for name, (x, y) in SEEN.items():
        expected = (np.array([x, y]) - HOPPER.center + HOPPER.half) * scale
        assert np.linalg.norm(parts[name] - expected) < 0.1 * eyes, name
