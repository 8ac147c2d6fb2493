"""Videos as people have them: when each frame is shown, which way up, and what is no intact video."""

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from sheap_jax.data.prepare.clips import Clip, PrepareError
from sheap_jax.data.prepare.decoding import Clock
from sheap_jax.data.prepare.video import FrameReader
from tests.data.odd_videos import HEIGHT, WIDTH, cut_start, picture, set_matrix, write_frames, write_sound

REGULAR = np.arange(20) / 25
IRREGULAR = np.cumsum(np.random.default_rng(0).choice([0.02, 0.033, 0.05, 0.4], 20)).round(3)


def read(path: Path, **options) -> tuple[list, np.ndarray]:
    """The frames that a reader gives, and its times."""
    reader = FrameReader(Clip("a", "a", (path,), is_video=True), **options)
    return list(reader), reader.times


def numbers(frames: list) -> list[int]:
    """Which picture each frame shows."""
    return [round(float(frame.image[..., 2].mean()) / 10) for frame in frames]


@pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv"])
@pytest.mark.parametrize("start", [0.0, 10.0])
def test_frames_keep_their_stamps(tmp_path, suffix, start):
    frames, times = read(write_frames(tmp_path / f"a.{suffix}", IRREGULAR + start, options={"bf": "2"}))
    np.testing.assert_allclose([frame.seconds for frame in frames], IRREGULAR - IRREGULAR[0], atol=1e-6)
    np.testing.assert_allclose(times[:-1], IRREGULAR - IRREGULAR[0], atol=1e-6)
    assert numbers(frames) == list(range(20))
    assert times[-1] > times[-2]


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_pause_is_kept(tmp_path, suffix):
    stamps = np.where(np.arange(20) < 10, REGULAR, REGULAR + 30.0)
    _, times = read(write_frames(tmp_path / f"a.{suffix}", stamps))
    np.testing.assert_allclose(times[:-1], stamps, atol=1.01e-3)


def test_frames_whose_stamps_the_container_cannot_hold_follow_at_the_stated_rate(tmp_path):
    """Matroska knows no time before 0: such frames come out without a stamp."""
    frames, times = read(write_frames(tmp_path / "a.mkv", REGULAR - 0.5, avoid_negative_ts="disabled"))
    assert numbers(frames) == list(range(20))
    np.testing.assert_allclose(times[:-1], REGULAR, atol=1.01e-3)


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([5.0, 5.04, 5.04, 5.12], [0.0, 0.04, 0.06, 0.12]),  # equal
        ([5.0, 5.08, 5.04, 5.12], [0.0, 0.08, 0.1, 0.12]),  # out of order
        ([5.0, 5.04, 0.0, 0.1], [0.0, 0.04, 0.08, 0.18]),  # a clock set back
        ([None, None, None, 7.0], [0.0, 0.04, 0.08, 0.12]),
        ([5.0, None, 5.2], [0.0, 0.04, 0.2]),
    ],
)
def test_time_goes_forward_whatever_the_stamps(stamps, expected):
    clock = Clock(1 / 25)
    np.testing.assert_allclose([clock.advance(stamp) for stamp in stamps], expected, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mkv", {}),
        ("a.ts", {}),
        ("a.webm", {"codec": "libvpx"}),
        ("a.avi", {"codec": "mpeg4", "tick": Fraction(1, 25)}),
        ("a.mpg", {"codec": "mpeg2video", "tick": Fraction(1, 25)}),
        ("a.m2v", {"codec": "mpeg2video", "tick": Fraction(1, 25)}),  # a raw stream without stamps
        ("a.avi", {"tick": Fraction(1, 25), "options": {"bf": "2"}}),  # which has stamps out of order
    ],
)
def test_a_regular_video_is_regular_in_every_container(tmp_path, name, options):
    frames, times = read(write_frames(tmp_path / name, REGULAR, **options))
    assert numbers(frames) == list(range(20))
    tolerance = 0.041 if "options" in options else 1e-3
    np.testing.assert_allclose(times, np.arange(21) / 25, atol=tolerance)
    assert (np.diff(times) > 0).all()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_one_frame_lasts_as_long_as_the_file_says(tmp_path, name):
    frames, times = read(write_frames(tmp_path / name, [3.0]))
    assert (len(frames), times[0]) == (1, 0.0)
    assert 0.0 < times[1] < 0.1


