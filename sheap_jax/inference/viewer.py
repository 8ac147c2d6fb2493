"""A head in the browser: mesh and surfels, moved and lit by sliders.

    python -m sheap_jax.inference.viewer alice.npz        # an avatar of sheap_jax.inference.avatar
    python -m sheap_jax.inference.viewer RUN              # a training run: the mean head, then any photo you upload

Serves http://127.0.0.1:8080; --host 0.0.0.0 opens it to the network. Photos must be framed as in training. Needs viser:
pip install "sheap-jax[viewer]".
"""

import argparse
import sys
import threading
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sheap_jax.inference.avatar import ERRORS, RiggedSurfels, load_avatar, load_model_of, rig_surfels
from sheap_jax.inference.crops import square_crop
from sheap_jax.inference.predictor import Predictor
from sheap_jax.inference.viewer_controls import Controls
from sheap_jax.inference.viewer_scene import mesh_in_view, splats_in_view
from sheap_jax.morphable import MorphableModel
from sheap_jax.morphable.model import mean_params

CLAY = (140, 184, 217)
CAMERA = (0.0, 0.0, 62.0)  # centimetres, in front of the face
FIELD_OF_VIEW = 0.5  # radians


class Viewer:
    """The page and what it shows. `run` draws whenever a control has moved; other threads only say that it has."""

    def __init__(
        self,
        model: MorphableModel,
        rigged: RiggedSurfels | None = None,
        *,
        predictor: Predictor | None = None,
        host: str = "127.0.0.1",
        port: int = 8080,
    ):
        """Serves at once; `predictor` turns uploaded photos into avatars. Raises OSError if the port is taken."""
        import viser

        self.model, self.rigged, self._predictor = model, rigged, predictor
        self._moved = threading.Event()
        self.server = viser.ViserServer(host=host, port=port, label="SHeaP", verbose=False)
        self.server.gui.configure_theme(control_layout="fixed", show_logo=False, show_share_button=False)
        self.server.scene.set_up_direction("+y")
        camera = self.server.initial_camera
        camera.position, camera.look_at, camera.fov = CAMERA, (0.0, 0.0, 0.0), FIELD_OF_VIEW
        self.controls = Controls(self.server.gui, model, self._moved.set)
        self._add_buttons()
        vertices = np.asarray(mesh_in_view(model, mean_params(model)))
        self.mesh = self.server.scene.add_mesh_simple("/mesh", vertices, np.asarray(model.faces), color=CLAY)
        self.splats = None
        if rigged is not None:
            self.show_avatar(rigged)

    def show_avatar(self, rigged: RiggedSurfels) -> None:
        """Show another person, with the expression of the photograph."""
        self.rigged = rigged
        self.controls.set(rigged.head)
        self._moved.set()

    def draw(self) -> None:
        """Send the head that the sliders describe."""
        params = self.controls.params()
        self.mesh.vertices = np.asarray(mesh_in_view(self.model, params))
        self.mesh.visible = self.controls.mesh.value or self.rigged is None
        if self.rigged is None:
            return
        splats = jax.tree.map(np.asarray, splats_in_view(self.rigged, self.model, params, self.controls.light()))
        if self.splats is None or len(self.splats.centers) != len(splats.centers):
            self.splats = self.server.scene.add_gaussian_splats("/surfels", *splats)
        self.splats.centers, self.splats.covariances = splats.centers, splats.covariances
        self.splats.rgbs, self.splats.opacities = splats.colors, splats.opacities
        self.splats.visible = self.controls.surfels.value

    def run(self) -> None:
        """Draw for ever."""
        while True:
            self._moved.wait()
            self._moved.clear()
            self.draw()

    def screenshot(self, client: Any, *, height: int = 720, width: int = 720) -> bytes:
        """What a browser shows, as PNG."""
        import cv2

        pixels = client.get_render(height=height, width=width, transport_format="png")
        return cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA))[1].tobytes()

    def _add_buttons(self) -> None:
        gui = self.server.gui
        gui.add_button("Screenshot").on_click(lambda event: self._send_screenshot(event.client))
        if self._predictor is not None:
            upload = gui.add_upload_button("Photo of a head, framed as in training", mime_type="image/*")
            upload.on_upload(lambda event: self._load_photo(event.client, event.target.value))

    def _send_screenshot(self, client: Any) -> None:
        client.send_file_download("head.png", self.screenshot(client))

    def _load_photo(self, client: Any, file: Any) -> None:
        import cv2

        assert self._predictor is not None
        pixels = cv2.imdecode(np.frombuffer(file.content, np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            client.add_notification("No picture", f"{file.name} cannot be decoded as a picture", color="red")
            return
        crop = square_crop(pixels[..., ::-1], self._predictor.config.image_size)
        self.show_avatar(rig_surfels(self._predictor, jnp.asarray(crop)))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", metavar="RUN_OR_AVATAR", help="directory of a training run, or an avatar .npz")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: this machine only)")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--morphable", metavar="NPZ", help="the morphable model, if it is not where the avatar says")
    options = parser.parse_args(arguments)
    place = {"host": options.host, "port": options.port}
    if Path(options.what).suffix == ".npz":
        rigged = load_avatar(options.what)
        viewer = Viewer(load_model_of(rigged, options.morphable), rigged, **place)
    else:
        predictor = Predictor(options.what)
        viewer = Viewer(predictor.model, predictor=predictor, **place)
    print(f"http://{options.host}:{viewer.server.get_port()}   (Ctrl+C ends it)")
    viewer.run()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        pass
    except ERRORS as error:
        sys.exit(f"{type(error).__name__}: {error}")
