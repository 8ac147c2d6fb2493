"""Videos of a few frames with a green nose on red, and 68 points that go with them."""

from pathlib import Path

import cv2
import numpy as np

HEIGHT, WIDTH, FRAMES = 120, 160, 8
RED, GREEN = (255, 0, 0), (0, 255, 0)  # RGB


def face_points(frame: int = 0) -> np.ndarray:
    """68 points on an ellipse 40 x 50 pixels about (70 + frame, 70), with eye corners and nose of a frontal face."""
    angle = np.linspace(0, 2 * np.pi, 68, endpoint=False)
    points = np.stack([20 * np.cos(angle), 25 * np.sin(angle)], axis=1)
    points[[36, 45, 30]] = (-12, -5), (12, -5), (0, 5)
    return points + np.array([70.0 + frame, 70.0])


def draw(frame: int) -> np.ndarray:
    """An image whose green nose and red surroundings can be found again."""
    image = np.full((HEIGHT, WIDTH, 3), RED, np.uint8)
    cv2.circle(image, tuple(int(c) for c in face_points(frame)[30]), 5, GREEN, -1)
    return image


def write_video(path: Path, frames: int = FRAMES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, (WIDTH, HEIGHT))
    assert writer.isOpened()
    for frame in range(frames):
        writer.write(cv2.cvtColor(draw(frame), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def write_landmarks(path: Path, videos: dict[str, np.ndarray]) -> Path:
    """An archive with one set per video."""
    arrays = {"sets": np.array([f"set{i}" for i in range(len(videos))])}
    for i, (file, points) in enumerate(videos.items()):
        arrays |= {f"set{i}_files": np.array([file]), f"set{i}_lmk68": points.astype(np.float32)}
    np.savez(path, **arrays)
    return path


def all_points(frames: int = FRAMES) -> np.ndarray:
    return np.stack([face_points(i) for i in range(frames)])
