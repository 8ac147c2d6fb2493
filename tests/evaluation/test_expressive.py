import zipfile
from io import BytesIO

import cv2
import numpy as np
import pytest
import trimesh
from expressive_folder import write_expressive_folder
from tiny_benchmark import GRAY_STEP, SIZE, FakePredictor

from sheap_jax.evaluation.expressive import evaluate_expressive, load_frames
from sheap_jax.evaluation.nersemble import list_frames, nersemble_report, parse_frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_benchmark):
    return write_expressive_folder(tmp_path_factory.mktemp("expressive"), tiny_benchmark)


def test_posed_heads_are_scored_with_their_expressions(folder, tiny_benchmark):
    predictor = FakePredictor(tiny_benchmark.model, tiny_benchmark.params)
    with pytest.raises(ValueError, match=r"1 of 6 frames(.|\n)*person1/002"):
        evaluate_expressive(predictor, folder, image_size=SIZE)
    report = evaluate_expressive(predictor, folder, image_size=SIZE, allow_missing=True)
    assert report.counts == {"frames": 5, "people": 2, "missing frames": 1}
    rows = {(row.quantity, row.baseline): row for row in report.comparisons}
    for alignment in ("similarity", "rigid"):
        for baseline in ("mean head", "predicted head without expression"):
            row = rows[f"expressive heads, {alignment}, median", baseline]
            assert row.ours < 0.01  # mm
            assert row.baseline_value > 0.05
    assert report.per_image[0].people == ["person0"] * 3 + ["person1"] * 2


def test_bad_frames_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"frames\.txt"):
        load_frames(tmp_path, image_size=SIZE)
    for part in ("images/a", "scans", "landmarks"):
        (tmp_path / part).mkdir(parents=True)
    for part in ("scans", "landmarks"):
        (tmp_path / part / "a").symlink_to(folder / part / "person0")
    (tmp_path / "frames.txt").write_text("a/000\na/001\na/002\n")
    cv2.imwrite(str(tmp_path / "images/a/000.jpg"), np.zeros((40, 50, 3), np.uint8))
    (tmp_path / "images/a/001.jpg").write_bytes(b"no picture")
    found = load_frames(tmp_path, image_size=SIZE)
    assert not found.frames
    assert "not square" in found.missing[0]
    assert "no picture" in found.missing[1]
    assert "there is no" in found.missing[2]


def test_names_of_nersemble():
    frame = parse_frame("017", "EMO-1-shout+laugh_56_022200048")
    assert frame == (17, "EMO-1-shout+laugh", 56, "022200048")
    assert frame.input_folder == "017/EMO-1-shout+laugh_56_022200048"
    assert frame.submission_folder == "017/EMO-1-shout+laugh_056_022200048"
    assert (
        parse_frame("372", "SEN-09-frown_events_bad_1203_2").submission_folder == "372/SEN-09-frown_events_bad_1203_2"
    )
    for participant, folder in (("17a", "FREE_1_2"), ("017", "FREE_2"), ("017", "FREE_1_2_x"), ("017", "../a_1_2")):
        with pytest.raises(ValueError, match="is no <participant>"):
            parse_frame(participant, folder)


def test_the_submission_holds_posed_and_neutral_heads(tmp_path, tiny_benchmark):
    folders = {"017/FREE_7_222200038": 1, "060/EMO-1-shout+laugh_156_221501007": 4}
    for name, record in folders.items():
        (tmp_path / "svfr" / name).mkdir(parents=True)
        gray = np.full((512, 512, 3), record * GRAY_STEP, np.uint8)
        cv2.imwrite(str(tmp_path / "svfr" / name / "rgb.png"), gray)
    predictor, truth = FakePredictor(tiny_benchmark.model, tiny_benchmark.params), tiny_benchmark.truth
    archive = tmp_path / "out/submission.zip"
    report = nersemble_report(predictor, tmp_path / "svfr", archive, image_size=SIZE)
    assert list(report.counts.values()) == [2, 2]
    with zipfile.ZipFile(archive) as file:
        names = ["017/FREE_007_222200038", "060/EMO-1-shout+laugh_156_221501007"]
        parts = ("mesh_posed.ply", "landmarks_posed.npy", "mesh_neutral.ply", "landmarks_neutral.npy")
        assert sorted(file.namelist()) == sorted(f"{name}/{part}" for name in names for part in parts)
        for name, record in zip(names, folders.values(), strict=True):
            person = truth.identity_index[record]
            expected = {"posed": (truth.posed[record], truth.landmarks7_posed[record])}
            expected["neutral"] = (truth.neutral[person], truth.landmarks7_neutral[person])
            for kind, (vertices, landmarks) in expected.items():
                stream = BytesIO(file.read(f"{name}/mesh_{kind}.ply"))
                mesh = trimesh.load(stream, file_type="ply", process=False)
                np.testing.assert_allclose(mesh.vertices, vertices, atol=1e-6)
                np.testing.assert_array_equal(mesh.faces, truth.faces)
                with file.open(f"{name}/landmarks_{kind}.npy") as stream:
                    np.testing.assert_allclose(np.load(stream), landmarks, atol=1e-6)
    with pytest.raises(FileNotFoundError, match=r"rgb\.png"):
        list_frames(tmp_path / "out")
    whole = archive.read_bytes()
    (tmp_path / "svfr/060/EMO-1-shout+laugh_156_221501007/rgb.png").write_bytes(b"")
    for output in (archive, tmp_path / "new/submission.zip"):
        with pytest.raises(ValueError, match="EMO-1"):
            nersemble_report(predictor, tmp_path / "svfr", output, image_size=SIZE)
    cv2.imwrite(str(tmp_path / "svfr/060/EMO-1-shout+laugh_156_221501007/rgb.png"), gray[:300])
    with pytest.raises(ValueError, match=r"EMO-1.*rgb\.png has 512 x 300 pixels: the benchmark's crops are square"):
        nersemble_report(predictor, tmp_path / "svfr", archive, image_size=SIZE)
    assert archive.read_bytes() == whole
    assert [path.name for path in archive.parent.iterdir()] == ["submission.zip"]
