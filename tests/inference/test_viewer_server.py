"""What other pages and other people's uploads get from the viewer's server: nothing, and a message."""

import http.client
import threading
import time
from types import SimpleNamespace

import msgspec.msgpack
import numpy as np
import pytest

viser = pytest.importorskip("viser", reason="needs viser: pip install 'sheap-jax[viewer]'")

from websockets.exceptions import InvalidStatus  # noqa: E402
from websockets.sync.client import connect  # noqa: E402

from sheap_jax.inference import viewer_server  # noqa: E402
from sheap_jax.inference.viewer import Viewer, file_name, without_folders  # noqa: E402
from sheap_jax.inference.viewer_controls import _value  # noqa: E402
from sheap_jax.inference.viewer_server import LocalServer, refusal  # noqa: E402
from tests.inference.browser import wait_for  # noqa: E402


@pytest.fixture
def server():
    server = LocalServer("127.0.0.1", 8190, label="test", verbose=False)
    yield server
    server.stop()


def opened(server, origin):
    address = f"ws://127.0.0.1:{server.get_port()}"
    return connect(address, origin=origin, subprotocols=[f"viser-v{viser.__version__}"], max_size=None)


def send(page, kind, **content):
    page.send(msgspec.msgpack.encode({"type": kind, **content}))


def show(server, page):
    """The camera, by which the server knows that a page is there."""
    places = {"position": (0, 0, 1), "look_at": (0, 0, 0), "up_direction": (0, 1, 0), "wxyz": (1, 0, 0, 0)}
    sizes = {"fov": 1.0, "near": 0.1, "far": 9.0, "image_height": 9, "image_width": 9}
    send(page, "ViewerCameraMessage", **places, **sizes)
    wait_for(server.get_clients, "the page to connect")


def status(server, host):
    connection = http.client.HTTPConnection("127.0.0.1", server.get_port(), timeout=10)
    connection.request("GET", "/", headers={"Host": host})
    return connection.getresponse().status


def test_pages_of_other_sites_are_refused(server):
    port = server.get_port()
    for foreign in ("https://evil.example", "null", f"http://127.0.0.1:{port + 1}", f"http://localhost:{port}"):
        with pytest.raises(InvalidStatus, match="403"):
            opened(server, foreign)
    with opened(server, f"http://127.0.0.1:{port}") as own, opened(server, None) as program:
        assert own.recv(timeout=10)
        assert program.recv(timeout=10)


def test_names_that_were_led_to_this_machine_are_refused(server):
    assert status(server, "rebound.example") == 403
    assert status(server, f"127.0.0.1:{server.get_port()}") == 200
    assert status(server, "localhost:9999") == 200  # a port that was forwarded


@pytest.mark.parametrize(
    ("host", "origin", "listening", "served"),
    [
        ("10.0.0.7:8080", "http://10.0.0.7:8080", "0.0.0.0", True),
        ("10.0.0.7:8080", "http://evil.example", "0.0.0.0", False),
        ("evil.example", "http://evil.example", "0.0.0.0", False),
        ("head.example:8080", "http://head.example:8080", "head.example", True),
        ("[::1]:8080", "http://[::1]:8080", "::1", True),
        ("127.0.0.1.evil.example", None, "127.0.0.1", False),
        (None, None, "127.0.0.1", False),
        ("[", None, "127.0.0.1", False),
    ],
)
def test_which_names_are_ours(host, origin, listening, served):
    assert (refusal(host, origin, listening=listening) is None) == served


def test_no_public_link_can_be_asked_for(server, monkeypatch):
    asked = []
    monkeypatch.setattr("viser._viser.ViserTunnel", lambda *arguments: asked.append(arguments))
    with opened(server, None) as page:
        show(server, page)
        send(page, "ShareUrlRequest")
        send(page, "ShareUrlDisconnect")
        upload_and_wait(server, page, {})  # which is handled after them
    assert asked == []
    assert server.request_share_url() is None


