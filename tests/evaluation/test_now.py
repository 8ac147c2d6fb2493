import json
import shutil

import cv2
import numpy as np
import pytest
from now_folder import BOX, BROKEN_BOX, GOOD, IMAGES, WITHOUT_SCAN, malicious_box, person_of, write_now_folder
from PIL import Image
from scipy.spatial.transform import Rotation
from tiny_benchmark import SIZE, FakePredictor

from sheap_jax.evaluation.now import (
    MissingPredictionsError,
    NowFolder,
    evaluate_now,
    now_report,
    predict_now,
    score_predictions,
)
from sheap_jax.evaluation.now import __main__ as command
from sheap_jax.evaluation.now.__main__ import main
from sheap_jax.evaluation.now.predict import NowBox, crop_face, read_box
from sheap_jax.evaluation.report import markdown_table
from sheap_jax.files.mesh_files import read_landmarks7, read_mesh, write_obj


@pytest.fixture(scope="module")
def now(tmp_path_factory, tiny_benchmark):
    return write_now_folder(tmp_path_factory.mktemp("now"), tiny_benchmark)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, now):
    """The same folder with only those images that can be scored."""
    copy = tmp_path_factory.mktemp("whole") / "now"
    shutil.copytree(now, copy)
    (copy / "imagepathsvalidation.txt").write_text("\n".join(GOOD))
    return copy


@pytest.fixture(scope="module")
def run(tmp_path_factory, now, tiny_benchmark):
    """Report and submission of a network that is right about everybody's shape."""
    output = tmp_path_factory.mktemp("submission")
    predictor = FakePredictor(tiny_benchmark.model, tiny_benchmark.params)
    report = evaluate_now(predictor, now, image_size=SIZE, output=output, allow_missing=True)
    return report, output


def _row(report, quantity):
    (row,) = [row for row in report.comparisons if row.quantity == quantity]
    return row


def test_the_right_shapes_have_no_error_whatever_the_expression(run):
    """The predictor's expressions and poses are wild: they must not be in what is scored."""
    report, _ = run
    for kind in ("all images", "neutral", "expression", "occlusion", "selfie"):
        for alignment in ("similarity", "rigid"):
            for field in ("median", "mean", "std"):
                row = _row(report, f"{kind}, {alignment}, {field}")
                assert row.ours < 2e-3, row  # mm
                assert row.baseline == "mean head"
                assert row.baseline_value > 0.2, row
    assert report.version == "now-validation"
    assert report.published == {"SHeaP": 0.93}  # nothing of the other list
    assert not report.doubtful


def test_what_is_missing_is_listed_with_its_reason(run, now, tiny_benchmark, tmp_path):
    report, _ = run
    assert report.counts["images"] == 4
    assert report.counts["missing images"] == 2
    assert [line.split(": ")[0] for line in report.missing] == [BROKEN_BOX, WITHOUT_SCAN]
    assert "IMG_0005.npy" in report.missing[0]
    assert "no scan" in report.missing[1]
    predictor = FakePredictor(tiny_benchmark.model, tiny_benchmark.params)
    with pytest.raises(MissingPredictionsError, match="2 of 6 images cannot be scored") as failure:
        evaluate_now(predictor, now, image_size=SIZE, output=tmp_path)
    assert BROKEN_BOX in str(failure.value)
    assert WITHOUT_SCAN in str(failure.value)


def test_the_submission_has_the_official_form(run, tiny_benchmark):
    _, output = run
    written = sorted(str(path.relative_to(output)) for path in output.rglob("*") if path.is_file())
    stems = [line.removesuffix(".jpg") for line in IMAGES if line != BROKEN_BOX]
    assert written == sorted(f"{stem}{suffix}" for stem in stems for suffix in (".obj", ".npy"))
    truth = tiny_benchmark.truth
    for line in GOOD:
        stem = line.removesuffix(".jpg")
        mesh, person = read_mesh(output / f"{stem}.obj"), person_of(IMAGES[line])
        np.testing.assert_allclose(mesh.vertices, truth.neutral[person], atol=1e-6)
        np.testing.assert_array_equal(mesh.faces, truth.faces)
        landmarks = np.load(output / f"{stem}.npy")
        np.testing.assert_allclose(landmarks, truth.landmarks7_neutral[person], atol=1e-6)


def _transformed(source, target, *, scale=1.0, mirror=False, noise=0.0):
    """A copy of a submission in other coordinates."""
    turn = Rotation.from_rotvec([0.5, 2.0, -1.0]).as_matrix() @ np.diag([-1.0 if mirror else 1.0, 1, 1])
    for path in source.rglob("*.obj"):
        mesh, landmarks = read_mesh(path), read_landmarks7(path.with_name(path.name.replace(".obj", ".npy")))
        moved = target / path.relative_to(source)
        moved.parent.mkdir(parents=True, exist_ok=True)
        bump = noise * np.sin(200 * mesh.vertices[:, [1, 2, 0]])
        write_obj(moved, scale * (mesh.vertices + bump) @ turn.T + [0.1, 0.2, -0.3], mesh.faces)
        np.savetxt(moved.with_name(moved.name.replace(".obj", ".txt")), scale * landmarks @ turn.T + [0.1, 0.2, -0.3])
    return target


