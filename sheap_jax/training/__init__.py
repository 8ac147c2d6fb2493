"""What makes a run: state, step, sharding over devices, checkpoints, metrics, watching."""
