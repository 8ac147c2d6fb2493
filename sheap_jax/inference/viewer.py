"""A head in the browser: mesh and surfels, moved and lit by sliders.

    sheap view alice.npz         # an avatar that `sheap avatar` made
    sheap view runs/small        # a training run: the mean head, then any photo you upload

Photos need an option that says where their faces are, such as --face-landmarker MODEL.task.
Serves http://127.0.0.1:8080; --host 0.0.0.0 opens it to the network. Needs viser: pip install "sheap-jax[viewer]".
"""

import argparse
import contextlib
import io
import re
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sheap_jax import command_line
from sheap_jax.inference.avatar import ERRORS, RiggedSurfels, avatar_of_photo, load_avatar, load_model_of
from sheap_jax.inference.crops import add_face_options, open_finder
from sheap_jax.inference.predictor import Predictor
from sheap_jax.inference.viewer_controls import Controls
from sheap_jax.inference.viewer_scene import mesh_in_view, splats_in_view
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.model import mean_params
from sheap_jax.training import pretrained

CLAY = (140, 184, 217)
CAMERA = (0.0, 0.0, 72.0)  # centimetres, in front of the face
FIELD_OF_VIEW = 0.5  # radians
PATIENCE = 30.0  # seconds that a page has to answer


MakeAvatar = Callable[[Path], RiggedSurfels]  # from a photograph; one of ERRORS if there is no face


class Viewer:
    """The page and what it shows. `run` draws whenever a control has moved; other threads only say that it has."""

    def __init__(
        self,
        model: MorphableModel,
        rigged: RiggedSurfels | None = None,
        *,
        make_avatar: MakeAvatar | None = None,
        host: str = "127.0.0.1",
        port: int = 8080,
    ):
        """Serves at once, at the next free port if `port` is taken. `make_avatar` is for photos that are uploaded."""
        from sheap_jax.inference.viewer_server import LocalServer

        self.model, self.rigged = model, None
        self._moved, self._reading = threading.Event(), threading.Lock()
        self.server = LocalServer(host, port, label="SHeaP", verbose=False)
        self.server.gui.configure_theme(control_layout="fixed", show_logo=False, show_share_button=False)
        self.server.scene.set_up_direction("+y")
        camera = self.server.initial_camera
        camera.position, camera.look_at, camera.fov = CAMERA, (0.0, 0.0, 0.0), FIELD_OF_VIEW
        self.controls = Controls(self.server.gui, model, self._moved.set)
        self._add_buttons(make_avatar)
        vertices = np.asarray(mesh_in_view(model, mean_params(model)))
        self.mesh = self.server.scene.add_mesh_simple("/mesh", vertices, np.asarray(model.faces), color=CLAY)
        self.splats = None
        if rigged is not None:
            self.show_avatar(rigged)

    def show_avatar(self, rigged: RiggedSurfels) -> None:
        """Show another person, with the expression of the photograph."""
        self.rigged = rigged
        self.controls.set(rigged.head)
        self.controls.mesh.value = False
        self._moved.set()

    def draw(self) -> None:
        """Send the head that the sliders describe."""
        params = self.controls.params()
        self.mesh.vertices = np.asarray(mesh_in_view(self.model, params))
        self.mesh.visible = self.controls.mesh.value
        if self.rigged is None:
            return
        splats = jax.tree.map(np.asarray, splats_in_view(self.rigged, self.model, params, self.controls.light()))
        if self.splats is None or len(self.splats.centers) != len(splats.centers):
            self.splats = self.server.scene.add_gaussian_splats("/surfels", *splats)
        self.splats.centers, self.splats.covariances = splats.centers, splats.covariances
        self.splats.rgbs, self.splats.opacities = splats.colors, splats.opacities
        self.splats.visible = self.controls.surfels.value

    def run(self) -> None:
        """Draw until the program ends. What one page sends wrong is said, and does not end it for the others."""
        while True:
            self._moved.wait()
            self._moved.clear()
            try:
                self.draw()
            except Exception as error:
                print(f"not drawn: {type(error).__name__}: {error}", file=sys.stderr)

    def screenshot(self, client: Any, *, height: int = 720, width: int = 720) -> bytes:
        """What a browser shows, as PNG."""
        import cv2

        pixels = client.get_render(height=height, width=width, transport_format="png", timeout=PATIENCE)
        return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA))[1].tobytes()

    def _add_buttons(self, make_avatar: MakeAvatar | None) -> None:
        gui = self.server.gui
        gui.add_button("Screenshot").on_click(lambda event: self._send_screenshot(event.client))
        if make_avatar is not None:
            upload = gui.add_upload_button("Photo", mime_type="image/*")
            upload.on_upload(lambda event: self._load_photo(event.client, event.target.value, make_avatar))

    def _send_screenshot(self, client: Any) -> None:
        client.send_file_download("head.png", self.screenshot(client))

    def _load_photo(self, client: Any, file: Any, make_avatar: MakeAvatar) -> None:
        """Show the person of an uploaded photograph; one at a time, each takes much memory."""
        name = file_name(file.name)
        if not self._reading.acquire(blocking=False):
            client.add_notification(name, "Another photograph is being read: try it again in a moment.", color="red")
            return
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / name
                path.write_bytes(file.content)
                self.show_avatar(make_avatar(path))
        except ERRORS as error:
            client.add_notification(name, without_folders(str(error)), color="red")
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr)
            client.add_notification(name, "It cannot be read; the terminal of the viewer says why.", color="red")
        finally:
            self._reading.release()


def file_name(name: str) -> str:
    """A name that others gave to a file, as one that can be written: a folder in it is left out."""
    last = str(name).replace("\\", "/").rpartition("/")[2]
    kept = "".join(letter for letter in last if letter.isprintable()).lstrip(".")[-100:]
    return kept or "photo"


def without_folders(text: str) -> str:
    """A message for the page: files of this machine by their names alone."""
    return re.sub(r"(?:[A-Za-z]:)?(?<![\w.])[\\/](?:[^\s'\":,;()\\/]+[\\/])*", "", text)


def main(arguments: list[str]) -> None:
    parser = command_line.make_parser("view", __doc__, urls=("what",))
    what = f"an avatar .npz, {pretrained.HELP}"
    parser.add_argument("what", nargs="?", default=pretrained.NAME, metavar="RUN_OR_AVATAR", help=what)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at; 0.0.0.0 opens it to the network")
    parser.add_argument("--port", type=int, default=8080, help="the next free one if it is taken")
    add_face_options(parser)
    parser.add_argument("--morphable", metavar="NPZ", help="the morphable model, if it is not where the avatar says")
    options = parser.parse_args(arguments)
    with contextlib.ExitStack() as stack:
        with contextlib.redirect_stdout(sys.stdout if options.verbose else io.StringIO()):  # viser's own banner
            viewer = open_viewer(options, stack)
        print(f"http://{options.host}:{viewer.server.get_port()}   (Ctrl+C ends it)")
        viewer.run()


def open_viewer(options: argparse.Namespace, stack: contextlib.ExitStack) -> Viewer:
    """A viewer of the avatar or training run that is named."""
    place = {"host": options.host, "port": options.port}
    if Path(options.what).suffix == ".npz":
        rigged = load_avatar(options.what)
        return Viewer(load_model_of(rigged, options.morphable), rigged, **place)
    predictor = Predictor.from_checkpoint(options.what)
    finder = stack.enter_context(open_finder(options))
    return Viewer(predictor.model, make_avatar=lambda photo: avatar_of_photo(predictor, photo, finder), **place)


if __name__ == "__main__":
    command_line.run(main, sys.argv[1:], ERRORS)
