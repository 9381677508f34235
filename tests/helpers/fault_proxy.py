"""An HTTP proxy in front of one server, for tests: it can refuse, delay, cut and count requests."""

import contextlib
import http.client
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Fault = str | float | None  # "503", "cut" (half of the response), "drop" (no response), or seconds to wait first


class FaultProxy:
    """Forwards to `port`, and asks `fault(method, path)` what to do with each request."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self.fault: Callable[[str, str], Fault] = lambda method, path: None
        self.seen: list[tuple[str, str, int]] = []  # method, path and bytes of each request
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with contextlib.suppress(ConnectionError):
                    super().handle_one_request()

            def __getattr__(self, name: str) -> object:
                if name.startswith("do_"):
                    return lambda: proxy._forward(self)
                raise AttributeError(name)

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @contextlib.contextmanager
    def failing(self, fault: Callable[[str, str], Fault]):
        """With this fault inside the context; gives the requests seen in it."""
        self.seen.clear()
        self.fault = fault
        try:
            yield self.seen
        finally:
            self.fault = lambda method, path: None

    def _forward(self, request: BaseHTTPRequestHandler) -> None:
        body = _body(request)
        self.seen.append((request.command, request.path, len(body)))
        fault = self.fault(request.command, request.path)
        if isinstance(fault, float):
            time.sleep(fault)
        if fault == "drop":
            request.close_connection = True
            return
        if fault == "503":
            request.send_response(503)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        headers = {name: value for name, value in request.headers.items() if name.lower() != "transfer-encoding"}
        if body:
            headers["Content-Length"] = str(len(body))
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(request.command, request.path, body, headers)
            response = connection.getresponse()
            content = response.read()
        except OSError:  # the server has gone
            request.close_connection = True
            return
        finally:
            connection.close()
        request.send_response(response.status)
        for name, value in response.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "date", "server"):
                request.send_header(name, value)
        length = response.getheader("Content-Length") if request.command == "HEAD" else str(len(content))
        request.send_header("Content-Length", length or "0")
        request.end_headers()
        if fault == "cut":
            request.wfile.write(content[: len(content) // 2])
            request.close_connection = True
        else:
            request.wfile.write(content)


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if request.headers.get("Transfer-Encoding", "").lower() != "chunked":
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    content = b""
    while size := int(request.rfile.readline().split(b";")[0], 16):
        content += request.rfile.read(size)
        request.rfile.readline()
    request.rfile.readline()
    return content
