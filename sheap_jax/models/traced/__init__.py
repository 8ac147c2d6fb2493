"""Networks that are known by their recorded computation only: TorchScript traces, translated once, run by JAX alone.

`reader` turns a trace into a `Program`, `runner` runs it. What an operation does is in the modules beside them, under
the names and arguments that TorchScript gives it.
"""
