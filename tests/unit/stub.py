"""A stand-in for the Lambda API, to see what commands send and what they make of answers."""

from __future__ import annotations

import http.server
import json
from typing import Any


class Stub(http.server.ThreadingHTTPServer):
    """Answers from `answers`, by "METHOD path" (the last of several stays), and keeps what it was sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[str, list[tuple[int, Any, dict[str, str]]]] = {}
        self.requests: list[tuple[str, bytes, dict[str, str]]] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def on(self, request: str, body: Any = None, status: int = 200, **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers.setdefault(request, []).append((status, body, named))

    def body(self, request: str) -> Any:
        return json.loads(next(body for asked, body, _ in self.requests if asked == request))

    @property
    def asked(self) -> list[str]:
        return [request for request, _, _ in self.requests]


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Stub

    def _answer(self) -> None:
        request = f"{self.command} {self.path}"
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((request, body, dict(self.headers.items())))
        missing = (404, {"Message": "Function not found"}, {"x-amzn-ErrorType": "ResourceNotFoundException"})
        queue = self.server.answers.get(request, [missing])
        status, content, headers = queue.pop(0) if len(queue) > 1 else queue[0]
        data = content if isinstance(content, bytes) else json.dumps(content or {}).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def log_message(self, format: str, *args: Any) -> None:
        pass