def _errors(folder, predictions, **options):
    found = score_predictions(NowFolder(folder), predictions, unit=1.0, **options)
    return {kind: np.concatenate([getattr(one, kind) for one in found.errors]) for kind in ("similarity", "rigid")}


def test_the_similarity_error_forgives_similarities_and_the_metrical_one_no_scale(run, whole, tmp_path):
    submission = run[1]
    plain = _errors(whole, _transformed(submission, tmp_path / "plain", noise=0.002))
    moved = _errors(whole, _transformed(submission, tmp_path / "moved", noise=0.002, scale=1.2))
    assert np.median(plain["similarity"]) > 0.3
    assert np.median(moved["similarity"]) == pytest.approx(np.median(plain["similarity"]), abs=2e-3)
    assert np.abs(moved["similarity"] - plain["similarity"]).max() < 0.05
    assert np.median(moved["rigid"]) > 2 * np.median(plain["rigid"])


def test_a_mirrored_face_is_not_turned_inside_out(run, whole, tmp_path):
    """With a reflection the error would be zero: these people are not symmetric, so that it must not be."""
    mirrored = _errors(whole, _transformed(run[1], tmp_path, mirror=True))
    assert np.median(mirrored["similarity"]) > 0.05


def test_the_command_scores_any_folder(run, whole, tmp_path, capsys):
    predictions = _transformed(run[1], tmp_path / "theirs", scale=1000.0)
    main([str(predictions), str(whole), "--unit", "mm"])
    printed = capsys.readouterr().out
    assert "| all images, rigid, median [mm] ↓ | 0.00" in printed
    assert "| occlusion, similarity, mean [mm] ↓ |" in printed
    (stored,) = json.loads((predictions / "evaluation/results.json").read_text())["reports"]
    assert stored["per_image"][0]["images"] == GOOD
    assert stored["per_image"][0]["people"] == ["FaMoS_0", "FaMoS_0", "FaMoS_1", "FaMoS_1"]
    assert cv2.imread(str(predictions / "evaluation/now_cumulative_error.png")).std() > 5


