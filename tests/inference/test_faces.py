"""Where faces are said to be, and who is who from frame to frame."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sheap_jax.cropping import CropBox, crop_box, crop_detection, follow_box
from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.face_search import FaceSearch
from sheap_jax.data.prepare.landmarks import FaceLandmarker, NpzLandmarks
from sheap_jax.inference.faces import BoxFaces, LandmarkFaces, Tracker, WholePicture, overlap
from tests.data.tiny_videos import face_points

PHOTOGRAPH = Clip("a", "a", (Path("some/a.jpg"),), is_video=False)
VIDEO = Clip("v", "v", (Path("some/v.mp4"),), is_video=True)
IMAGE = np.zeros((120, 160, 3), np.uint8)


def square(x: float, y: float, half: float) -> CropBox:
    return CropBox(np.array([x, y]), np.array(half))


def test_boxes_of_a_csv_file(tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("file,left,top,right,bottom,frame\na.jpg,10,20,50,60,\na.jpg,70,20,90,40,\nv.mp4,0,0,10,10,2\n")
    faces = BoxFaces(path)
    faces.start(PHOTOGRAPH)
    first, second = faces.find(0, IMAGE)
    # By hand: half side 20 x 1.75, centre (30, 40) moved up by 0.38 x 20.
    np.testing.assert_allclose((*first.center, first.half), (30, 32.4, 35))
    np.testing.assert_allclose((*second.center, second.half), (80, 26.2, 17.5))
    faces.start(VIDEO)
    assert [len(faces.find(frame, IMAGE)) for frame in range(4)] == [0, 0, 1, 0]
    faces.finish(3)
    with pytest.raises(PrepareError, match=r"has 2 frames, but boxes\.csv has a box for frame 2"):
        faces.finish(2)
    with pytest.raises(PrepareError, match=r"no box for b\.jpg in boxes\.csv"):
        faces.start(Clip("b", "b", (Path("b.jpg"),), is_video=False))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,left,top\na,1,2", "lacks the column right, bottom"),
        ("file,left,top,right,bottom\na,1,2,3,x", r"line 2: bottom is 'x', expected a number"),
        ("file,left,top,right,bottom\na,1,2,3", r"line 2: bottom is '', expected a number"),
        ("file,left,top,right,bottom\na,1,2,1,5", r"line 2: the box \[1.0, 2.0, 1.0, 5.0\].*is empty"),
        (
            "file,left,top,right,bottom\na,0.1,0.2,0.6,0.7",
            r"line 2: .*smaller than 2 pixels: sides are pixels",
        ),
        ("file,left,top,right,bottom\n,1,2,30,50", r"line 2: no file is named"),
        ("file,left,top,right,bottom\na,b.jpg,1,2,30,50", r"line 2: 6 cells for 5 columns; quote names with ','"),
        ("file,left,top,right,bottom,frame\na,1,2,30,50,-1", r"line 2: frame is '-1', expected a whole number from 0"),
        ("PK\x03\x04\0\0\0", r"is no text: save the table as CSV"),
        ("", r"lacks the column file, left"),
        ("file,left,top,right,bottom,frame\na,1,2,3,5,half", r"line 2: frame is 'half', expected a number"),
    ],
)
def test_bad_csv_files_are_named(tmp_path, text, words):
    (tmp_path / "b.csv").write_text(text + "\n")
    with pytest.raises(ValueError, match=rf"b\.csv.*{words}"):
        BoxFaces(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("file,left,top,right,bottom\nCaf\u00e9.jpg,10,20,50,60\n", "utf-8-sig"),
        ('file,left,top,right,bottom\r\n"Caf\u00e9.jpg",10,20,50,60\r\n\r\n', "utf-8"),
        ("file;left;top;right;bottom\r\nCaf\u00e9.jpg;10,0;20,0;50,0;60,0\r\n;;;;\r\n", "cp1252"),
        ("sep=;\r\nfile;left;top;right;bottom\r\nCaf\u00e9.jpg;10;20;50;60\r\n", "utf-8-sig"),
        ("file\tleft\ttop\tright\tbottom\r\nCaf\u00e9.jpg\t10\t20\t50\t60\r\n", "utf-16"),
        ("Bottom, Right, Top, Left, File, score\n60, 50, 20, 10, Caf\u00e9.jpg, 0.9\n", "utf-8"),
        ("file,left,top,right,bottom\nholiday\\Caf\u00e9.jpg,10,20,50,60,,\n", "utf-8"),
        ("file,left,top,right,bottom\nCafe\u0301.jpg,10,20,50,60\n", "utf-8"),  # an accent apart, as macOS writes it
    ],
)
def test_tables_of_any_spreadsheet(tmp_path, text, encoding):
    (tmp_path / "boxes.csv").write_bytes(text.encode(encoding))
    faces = BoxFaces(tmp_path / "boxes.csv")
    faces.start(Clip("a", "a", (tmp_path / "holiday/Caf\u00e9.jpg",), is_video=False))
    (box,) = faces.find(0, IMAGE)
    np.testing.assert_allclose((*box.center, box.half), (30, 32.4, 35))


@pytest.mark.parametrize("sides", ["200,20,260,60", "-60,-60,10,10", "10,200,50,260"])
def test_a_box_outside_its_picture_is_named_by_its_line(tmp_path, sides):
    (tmp_path / "boxes.csv").write_text(f"file,left,top,right,bottom\nb.jpg,1,1,9,9\na.jpg,{sides}\n")
    faces = BoxFaces(tmp_path / "boxes.csv")
    faces.start(PHOTOGRAPH)
    with pytest.raises(PrepareError, match=r"boxes\.csv, line 3: the middle of the box .* the picture of 160 x 120"):
        faces.find(0, IMAGE)


@pytest.mark.parametrize("sides", ["-1e9,-1e9,1e9,1e9", "-900,0,1060,120"])
def test_a_box_that_is_larger_than_any_face_is_named_by_its_line(tmp_path, sides):
    (tmp_path / "boxes.csv").write_text(f"file,left,top,right,bottom\na.jpg,{sides}\n")
    faces = BoxFaces(tmp_path / "boxes.csv")
    faces.start(PHOTOGRAPH)
    with pytest.raises(
        PrepareError, match=r"boxes\.csv, line 2: the box .* more than 10 times .* picture of 160 x 120"
    ):
        faces.find(0, IMAGE)


def test_a_face_that_leaves_the_picture_is_one(tmp_path):
    (tmp_path / "boxes.csv").write_text("file,left,top,right,bottom\na.jpg,-30,20,50,130\n")
    faces = BoxFaces(tmp_path / "boxes.csv")
    faces.start(PHOTOGRAPH)
    assert len(faces.find(0, IMAGE)) == 1


def test_boxes_of_a_folder_of_frames(tmp_path):
    (tmp_path / "boxes.csv").write_text("file,left,top,right,bottom\nw/1.jpg,1,1,9,9\nw/10.jpg,2,2,9,9\n")
    faces = BoxFaces(tmp_path / "boxes.csv")
    faces.start(Clip("w", "w", tuple(Path(f"w/{number}.jpg") for number in (1, 2, 10)), is_video=False))
    assert [len(faces.find(number, IMAGE)) for number in range(3)] == [1, 0, 1]
    faces.finish(3)


def test_missing_and_damaged_files_of_faces_are_named(tmp_path):
    for read in (BoxFaces, NpzLandmarks):
        with pytest.raises(ValueError, match="nothing cannot be read: No such file"):
            read(tmp_path / "nothing")
        with pytest.raises(ValueError, match="cannot be read: Is a directory"):
            read(tmp_path)
    np.savez(tmp_path / "l.npz", sets=["p"], p_files=[b"a.jpg"], p_lmk68=np.zeros((1, 68, 2)))
    whole = (tmp_path / "l.npz").read_bytes()
    for content, words in (
        (b"file,left", "is a text file"),
        (whole[:-40], "is damaged"),
        (whole, "p_files must be"),
    ):
        (tmp_path / "l.npz").write_bytes(content)
        with pytest.raises(ValueError, match=rf"l\.npz.*{words}"):
            NpzLandmarks(tmp_path / "l.npz")


def test_boxes_frame_a_face_as_its_landmarks_do(shared_data):
    with np.load(shared_data / "faces/landmarks.npz") as stored:
        for name in stored["sets"]:
            by_landmarks, by_box = crop_box(stored[f"{name}_lmk68"]), crop_detection(stored[f"{name}_box"])
            shift = np.linalg.norm(by_box.center - by_landmarks.center, axis=1) / by_landmarks.half
            assert np.median(shift) < 0.08
            assert abs(np.median(by_box.half / by_landmarks.half) - 1) < 0.08


def test_several_faces_of_an_npz_file(tmp_path):
    points = np.full((3, 2, 68, 2), np.nan, np.float32)
    points[0] = face_points(), face_points(40)
    points[2, 1] = face_points(10)
    np.savez(tmp_path / "l.npz", sets=["v"], v_files=["v.mp4"], v_lmk68=points)
    faces = LandmarkFaces(NpzLandmarks(tmp_path / "l.npz"))
    faces.start(VIDEO)
    found = [faces.find(frame, IMAGE) for frame in range(3)]
    assert [len(boxes) for boxes in found] == [2, 0, 1]
    np.testing.assert_allclose(found[2][0].center, crop_box(face_points(10)).center, rtol=1e-6)


def test_faces_outside_the_picture_are_none(tmp_path):
    np.savez(tmp_path / "l.npz", sets=["p"], p_files=["a.jpg"], p_lmk68=face_points()[None] + 500)
    faces = LandmarkFaces(NpzLandmarks(tmp_path / "l.npz"))
    faces.start(PHOTOGRAPH)
    assert faces.find(0, IMAGE) == []
    with pytest.raises(PrepareError, match=r"no usable face: most landmarks outside the image \(1\)"):
        faces.finish(1)


def test_mediapipe_finds_all_faces_through_its_adapter(tmp_path, monkeypatch):
    """A stand-in with MediaPipe's interface: normalised points, as many faces as asked for."""
    asked = {}

    def point(i, scale):
        return SimpleNamespace(x=0.25 + scale * 0.001 * i, y=0.5 + scale * 0.0005 * (i % 50))

    class Landmarker:
        @staticmethod
        def create_from_options(options):
            asked.update(options)
            return Landmarker()

        def detect(self, frame):
            if frame["data"].shape == (64, 64, 3):  # the empty picture with which it is started
                return SimpleNamespace(face_landmarks=[])
            assert frame["data"].shape == IMAGE.shape
            small, large = ([point(i, scale) for i in range(478)] for scale in (0.5, 1.0))
            return SimpleNamespace(face_landmarks=[small, large][: asked["num_faces"]])

        def close(self):
            asked["closed"] = True

    vision = SimpleNamespace(FaceLandmarker=Landmarker, FaceLandmarkerOptions=dict)
    tasks = SimpleNamespace(BaseOptions=dict, vision=vision)
    package = SimpleNamespace(Image=dict, ImageFormat=SimpleNamespace(SRGB=1))
    for name, module in {"mediapipe": package, "mediapipe.tasks": tasks, "mediapipe.tasks.python": tasks}.items():
        monkeypatch.setitem(sys.modules, name, module)
    (tmp_path / "model.task").touch()
    monkeypatch.setattr(FaceSearch, "_movement", lambda *arguments, **options: 0.0)
    alone = FaceLandmarker(tmp_path / "model.task").detect(0, IMAGE)
    landmarker = FaceLandmarker(tmp_path / "model.task", max_faces=2)
    found = landmarker.detect(0, IMAGE)
    assert found.shape == (2, 68, 2)
    np.testing.assert_array_equal(alone, found[:1])  # the largest, which was not found first
    # iBUG 30, the tip of the nose, is vertex 4 of the mesh.
    np.testing.assert_allclose(found[0, 30], ((0.25 + 0.004) * 160, (0.5 + 0.002) * 120))
    assert len(LandmarkFaces(landmarker).find(0, IMAGE)) == 2
    landmarker.close()
    assert asked["closed"]


