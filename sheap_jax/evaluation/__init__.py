"""Benchmarks: scores with their baselines, and reports."""
