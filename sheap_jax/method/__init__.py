"""The method of the paper: one file for each part, from a pair of frames to the loss."""
