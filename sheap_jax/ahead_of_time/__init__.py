"""What a run costs on devices that are not there: memory, traffic, time, from programs compiled ahead of time."""
