"""Losses: one small file per family, unreduced values; `weighting` masks, weighs and sums them in one place."""
