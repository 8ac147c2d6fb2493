"""eval.py on the official release, converted from a stand-in of its outputs; torch and its own layer are the truth."""

import functools
import json
import zipfile
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from now_folder import GOOD, write_now_folder

pytest.importorskip("torch", reason="the release is a trace that only torch can read")

from sheap_jax.commands import eval as command
from sheap_jax.evaluation import benchmarks
from sheap_jax.evaluation.affectnet import benchmark as affectnet
from sheap_jax.evaluation.affectnet.classifier import train_classifier
from sheap_jax.evaluation.affectnet.features import _load_crop
from sheap_jax.evaluation.affectnet.layout import Images
from sheap_jax.evaluation.expressive import _load_image
from sheap_jax.models.convert import __main__ as convert_command
from sheap_jax.morphable.storage import load_model
from tests.data.official_crops import face, face_of_crop, official_corners
from tests.models.traced.tiny_release import conversion, posed_vertices, release_outputs, write_release
from tests.morphable import fake_flame

WIDTH, HEIGHT, CROP = 300, 400, (slice(88, 312), slice(38, 262))  # a portrait, and a crop of 224 pixels of it
LANDMARKS = face_of_crop(38, 88, 224, width=WIDTH, height=HEIGHT)


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> Path:
    return write_release(tmp_path_factory.mktemp("release"))


def evaluate(release: Path, benchmark: str, data: Path, output: Path, *options: str) -> dict:
    """The report of the command."""
    arguments = ["--checkpoint", str(release / "run"), "--benchmark", benchmark, "--data", str(data)]
    command.main([*arguments, "--output", str(output), *options])
    (report,) = json.loads((output / "results.json").read_text())["reports"]
    return report


