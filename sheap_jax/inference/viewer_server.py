"""viser's server with what it leaves open shut: pages of other sites, public links, uploads of any size.

viser has no options for these. Its server is wrapped where it starts, and two of its handlers are replaced; a version
that is built otherwise is refused, not served open.
"""

import contextlib
import http
import ipaddress
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import viser
import websockets.asyncio.server as websocket_library
from viser import _messages as messages

from sheap_jax.data.prepare.clips import IMAGE_SUFFIXES

MOST_UPLOAD = 2**26  # bytes of one photograph
MOST_AT_ONCE = 4  # uploads that are under way
_starting = threading.Lock()


class LocalServer(viser.ViserServer):
    """A viser server for those who open its own page. Raises RuntimeError for a version of viser that is not known."""

    def __init__(self, host: str, port: int, **options: Any) -> None:
        with _guarded_start(host) as guarded:
            super().__init__(host=host, port=port, **options)
        try:
            if not guarded:
                raise AttributeError("its server starts in another way")
            _bound_uploads(self.gui)
        except (AttributeError, ValueError, AssertionError) as error:
            self.stop()
            version = getattr(viser, "__version__", "?")
            raise RuntimeError(
                f"viser {version} cannot be served safely ({error}): pip install 'viser==1.1.1'"
            ) from error

    def request_share_url(self, verbose: bool = True) -> None:
        """No public link: any page could ask for it."""
        return None


@contextlib.contextmanager
def _guarded_start(host: str) -> Iterator[list[bool]]:
    """Wrap the start of the web server; the list gets an entry when it has started so."""
    guarded: list[bool] = []
    with _starting:
        serve = websocket_library.serve

        def serve_guarded(*arguments: Any, process_request: Any, **options: Any) -> Any:
            def check(connection: Any, request: Any) -> Any:
                reason = refusal(request.headers.get("Host"), request.headers.get("Origin"), listening=host)
                if reason is not None:
                    return connection.respond(http.HTTPStatus.FORBIDDEN, reason + "\n")
                return process_request(connection, request)

            guarded.append(True)
            return serve(*arguments, process_request=check, **options)

        websocket_library.serve = serve_guarded  # type: ignore[assignment]
        try:
            yield guarded
        finally:
            websocket_library.serve = serve


def refusal(host: str | None, origin: str | None, *, listening: str) -> str | None:
    """Why a request is refused, None if it is not.

    A page of another site has another origin. Its name may be led to this machine (DNS rebinding): then it is the name
    in Host that is not ours. Programs that are no browsers send no origin.

    Args:
      listening: the address that the server listens at.
    """
    name = _name(f"//{host}") if host else None
    if name is None or not _is_ours(name, listening):
        return "this address is not the viewer's: open it by the one that sheap view printed"
    if origin is not None and urlsplit(origin).netloc.lower() != (host or "").lower():
        return "pages of other sites get nothing here"
    return None


def _name(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _is_ours(name: str, listening: str) -> bool:
    """Whether a name, in lower case, can only mean this machine: a rebound one has a dot and is no number."""
    own = {"localhost", listening.lower(), socket.gethostname().lower(), socket.getfqdn().lower()}
    if name in own:
        return True
    try:
        return bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _bound_uploads(gui: Any) -> None:
    """Replace the handlers of uploads by ones that look at size and kind first."""
    connection, begin, add = gui._websock_interface, gui._handle_file_transfer_start, gui._handle_file_transfer_part

    def checked_begin(client_id: Any, message: Any) -> None:
        reason = upload_problem(message, under_way=len(gui._current_file_upload_states))
        if reason is None:
            begin(client_id, message)
            return
        client = gui._resolve_client(client_id)
        if client is not None:
            client.add_notification("The upload was refused", reason, color="red")

    def checked_add(client_id: Any, message: Any) -> None:
        state = gui._current_file_upload_states.get(message.transfer_uuid)
        if state is None:
            return
        received = state["transferred_bytes"] + len(message.content)
        if state["client_id"] != client_id or received > state["total_bytes"]:
            gui._current_file_upload_states.pop(message.transfer_uuid, None)
            return
        add(client_id, message)

    for kind, old, new in (
        (messages.FileTransferStartUpload, begin, checked_begin),
        (messages.FileTransferPart, add, checked_add),
    ):
        connection.unregister_handler(kind, old)
        connection.register_handler(kind, new)


def upload_problem(message: Any, *, under_way: int) -> str | None:
    """Why an upload is not taken, None if it is."""
    suffix = "." + str(message.filename).rpartition(".")[2].lower()
    if not str(message.mime_type).startswith("image/") or suffix not in IMAGE_SUFFIXES:
        return f"Photographs are taken: {' '.join(sorted(IMAGE_SUFFIXES))}."
    if type(message.size_bytes) is not int or not 0 < message.size_bytes <= MOST_UPLOAD:
        return f"The file may have up to {MOST_UPLOAD >> 20} MB, and must not be empty."
    if type(message.part_count) is not int or not 0 < message.part_count <= message.size_bytes:
        return "The file comes in pieces that cannot be."
    if under_way >= MOST_AT_ONCE:
        return "Others are uploading: try it again in a moment."
    return None