def upload_and_wait(server, page, changes, parts=(b"ab", b"cd"), patience=30.0):
    """Send an upload; the files that arrived, or what the page was told instead."""
    button = server.gui.add_upload_button("photo")
    arrived, told = [], []
    button.on_upload(lambda event: arrived.append(event.target.value))
    client = next(iter(server.get_clients().values()))
    client.add_notification = lambda title, body, **_: told.append(body)
    start = {
        "source_component_uuid": button._impl.uuid,
        "transfer_uuid": "t",
        "filename": "a.jpg",
        "mime_type": "image/jpeg",
        "part_count": len(parts),
        "size_bytes": sum(map(len, parts)),
    }
    send(page, "FileTransferStartUpload", **(start | changes))
    for index, content in enumerate(parts):
        part = {"source_component_uuid": start["source_component_uuid"], "transfer_uuid": "t", "part_index": index}
        send(page, "FileTransferPart", **part, content=content)
    end = time.monotonic() + patience
    while time.monotonic() < end and not (arrived or told):
        time.sleep(0.02)
    return arrived or told


def test_uploads_are_photographs_of_a_bounded_size(server):
    with opened(server, None) as page:
        show(server, page)
        (file,) = upload_and_wait(server, page, {})
        assert (file.name, file.content) == ("a.jpg", b"abcd")
        for changes, words in (
            ({"size_bytes": viewer_server.MOST_UPLOAD + 1}, "up to 64 MB"),
            ({"size_bytes": 2**40, "part_count": 2**40}, "up to 64 MB"),
            ({"mime_type": "application/zip"}, "Photographs are taken"),
            ({"filename": "a.exe"}, "Photographs are taken"),
            ({"part_count": 0}, "pieces"),
        ):
            (told,) = upload_and_wait(server, page, changes)
            assert words in told
        assert not server.gui._current_file_upload_states


def test_an_upload_that_grows_is_dropped(server):
    with opened(server, None) as page:
        show(server, page)
        assert upload_and_wait(server, page, {"size_bytes": 3}, patience=0.5) == []
        assert not server.gui._current_file_upload_states


def test_a_page_that_sends_nonsense_ends_alone(server):
    with opened(server, None) as page, opened(server, None) as other:
        page.send("text")
        page.send(b"\xc1\xff")
        show(server, other)
        (file,) = upload_and_wait(server, other, {})
        assert file.content == b"abcd"


def test_a_viser_that_is_built_otherwise_is_not_served(monkeypatch):
    monkeypatch.delattr(viser.GuiApi, "_handle_file_transfer_part")
    with pytest.raises((RuntimeError, AttributeError)):
        LocalServer("127.0.0.1", 8190, verbose=False)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\a.jpg", "a.jpg"),
        ("...jpg", "jpg"),
        ("", "photo"),
        ("a\0\n.jpg", "a.jpg"),
    ],
)
def test_names_of_uploads_lead_nowhere(name, kept):
    assert file_name(name) == kept


def test_notices_show_no_folder_of_the_server():
    assert without_folders("/tmp/tmp_x1/me.jpg is no picture") == "me.jpg is no picture"
    assert without_folders("No such file: '/home/me/assets/boxes.csv'") == "No such file: 'boxes.csv'"
    assert without_folders("red and/or blue, 3/4") == "red and/or blue, 3/4"


def test_one_photograph_at_a_time_and_errors_stay_with_their_page():
    viewer = object.__new__(Viewer)
    viewer._reading, told = threading.Lock(), []
    client = SimpleNamespace(add_notification=lambda title, body, **_: told.append((title, body)))

    def fails(path):
        assert path.read_bytes() == b"abc"
        raise [ValueError(f"{path} is no picture"), ZeroDivisionError("odd")][len(told)]

    for _ in range(2):
        viewer._load_photo(client, SimpleNamespace(name="../me.jpg", content=b"abc"), fails)
    viewer._reading.acquire()
    viewer._load_photo(client, SimpleNamespace(name="me.jpg", content=b"abc"), fails)
    assert [title for title, _ in told] == ["me.jpg"] * 3
    assert told[0][1] == "me.jpg is no picture"
    assert "cannot be read" in told[1][1]
    assert "Another photograph" in told[2][1]


@pytest.mark.parametrize(("sent", "shown"), [(float("nan"), 0.0), ("x", 0.0), (None, 0.0), (99, 2.0), (-1.5, -1.5)])
def test_a_slider_stays_within_its_ends(sent, shown):
    np.testing.assert_equal(_value(SimpleNamespace(value=sent, min=-2.0, max=2.0)), shown)
