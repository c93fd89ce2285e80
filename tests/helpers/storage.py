"""A real S3 server on this machine, moto's, and a web server, both with faults on demand."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import fsspec
import pytest

from camreport.files import remote

BUCKET = "photographs"


class Storage:
    """An S3 server with one bucket.

    Attributes:
        requests: method and path of every request.
        faults: what decides whether a request is refused: method and path to a status, or 0.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.faults: Callable[[str, str], int] = lambda method, path: 0

    def wrapped(self, app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
        """Return a server's application that counts requests and refuses some."""

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
            self.requests.append((method, path))
            if status := self.faults(method, path):
                code = {403: "AccessDenied", 503: "SlowDown", 507: "XMinioStorageFull"}[status]
                start_response(f"{status} {code}", [("Content-Type", "application/xml")])
                return [f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()]
            return app(environ, start_response)

        return answer

    def refuse(self, status: int, times: int, part: str = "") -> None:
        """Refuse the next requests whose path has a part."""
        left = [times]

        def fault(_method: str, path: str) -> int:
            if part not in path or left[0] == 0:
                return 0
            left[0] -= 1
            return status

        self.faults = fault

    def upload(self, folder: Path, prefix: str) -> str:
        """Put all files of a folder into the bucket; return the address of their folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                self.system.pipe_file(f"{BUCKET}/{prefix}/{name}", path.read_bytes())
        return f"s3://{BUCKET}/{prefix}"

    def objects(self, prefix: str) -> dict[str, bytes]:
        """Return all objects below a prefix, by their names there."""
        found = self.system.find(f"{BUCKET}/{prefix}")
        start = f"{BUCKET}/{prefix}/"
        return {path.removeprefix(start): self.system.cat_file(path) for path in found}

    @property
    def system(self) -> Any:
        """The bucket's file system, without our code."""
        return fsspec.filesystem("s3", use_listings_cache=False)


@contextmanager
def s3_server() -> Iterator[Storage]:
    """Serve an S3 bucket while the block runs, at the address that the environment gives."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    storage = Storage()
    app = storage.wrapped(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        forget()
        address = f"http://127.0.0.1:{server.server_port}/moto-api/reset"
        urlopen(Request(address, method="POST")).close()  # moto's buckets outlive its servers
        storage.system.mkdir(BUCKET)
        try:
            yield storage
        finally:
            forget()
            server.shutdown()
            thread.join()
            server.server_close()


def forget() -> None:
    """Forget connections, so that the next one reads the environment."""
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    remote._file_system.cache_clear()


class _Handler(SimpleHTTPRequestHandler):
    """Serves files, and parts of them unless the address says otherwise."""

    def do_GET(self) -> None:
        """Answer with a file, or with the part that is asked for."""
        asked = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file() or "whole" in self.path:
            super().do_GET()
            return
        first, last = asked.removeprefix("bytes=").split("-")
        content = path.read_bytes()
        part = content[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def log_message(self, *_given: object) -> None:
        """Say nothing."""


@contextmanager
def web_server(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP while the block runs; give its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
