"""Who is in a file by its path, for the layouts as their collections document them."""

import os
from pathlib import Path, PurePosixPath

import pytest

from sheap_jax.data.prepare.clips import find_clips
from sheap_jax.data.prepare.layouts import Layout


@pytest.mark.parametrize(
    ("layout", "path", "identity", "clip"),
    [
        ("voxceleb2", "dev/mp4/id00012/21Uxsk56VDQ/00001.mp4", "id00012", "21Uxsk56VDQ-00001"),
        ("voxceleb2", "id00012/21Uxsk56VDQ/00001.mp4", "id00012", "21Uxsk56VDQ-00001"),
        ("mead", "M003/video/left_30/angry/level_2/011.mp4", "M003", "left_30-angry-level_2-011"),
        ("celebvhq", "35666/M2Ohb0FAaJU_1.mp4", "M2Ohb0FAaJU_1", "M2Ohb0FAaJU_1"),
        (
            "talkinghead1kh",
            "train/cropped_clips/--Y9imYnfBw_0000_S0_E271_L504_T63_R792_B351.mp4",
            "--Y9imYnfBw",
            "--Y9imYnfBw-0000-0-271-504-63-792-351",
        ),
        ("vfhq", "Clip+_0tf2n3rlJU+P1+C0+F1537-1825/00000003.png", "_0tf2n3rlJU+P1", "C0-F1537-1825"),
        ("stills", "00000/00017.png", "00000-00017", "00000-00017"),
        ("folder", "id1/talk/1.mp4", "id1", "talk-1"),
        ("folder", "id1/frames/a.png", "id1", "frames"),
        ("folder", "id1/a.png", "id1", "id1"),
        ("video", "id1/talk/1.mp4", "id1-talk-1", "id1-talk-1"),
        ("video", "id1/talk/a.png", "id1-talk", "id1-talk"),
        ("video", "a.png", "root", "root"),
        ("{identity}_{clip}", "some/where/anna_smiles.mp4", "anna", "smiles"),
    ],
)
def test_person_and_clip_of_a_path(layout, path, identity, clip):
    place = Layout(layout).place(PurePosixPath(path), is_video=path.endswith("mp4"), root="root")
    assert place is not None
    assert place[:2] == (identity, clip)


@pytest.mark.parametrize(
    ("layout", "path"), [("voxceleb2", "00001.mp4"), ("vfhq", "Clip+a+P0+C0+F0-9/movie.mp4"), ("folder", "1.mp4")]
)
def test_a_path_that_does_not_fit(layout, path):
    assert Layout(layout).place(PurePosixPath(path), is_video=True, root="root") is None


def test_bad_layouts_are_refused():
    with pytest.raises(ValueError, match=r"'voxceleb': choose video, .*voxceleb2.* or a template"):
        Layout("voxceleb")
    with pytest.raises(ValueError, match="is not a template"):
        Layout("{clip}/{clip}")
    with pytest.raises(ValueError, match=r"\{foo\} is no field of a path; there are identity, video, .*clip, frame"):
        Layout("{identity}/{foo}")


def test_files_that_do_not_fit_are_listed(tmp_path):
    for name in ("id2/v/2.mp4", "id1/v/1.mp4", "readme.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_clips([tmp_path], Layout("voxceleb2"))
    assert [(clip.identity, clip.source) for clip in found.clips] == [("id1", "id1/v/1.mp4"), ("id2", "id2/v/2.mp4")]
    assert found.refused == [(tmp_path / "readme.png", "its path does not fit the layout")]
    with pytest.raises(ValueError, match=r"fits the layout 'mead', .*1\.mp4 for instance"):
        find_clips([tmp_path], Layout("mead"))


def test_images_of_two_folders_are_two_clips_even_if_named_alike(tmp_path):
    """One of them is taken, the other one listed."""
    for name in ("a/x/1.png", "b/x/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    found = find_clips([tmp_path], Layout("{clip}/{frame}"))
    assert [clip.path for clip in found.clips] == [tmp_path / "a/x/1.png"]
    ((path, reason),) = found.refused
    assert path == tmp_path / "b/x/1.png"
    assert reason == f"gives the clip x/x, which {tmp_path / 'a/x/1.png'} gives already: rename one"


def test_files_of_equal_names_cost_no_other(tmp_path):
    for name in ("anim.mp4", "anim.webm", "bert.mp4"):
        (tmp_path / name).touch()
    found = find_clips([tmp_path, tmp_path / "bert.mp4"], Layout("video"))
    assert [clip.path.name for clip in found.clips] == ["anim.mp4", "bert.mp4"]
    assert [refused.path.name for refused in found.refused] == ["anim.webm"], "a file named twice is one clip"


def test_missing_input(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        find_clips([tmp_path / "nowhere"], Layout("video"))
    (tmp_path / "x.txt").touch()
    with pytest.raises(ValueError, match="neither a folder nor a video nor an image"):
        find_clips([Path(tmp_path / "x.txt")], Layout("video"))


def test_names_that_are_no_text_are_escaped(tmp_path):
    try:
        (tmp_path / os.fsdecode(b"a\xff.mp4")).touch()
    except OSError:
        pytest.skip("this file system takes text only")
    (clip,) = find_clips([tmp_path], Layout("video")).clips
    assert (clip.identity, clip.source) == ("a\\xff", "a\\xff.mp4")