def test_a_picture_that_is_a_crop_is_taken_whole():
    (box,) = WholePicture().find(0, IMAGE)
    np.testing.assert_allclose((*box.center, box.half), (80, 60, 80))


def test_overlap_of_squares():
    assert overlap(square(0, 0, 1), square(0, 0, 1)) == 1.0
    assert overlap(square(0, 0, 1), square(1, 0, 1)) == pytest.approx(2 / 6)
    assert overlap(square(0, 0, 2), square(0, 0, 1)) == pytest.approx(4 / 16)
    assert overlap(square(0, 0, 1), square(3, 0, 1)) == 0.0


def test_tracks_follow_two_people_however_they_are_listed():
    tracker, rng = Tracker(patience=0.2), np.random.default_rng(0)
    for frame in range(20):
        people = [square(50 + 2 * frame, 50, 20), square(150 - frame, 60, 30)]
        order = rng.permutation(2)
        left, right = sorted(
            tracker.follow(frame, frame / 25, [people[k] for k in order]), key=lambda face: face.box.center[0]
        )
        assert (left.track, right.track) == (1, 0)  # the larger one was first


def test_crops_of_a_track_are_smoothed_over_gaps_and_end_after_patience():
    tracker = Tracker(patience=3 / 25)
    (first,) = tracker.follow(0, 0 / 25, [square(50, 50, 20)])
    assert tracker.follow(1, 1 / 25, []) == []
    (again,) = tracker.follow(2, 2 / 25, [square(60, 50, 20)])
    expected = follow_box(first.box, square(60, 50, 20), frames=2)
    assert again.track == first.track
    np.testing.assert_allclose(again.box.center, expected.center)
    (late,) = tracker.follow(6, 6 / 25, [square(60, 50, 20)])
    assert late.track == 1
    np.testing.assert_allclose(late.box.center, (60, 50))


def test_a_track_ends_by_the_clock_and_not_in_a_pause():
    tracker, box = Tracker(patience=1.0), square(60, 50, 20)
    seconds = [0.0, 0.5, 30.0, 30.02, 30.9, 32.0]  # of frames 0, 1, 2, 3, 4, 8: the video itself paused after 1
    tracks = [tracker.follow(frame, at, [box])[0].track for frame, at in zip((0, 1, 2, 3, 4, 8), seconds, strict=True)]
    assert tracks == [0, 0, 0, 0, 0, 1]
