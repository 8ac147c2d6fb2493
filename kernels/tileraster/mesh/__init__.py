"""Triangles: the face that each pixel sees, by XLA or on a TPU, and where its ray hits."""