def portraits(count: int) -> np.ndarray:
    """Pictures [n, h, w, 3], each darker than the one before."""
    small = np.random.default_rng(0).integers(0, 256, (count, 20, 15, 3), np.uint8)
    return np.stack([cv2.resize(one // (1 + number), (WIDTH, HEIGHT)) for number, one in enumerate(small)])


def write_picture(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image[..., ::-1])


def truth(release: Path, images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The release's outputs for crops of 224 pixels, and its posed vertices."""
    outputs = release_outputs(release / "model.pt", np.ascontiguousarray(images))
    return outputs, posed_vertices(outputs, load_model(release / "flame.npz"))


def test_now(release, tiny_benchmark, tmp_path, capsys):
    """The report lies in the release's directory, as that of a run does, and the release can be converted again."""
    run, data = release / "run", write_now_folder(tmp_path, tiny_benchmark)
    command.main(["--checkpoint", str(run), "--benchmark", "now", "--data", str(data), "--allow-missing"])
    printed = capsys.readouterr().out
    assert "# now benchmark (now-validation)" in printed
    assert "now_submission\n" in printed.split("written:")[1]
    (report,) = json.loads((run / "evaluation/results.json").read_text())["reports"]
    assert len(report["missing"]) == 2
    assert len(list((run / "evaluation/now_submission").rglob("*.obj"))) == len(GOOD) + 1
    convert_command.main(conversion(release / "model.pt", run, release / "flame.npz"))


def seven_landmarks(vertices: np.ndarray) -> np.ndarray:
    """NoW's of posed vertices, by the table that FLAME was converted with."""
    table, places = fake_flame.landmark_arrays(), [36, 39, 42, 45, 33, 48, 54]
    corners = vertices[fake_flame.FACES[table["full_lmk_faces_idx"][0, places]]]
    return np.einsum("lk,lkc->lc", table["full_lmk_bary_coords"][0, places], corners)


def test_expressive_scans_of_its_own_heads(release, tmp_path):
    """Heads that torch and the release's layer pose are found again: three by crops of portraits, one is a crop."""
    images, names = portraits(4), [f"anna/{number}" for number in range(4)]
    _, posed = truth(release, images[:, *CROP])
    for folder in ("images", "scans", "landmarks", "landmarks2d"):
        (tmp_path / folder / "anna").mkdir(parents=True)
    for name, image, vertices in zip(names, images, posed, strict=True):
        is_crop = name == names[-1]
        write_picture(tmp_path / f"images/{name}.png", image[CROP] if is_crop else image)
        if not is_crop:
            np.save(tmp_path / f"landmarks2d/{name}.npy", LANDMARKS)
        scan = trimesh.Trimesh(1000 * vertices, fake_flame.FACES, process=False)
        scan.subdivide().subdivide().subdivide().export(tmp_path / f"scans/{name}.ply")
        np.save(tmp_path / f"landmarks/{name}.npy", 1000 * seven_landmarks(vertices))
    (tmp_path / "frames.txt").write_text("\n".join(names))
    report = evaluate(release, "expressive", tmp_path, tmp_path / "out")
    rows = [row for row in report["comparisons"] if row["quantity"].endswith(("median", "mean"))]
    assert len(rows) == 8
    for row in rows:
        assert row["ours"] < 0.02, row
        assert row["baseline_value"] > 0.5, row


def test_nersemble_submits_posed_and_neutral_heads(release, tmp_path, capsys):
    """Photographs of 448 pixels, halved by cv2 for torch as well."""
    small = np.random.default_rng(1).integers(0, 256, (2, 12, 12, 3), np.uint8)
    large = np.stack([cv2.resize(one, (448, 448)) for one in small])
    for number, image in enumerate(large):
        write_picture(tmp_path / f"svfr/017/FREE_{number}_222200038/rgb.png", image)
    halves = [cv2.resize(one, (224, 224), interpolation=cv2.INTER_AREA) for one in large]
    outputs, posed = truth(release, np.stack(halves))
    still = {name: 0 * value for name, value in outputs.items() if name != "shape_from_facenet"}
    neutral = posed_vertices(outputs | still, load_model(release / "flame.npz"))
    report = evaluate(release, "nersemble", tmp_path / "svfr", tmp_path / "out")
    assert list(report["counts"].values()) == [2, 1]
    printed = capsys.readouterr().out
    assert "nersemble_submission.zip" in printed.split("written:")[1]
    assert "| quantity" not in printed, "there are no numbers before the server has scored it"
    with zipfile.ZipFile(tmp_path / "out/nersemble_submission.zip") as archive:
        for number in range(2):
            for kind, vertices in (("posed", posed[number]), ("neutral", neutral[number])):
                name = f"017/FREE_{number:03d}_222200038/%s_{kind}.%s"
                mesh = trimesh.load(BytesIO(archive.read(name % ("mesh", "ply"))), file_type="ply", process=False)
                np.testing.assert_allclose(mesh.vertices, vertices, atol=2e-5)
                points = np.load(BytesIO(archive.read(name % ("landmarks", "npy"))))
                np.testing.assert_allclose(points, seven_landmarks(vertices), atol=2e-5)


def test_affectnet_learns_from_expression_eyelids_and_jaw(release, tmp_path, monkeypatch):
    """The features of the command are those of torch; a small emotion network learns from them."""
    learned = []

    def train(features, labels, **options):
        learned.append(features)
        return train_classifier(features, labels, **options)

    monkeypatch.setattr(affectnet, "train_classifier", train)
    narrow = functools.partial(benchmarks.evaluate_affectnet, width=8)
    monkeypatch.setattr(benchmarks, "evaluate_affectnet", narrow)
    images = portraits(3)
    for split, count in (("train_set", 72), ("val_set", 3)):
        for number in range(count):
            write_picture(tmp_path / f"{split}/images/{number}.jpg", images[number % 3])
            (tmp_path / split / "annotations").mkdir(exist_ok=True)
            values = {"exp": str(number % 3), "val": str(0.1 * (number % 3)), "aro": "0.5", "lnd": LANDMARKS.ravel()}
            for name, value in values.items():
                np.save(tmp_path / f"{split}/annotations/{number}_{name}.npy", value)
    report = evaluate(release, "affectnet", tmp_path, tmp_path / "out")
    assert report["counts"]["images"] == 3
    stored = np.stack([cv2.imread(str(tmp_path / f"train_set/images/{number}.jpg"))[..., ::-1] for number in range(3)])
    outputs, _ = truth(release, stored[:, *CROP])
    parts = [outputs[name] for name in ("expr", "eyelids", "jaw_pose")]
    order = [int(path.stem) % 3 for path in sorted((tmp_path / "train_set/images").iterdir())]
    np.testing.assert_allclose(learned[0], np.concatenate(parts, axis=1)[order], atol=2e-4)


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