def test_an_edit_list_is_followed(tmp_path):
    path = write_frames(tmp_path / "a.mp4", REGULAR, options={"bf": "0"})
    cut_start(path, 0.2)
    frames, times = read(path)
    assert numbers(frames) == list(range(5, 20))
    np.testing.assert_allclose(times, np.arange(16) / 25, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"movflags": "frag_keyframe", "options": {"g": "4"}}),  # states the frames of its first fragment
        ("a.mkv", {"live": "1"}),
        ("a.webm", {"codec": "libvpx"}),
    ],
)
@pytest.mark.parametrize(("most", "expected"), [(0, 20), (10, 10), (7, 7), (30, 20)])
def test_at_most_so_many_frames_whatever_the_container_states(tmp_path, name, options, most, expected):
    path = write_frames(tmp_path / name, IRREGULAR, **options)
    frames, times = read(path, max_frames=most)
    assert len(frames) == expected
    assert len(times) == 21


@pytest.mark.parametrize(
    ("matrix", "turned"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
        ((0, -1, 1, 0), lambda image: np.rot90(image)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),  # the mirror of front cameras
    ],
)
def test_videos_of_phones_are_upright(tmp_path, matrix, turned):
    path = write_frames(tmp_path / "a.mp4", REGULAR[:3])
    set_matrix(path, *matrix)
    frames, _ = read(path)
    np.testing.assert_allclose(frames[0].image.astype(int), turned(picture(0)), atol=12)
    if matrix[0] >= 0 or matrix[3] < 0:  # OpenCV turns, but does not mirror
        theirs = cv2.VideoCapture(str(path)).read()[1][..., ::-1]
        np.testing.assert_array_equal(frames[0].image, theirs)


@pytest.mark.parametrize(
    ("aspect", "shape"), [(Fraction(4, 3), (HEIGHT, 85)), (Fraction(8, 9), (54, WIDTH)), (Fraction(2), (HEIGHT, 128))]
)
def test_pixels_are_squared(tmp_path, aspect, shape):
    frames, _ = read(write_frames(tmp_path / "a.mp4", REGULAR[:2], aspect=aspect))
    assert frames[0].image.shape == (*shape, 3)
    np.testing.assert_allclose(frames[1].image.astype(int), picture(1, height=shape[0], width=shape[1]), atol=12)


def test_pixels_are_squared_before_the_picture_is_turned(tmp_path):
    path = write_frames(tmp_path / "a.mp4", REGULAR[:2], aspect=Fraction(2))
    set_matrix(path, 0, 1, -1, 0)
    assert read(path)[0][0].image.shape == (128, HEIGHT, 3)


@pytest.mark.parametrize(
    "name", ["12:30:00.mp4", "a%03d.mp4", "with space.MP4", "Käfer 视频.mp4", "[1].mp4", "file:x.mp4"]
)
def test_any_file_name(tmp_path, name):
    path = write_frames(tmp_path / "v1:test %d" / name, REGULAR[:3])
    assert len(read(path)[0]) == 3


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"movflags": "faststart"}),
        ("a.mp4", {}),
        ("a.mp4", {"movflags": "frag_keyframe+empty_moov"}),
        ("a.mkv", {}),
        ("a.mkv", {"live": "1"}),  # a recorder that does not know how long it will go on
        ("a.avi", {"codec": "mpeg4", "tick": Fraction(1, 25)}),
    ],
)
@pytest.mark.parametrize("kept", [0.5, 0.98])
def test_a_truncated_file_is_noticed(tmp_path, name, options, kept):
    path = write_frames(tmp_path / name, np.arange(40) / 25, **options)
    assert len(read(path)[0]) == 40
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(PrepareError, match=r"is truncated, \d+ bytes are missing at its end: copy it again"):
        read(path)


def test_a_download_that_left_zeros_is_noticed(tmp_path):
    path = write_frames(tmp_path / "a.mkv", np.arange(40) / 25, options={"g": "1"})
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(len(content) - half))
    with pytest.raises(PrepareError, match=r"is truncated: .* then zeros"):
        read(path)


