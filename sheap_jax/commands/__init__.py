"""The `sheap` command. `train.py` here is the training from its first line to its last."""
