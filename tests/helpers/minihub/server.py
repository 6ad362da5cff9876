"""Server on loopback, and the failures that it makes on request."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

from .endpoints import ROUTES
from .repos import Reply, refusal

if TYPE_CHECKING:
    from .hub import MiniHub


@dataclass
class Failure:
    """Failure of requests, in place of an answer or before it. See [`MiniHub.fail`]."""

    method: str
    path: str
    status: int | None = None
    message: str = "scripted failure"
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    skip: int = 0
    delay: float = 0.0
    cut_request: int | None = None
    cut_response: int | None = None
    reset: bool = True
    met: int = 0

    def hits(self, method: str, path: str) -> bool:
        if self.method != method or not re.search(self.path, path):
            return False
        self.met += 1
        return self.skip < self.met <= self.skip + self.times


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the tests


class Handler(BaseHTTPRequestHandler):
    hub: MiniHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def json(self) -> dict:
        return json.loads(self.body or b"{}")

    def _read(self, most: int | None = None) -> bytes:
        """The body, sent whole or in chunks, or its first `most` bytes."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length") or 0)
            return self.rfile.read(length if most is None else min(most, length))
        body = b""
        while (most is None or len(body) < most) and (size := int(self.rfile.readline().split(b";")[0], 16)):
            body += self.rfile.read(size)
            self.rfile.readline()
        if most is None:
            self.rfile.readline()
        return body

    def _drop(self, reset: bool) -> None:
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()

    def _handle(self) -> None:
        path, hub = urlsplit(self.path), self.hub
        self.query = parse_qs(path.query, keep_blank_values=True)
        with hub.lock:
            failure = next((failure for failure in hub.failures if failure.hits(self.command, self.path)), None)
        call = {"method": self.command, "path": self.path, "headers": dict(self.headers), "status": "cut"}
        hub.log.append(call)
        if failure:
            time.sleep(failure.delay)
        if failure and failure.cut_request is not None:
            self._read(failure.cut_request)
            return self._drop(failure.reset)
        self.body = self._read()
        if failure and failure.status:
            reply = refusal(failure.status, failure.message, **failure.headers)
        else:
            reply = self._answer(path.path)
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        kind = "application/octet-stream" if isinstance(reply.body, bytes) else "application/json"
        call["status"] = reply.status
        self.send_response(reply.status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "X-Request-Id": f"mini-{len(hub.log)}"}
        for name, value in (headers | reply.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return None
        if failure and failure.cut_response is not None:
            self.wfile.write(body[: failure.cut_response])
            return self._drop(failure.reset)
        self.wfile.write(body)

    def _answer(self, path: str) -> Reply:
        for methods, pattern, endpoint in ROUTES:
            if self.command in methods.split() and (match := pattern.fullmatch(path)):
                try:
                    with self.hub.lock:
                        return Reply(200, endpoint(self.hub, self, *(unquote(part or "") for part in match.groups())))
                except Reply as reply:
                    return reply
                except Exception as error:  # a fault of this file must be loud
                    self.hub.unknown.append(f"{self.command} {self.path}: {error!r}")
                    return refusal(500, f"minihub: {error!r}")
        self.hub.unknown.append(f"{self.command} {self.path}")
        return refusal(404, f"minihub does not know {self.command} {path}")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _handle
