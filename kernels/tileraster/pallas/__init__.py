"""Compositing by kernels for TPU and GPU."""