def damage(folder: Path) -> bytes:
    """A video of which most packets are noise, in a sound container."""
    content = bytearray(write_frames(folder / "whole.mp4", REGULAR, options={"g": "1"}).read_bytes())
    start, end = content.find(b"mdat"), content.find(b"moov") - 4
    start += (end - start) // 2
    content[start:end] = bytes(end - start)
    return bytes(content)


def as_picture(folder: Path) -> bytes:
    Image.fromarray(picture(0)).save(folder / "a.jpg")
    return (folder / "a.jpg").read_bytes()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda folder: b"", "is empty: 0 bytes"),
        (lambda folder: b"a letter, not a video" * 9, "cannot be opened as a video"),
        (as_picture, "is a picture, not a video"),
        (lambda folder: write_sound(folder / "sound.mp4").read_bytes(), "holds no video, only sound"),
        (damage, r"is damaged: \d+ of \d+ packets cannot be decoded"),
    ],
)
def test_what_is_no_video_says_what_it_is(tmp_path, content, words):
    (tmp_path / "odd.mp4").write_bytes(content(tmp_path))
    with pytest.raises(PrepareError, match=words):
        read(tmp_path / "odd.mp4")


def test_missing_files_and_mad_pixels(tmp_path):
    with pytest.raises(PrepareError, match="is missing"):
        read(tmp_path / "nowhere.mp4")
    with pytest.raises(PrepareError, match="states pixels 20 times as wide as high"):
        read(write_frames(tmp_path / "a.mp4", REGULAR, aspect=Fraction(20)))


def write_sizes(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """A stream whose frames have these sizes, as a call's recording."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = sizes[0][0], sizes[0][1], "yuvj444p"
        for number, (width, height) in enumerate(sizes):
            _, jpeg = cv2.imencode(".jpg", picture(number, height=height, width=width)[..., ::-1])
            packet = av.Packet(jpeg.tobytes())
            packet.stream, packet.pts, packet.dts, packet.time_base = stream, number, number, Fraction(1, 25)
            container.mux(packet)
    return path


def test_all_frames_have_the_size_of_the_first(tmp_path):
    frames, _ = read(write_sizes(tmp_path / "a.mkv", [(64, 48), (32, 24), (128, 96)]))
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    np.testing.assert_allclose(frames[1].image[::8, ::8, 0], frames[0].image[::8, ::8, 0].astype(int), atol=12)
    with pytest.raises(PrepareError, match="changes from 64 x 48 to 48 x 64 pixels at frame 1: cut it there"):
        read(write_sizes(tmp_path / "b.mkv", [(64, 48), (48, 64)]))


def test_trials(shared_trials):
    for name in ("recorder.webm", "recorder_no_rate.webm", "with_duration.webm", "irregular.mkv"):
        frames, times = read(shared_trials / name)
        assert len(frames) == 100
        assert times[-1] == pytest.approx(4.125, abs=0.01)
        assert 100 / times[-1] == pytest.approx(24.2, abs=0.1)
        assert len(read(shared_trials / name, max_frames=10)[0]) == 10
    frames = [read(shared_trials / f"{name}.mp4")[0][0] for name in ("square", "anamorphic")]
    # The second has half the columns: alike up to what lies between two of them.
    square, squeezed = (cv2.blur(frame.image, (9, 9)).astype(int) for frame in frames)
    assert np.abs(square - squeezed).mean() < 2


def test_frames_of_more_pixels_than_are_read_are_refused_by_the_header(tmp_path, monkeypatch):
    path = write_frames(tmp_path / "a.mkv", np.arange(3) / 25)
    clip = Clip("a", "a", (path,), is_video=True)
    assert len(list(FrameReader(clip))) == 3
    monkeypatch.setattr("sheap_jax.data.prepare.decoding._MOST_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(PrepareError, match=rf"states {WIDTH} x {HEIGHT} pixels, more than"):
        list(FrameReader(clip))


def test_a_title_may_be_in_any_encoding(tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        container.metadata["title"] = "TITLE"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 32, 32
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(stream.encode())
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.count(b"TITLE") == 1
    (tmp_path / "a.mp4").write_bytes(data.replace(b"TITLE", b"\xff\xfe\xe9A\xe8"))
    assert len(list(FrameReader(Clip("a", "a", (tmp_path / "a.mp4",), is_video=True)))) == 1
