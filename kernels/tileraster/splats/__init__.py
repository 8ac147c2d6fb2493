"""Surfels and ellipsoids: projection, the formula of one pixel and one splat, references, compositing by XLA."""
