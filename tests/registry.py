"""A registry for tests: one image over the Docker Registry API, as slowly as a test likes, to who knows a password.

https://distribution.github.io/distribution/spec/api/ has what is served here: manifests and blobs, nothing to write.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG: Final = "application/vnd.docker.container.image.v1+json"
_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
USER: Final = "somebody"
PASSWORD: Final = "secret"


class Registry:
    """Serves the one image of a file that `docker save` wrote, as NAME:1, on 127.0.0.1."""

    def __init__(self, saved: Path) -> None:
        self.blobs: dict[str, bytes] = {}
        with tarfile.open(saved) as tar:

            def read(name: str) -> bytes:
                file = tar.extractfile(name)
                assert file is not None
                return file.read()

            (image,) = json.loads(read("manifest.json"))
            config = self._blob(read(image["Config"]), _CONFIG)
            layers = [self._blob(gzip.compress(read(layer), 1, mtime=0), _LAYER) for layer in image["Layers"]]
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}
        self._manifest = json.dumps(manifest).encode()
        self.digest = f"sha256:{hashlib.sha256(self._manifest).hexdigest()}"
        self.last_layer = str(layers[-1]["digest"])
        self.go_on = threading.Event()  #: until it is set the second half of the last layer is held back
        self.go_on.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, name="registry")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def log_in(self, directory: Path) -> None:
        """As `docker login` does, for who has this directory as DOCKER_CONFIG."""
        known = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (directory / "config.json").write_text(json.dumps({"auths": {self.address: {"auth": known}}}))

    def __enter__(self) -> Registry:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _blob(self, content: bytes, media_type: str) -> dict[str, Any]:
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.blobs[digest] = content
        return {"mediaType": media_type, "digest": digest, "size": len(content)}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self
        known = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.headers.get("Authorization") != known:
                    self._answer(401, b"{}", {"WWW-Authenticate": 'Basic realm="registry"'})
                    return
                *_, kind, which = ("", *self.path.rstrip("/").split("/"))
                if self.path.rstrip("/") == "/v2":
                    self._answer(200, b"{}")
                elif kind == "manifests" and which in ("1", registry.digest):
                    self._answer(200, registry._manifest, {"Content-Type": _MANIFEST, "Docker-Content-Digest": registry.digest})
                elif kind == "blobs" and which in registry.blobs:
                    self._answer(200, registry.blobs[which], {"Docker-Content-Digest": which})
                else:
                    self._answer(404, b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}')

            do_HEAD = do_GET  # noqa: N815  the library's name

            def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "HEAD":
                    return
                half = len(body) // 2
                with contextlib.suppress(OSError):  # whoever asked has heard enough
                    self.wfile.write(body[:half])
                    self.wfile.flush()
                    if self.path.endswith(registry.last_layer):
                        registry.go_on.wait(60)
                    self.wfile.write(body[half:])

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        return Handler