def test_the_command_looks_where_its_report_goes_before_it_computes(run, whole, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "score_predictions", lambda *_, **__: pytest.fail("it computes"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/report cannot be written to .*choose another folder"):
        main([str(run[1]), str(whole), "--output", str(tmp_path / "file/report")])


def test_the_command_refuses_gaps_unless_they_are_allowed(run, now, tmp_path, capsys):
    predictions = tmp_path / "theirs"
    shutil.copytree(run[1], predictions)
    (predictions / GOOD[0].replace(".jpg", ".npy")).unlink()
    damaged = predictions / GOOD[1].replace(".jpg", ".obj")
    damaged.write_text(damaged.read_text()[:3000])
    with pytest.raises(MissingPredictionsError, match="3 of 6"):
        main([str(predictions), str(now)])
    main([str(predictions), str(now), "--allow-missing"])
    printed = capsys.readouterr().out
    assert "**4 missing" in printed
    for line in (*GOOD[:2], BROKEN_BOX, WITHOUT_SCAN):
        assert f"- {line}: " in printed
    assert "rigid" not in printed  # no unit was given


def test_pooling_follows_the_challenges(run, whole):
    found = score_predictions(NowFolder(whole), run[1])
    rng = np.random.default_rng(0)
    errors = [
        one._replace(similarity=rng.exponential(size=size))
        for one, size in zip(found.errors, (5, 9, 4, 7), strict=True)
    ]
    report = now_report(found._replace(errors=errors))
    pooled = np.concatenate([one.similarity for one in errors])
    assert _row(report, "all images, similarity, median").ours == pytest.approx(np.median(pooled))
    assert _row(report, "all images, similarity, std").ours == pytest.approx(np.std(pooled))
    assert _row(report, "selfie, similarity, mean").ours == pytest.approx(errors[3].similarity.mean())
    values = report.per_image[0].values["all images, similarity, mean"]
    np.testing.assert_allclose(values, [one.similarity.mean() for one in errors])


def test_a_folder_that_is_not_now_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"imagepathsvalidation\.txt"):
        NowFolder(tmp_path)
    (tmp_path / "imagepathsvalidation.txt").write_text("../../etc/passwd\n")
    with pytest.raises(ValueError, match="no subject/challenge/image"):
        NowFolder(tmp_path)


def test_boxes_are_read_without_running_them(now, tmp_path):
    line = GOOD[0]
    box = read_box(NowFolder(now).box(NowFolder(now).images[list(IMAGES).index(line)]))
    assert box._asdict() == BOX
    malicious_box(tmp_path / "box.npy")
    with pytest.raises(ValueError, match="allow-list"):
        read_box(tmp_path / "box.npy")
    assert not (tmp_path / "box.npy.run").exists()
    np.save(tmp_path / "empty.npy", np.array({**BOX, "right": 40}, dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="is empty"):
        read_box(tmp_path / "empty.npy")


@pytest.mark.parametrize(
    ("box", "region"),
    [
        ((40, 80, 45, 85), (24, 96, 29, 101)),  # 1.8 times as large about its centre
        ((40, 80, 45, 95), (24, 96, 25, 115)),  # higher than wide: black at both sides
        ((5, 45, 45, 85), (0, 72, 29, 101)),  # moved in at the left edge
        ((90, 118, 10, 30), (79, 128, 2, 38)),  # cut off at the right edge
    ],
)
def test_the_crop_is_the_enlarged_box_padded_to_a_square(box, region):
    """Against PIL, which cuts and resizes in its own way: smooth pictures agree to a few gray levels."""
    y, x = np.mgrid[:120, :128]
    image = np.stack([x + 60, y + 60, 100 + 50 * np.sin(x / 9) * np.cos(y / 11)], -1).clip(0, 255).astype(np.uint8)
    left, right, top, bottom = region
    cut = Image.fromarray(image[top:bottom, left:right])
    scale = 512 / max(cut.size)
    cut = cut.resize([int(side * scale) for side in cut.size], Image.Resampling.BICUBIC)
    canvas = Image.new("RGB", (512, 512))
    canvas.paste(cut, ((512 - cut.width) // 2, (512 - cut.height) // 2))
    expected = np.asarray(canvas.resize((64, 64), Image.Resampling.BOX), np.float64)
    ours = crop_face(image, NowBox(*map(float, box)), 64)
    assert ours.shape == (64, 64, 3)
    difference = np.abs(ours - expected)
    assert np.median(difference) <= 1
    assert np.mean(difference > 12) < 0.04  # the edges of the padding


def test_a_box_outside_the_photograph_is_refused():
    with pytest.raises(ValueError, match="outside the photograph"):
        crop_face(np.zeros((50, 50, 3), np.uint8), NowBox(100, 120, 10, 30), 32)


def test_a_network_sees_crops_of_its_own_size(now, tiny_benchmark, tmp_path):
    seen = []

    class Watching(FakePredictor):
        def __call__(self, images):
            seen.append(images.shape)
            return super().__call__(images)

    predictor = Watching(tiny_benchmark.model, tiny_benchmark.params)
    folder = NowFolder(now)
    missing = predict_now(predictor, folder, tmp_path, image_size=48)
    assert seen == [(5, 48, 48, 3)]
    assert [one.image.name for one in missing] == [BROKEN_BOX]


def _shifted_landmarks(mesh, landmarks):
    return mesh, landmarks + np.array([0.0, 0.0, 0.02])


def _in_inches(mesh, landmarks):
    return mesh._replace(vertices=mesh.vertices / 0.0254), landmarks / 0.0254


def _mirrored(mesh, landmarks):
    flip = np.array([-1.0, 1.0, 1.0])
    return mesh._replace(vertices=mesh.vertices * flip), landmarks * flip


@pytest.mark.parametrize(
    ("mistake", "unit", "line"),
    [
        (_shifted_landmarks, 1.0, "eye distances off the mesh: are mesh and landmarks of one pose"),
        (_in_inches, 1.0, "it must grow 0.0254 times to fit, for the --unit given: wrong unit"),
        (_in_inches, None, "it must grow 2.54 times to fit, for metres, centimetres, millimetres: wrong unit"),
        (_mirrored, 1.0, "its landmarks fit better mirrored"),
    ],
)
def test_predictions_that_are_probably_a_mistake_get_a_line(whole, run, tmp_path, mistake, unit, line):
    predictions = tmp_path / "predictions"
    shutil.copytree(run[1], predictions)
    stem = predictions / GOOD[0].removesuffix(".jpg")
    mesh, landmarks = mistake(read_mesh(f"{stem}.obj"), read_landmarks7(f"{stem}.npy"))
    write_obj(f"{stem}.obj", mesh.vertices, mesh.faces)
    np.save(f"{stem}.npy", landmarks)
    found = score_predictions(NowFolder(whole), predictions, unit=unit)
    assert len(found.images) == len(GOOD)
    (doubt,) = found.doubtful
    assert doubt.startswith(GOOD[0])
    assert line in doubt
    assert "doubtful, in the numbers above" in markdown_table(now_report(found))


@pytest.mark.parametrize("factor", [1.0, 100.0, 1000.0])
def test_heads_of_any_usual_unit_are_not_doubted(whole, run, tmp_path, factor):
    predictions = tmp_path / "predictions"
    shutil.copytree(run[1], predictions)
    for path in predictions.rglob("*.obj"):
        mesh, landmarks = read_mesh(path), read_landmarks7(path.with_suffix(".npy"))
        write_obj(path, 1.1 * factor * mesh.vertices, mesh.faces)
        np.save(path.with_suffix(".npy"), 1.1 * factor * landmarks)
    assert not score_predictions(NowFolder(whole), predictions).doubtful


def test_all_points_may_steer(whole, run, tmp_path, capsys):
    main([str(run[1]), str(whole), "--unit", "m", "--all-points", "--output", str(tmp_path)])
    assert "| all images, similarity, median [mm] ↓ | 0.000 |" in capsys.readouterr().out
