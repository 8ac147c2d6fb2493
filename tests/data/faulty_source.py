"""Landmarks whose detector crashes, hangs or is slow at chosen clips; in a module, for processes to import."""

import os
import signal
import time
from typing import Any

from sheap_jax.data.prepare.clips import Clip
from tests.data.tiny_videos import face_points


class FaultySource:
    """Finds the drawn face, except in clips named after a fault."""

    def describe(self) -> dict[str, Any]:
        return {"landmarks": "faulty"}

    def start(self, clip: Clip) -> None:
        self.name = clip.name

    def detect(self, number: int, image: Any) -> Any:
        if self.name == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self.name == "hang":
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            time.sleep(60)
        return face_points(number)[None]

    def finish(self, frames: int) -> None:
        pass
