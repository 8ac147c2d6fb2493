"""The crop of the official release's video demo by its own numbers, and a face to crop."""

import numpy as np


def official_corners(landmarks: np.ndarray, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """As its video demo computes them, in shares of width and height: margin 0.9, shift 0.5, clamped to [0, 1]."""
    shares = landmarks / [width, height]
    low, high = shares.min(axis=0), shares.max(axis=0)
    half = (high - low).max() / 2
    up, half = np.array([0.0, 0.5 * half]), 1.9 * half
    sides = np.array([half / (width / height), half])
    center = (low + high) / 2 - up
    return np.clip(center - sides, 0, 1) * [width, height], np.clip(center + sides, 0, 1) * [width, height]


def face(width: int, height: int, *, where=(0.5, 0.5), side: float = 60.0) -> np.ndarray:
    """Landmarks whose extent is a little wider than high; eyes level."""
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (68, 2)) * [side, 0.9 * side]
    points[36], points[45] = (-10.0, -5.0), (10.0, -5.0)
    return points + np.array(where) * [width, height]


def face_of_crop(left: int, top: int, side: int, *, width: int, height: int) -> np.ndarray:
    """Landmarks whose official crop is this square, where it lies within the picture; not so by a rule of pixels."""
    half = side / 2 / 1.9
    points = face(0, 0, where=(0, 0), side=2 * half * width / height)
    low, high = points.min(axis=0), points.max(axis=0)
    points = (points - (low + high) / 2) * (2 * half * width / height / (high - low)[0])
    return points + np.array([left + side / 2, top + side / 2 + 0.5 * half])
