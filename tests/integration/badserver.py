# SPDX-License-Identifier: Apache-2.0
"""A threaded HTTP/1.1 server that answers correctly until a fault is put on a file, and logs all.

    url = server.file("/disk.raw", data, faults=[faults.first(2, faults.status(503))])

A fault is a function (request, reply) that changes the correct reply before it is sent; faults.py
has them. server.log holds every request with its headers and what was answered.
"""

import base64
import contextlib
import dataclasses
import email.utils
import http
import re
import socket
import ssl
import struct
import threading
import time

PIECE = 16384


@dataclasses.dataclass
class Request:
    method: str
    path: str
    query: str
    headers: dict  # names in lower case
    connection: int
    when: float
    number: int = 0  # of this path, from 1
    start: int = None  # of the range asked for, None without one
    end: int = None  # inclusive
    status: int = 0
    sent: int = 0  # bytes of the body
    done: bool = False

    @property
    def ranged(self):
        return self.start is not None


@dataclasses.dataclass
class Reply:
    status: int = 200
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""
    chunked: bool = False
    close: bool = False  # after the reply
    cut: int = None  # bytes of the body after which the connection is closed
    reset: bool = False  # the connection is not closed but reset
    silent: bool = False  # not even headers
    delay: float = 0  # seconds before the headers
    stall: tuple = None  # (bytes of the body, seconds)
    drip: int = 0  # bytes of the body per second, 0: no limit


@dataclasses.dataclass
class File:
    data: bytes
    etag: str = '"v1"'
    last_modified: float = None
    faults: tuple = ()
    user: str = None  # "name:password"
    needs: dict = dataclasses.field(default_factory=dict)  # headers without which it is 403
    requests: int = 0


def http_date(seconds):
    return email.utils.formatdate(seconds, usegmt=True)


class BadServer:
    def __init__(self, tls=None, host="127.0.0.1"):
        self.files = {}
        self.log = []
        self.connections = 0
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.sockets = set()
        self.threads = []
        self.tls = None
        if tls:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*tls)
        self.listener = socket.create_server((host, 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.origin = f"{'https' if tls else 'http'}://{host}:{self.port}"
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    # what tests call

    def file(self, path, data, faults=(), **kwargs):
        """Serves @data at @path from now on; returns its URL."""
        with self.lock:
            self.files[path] = File(data, faults=tuple(faults), **kwargs)
        return self.origin + path

    def change(self, path, **kwargs):
        """Replaces parts of a file (data, etag, faults, ...) in one step."""
        with self.lock:
            self.files[path] = dataclasses.replace(self.files[path], **kwargs)

    def requests(self, path=None, method=None):
        """Without @path, those for images: a mount asks once by the side for a boot trace."""
        with self.lock:
            return [r for r in self.log
                    if (r.path == path if path else not r.path.endswith(".trace"))
                    and (method is None or r.method == method)]

    def bytes_sent(self, path=None):
        return sum(r.sent for r in self.requests(path))

    def forget(self):
        with self.lock:
            self.log.clear()

    def disconnect(self):
        """Resets every open connection."""
        with self.lock:
            for sock in self.sockets:
                _reset(sock)

    def close(self):
        """Nothing listens on the port and no connection is open afterwards."""
        self.stopping.set()
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self.listener.close()
        self.acceptor.join(10)
        self.disconnect()
        with self.lock:
            threads = list(self.threads)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()

    # the machinery

    def _accept(self):
        while not self.stopping.is_set():
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections += 1
                number = self.connections
                thread = threading.Thread(target=self._serve, args=(sock, number), daemon=True)
                self.threads.append(thread)
            thread.start()

    def _serve(self, sock, number):
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(60)
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
            with self.lock:
                self.sockets.add(sock)
            with sock.makefile("rb") as stream:
                while not self.stopping.is_set() and self._exchange(sock, stream, number):
                    pass
        except (OSError, ssl.SSLError):
            pass
        finally:
            with self.lock:
                self.sockets.discard(sock)
            sock.close()

    def _exchange(self, sock, stream, connection):
        """One request and its answer; whether the connection stays open."""
        request = _read_request(stream, connection)
        if not request:
            return False
        with self.lock:
            file = self.files.get(request.path)
            if file:
                file.requests += 1
                request.number = file.requests
                file = dataclasses.replace(file)
            self.log.append(request)
        reply = correct_reply(request, file)
        for fault in file.faults if file else ():
            fault(request, reply)
        request.status = reply.status
        keep = self._send(sock, request, reply)
        request.done = True
        return keep

    def _send(self, sock, request, reply):
        if reply.delay:
            self.stopping.wait(reply.delay)
        if reply.silent:
            if reply.reset:
                _reset(sock)
            return False
        self._send_head(sock, reply)
        body = b"" if request.method == "HEAD" or reply.status == 304 else reply.body
        self._send_body(sock, request, reply, body)
        if reply.cut is not None and reply.cut < len(body):
            if reply.reset:
                _reset(sock)
            return False
        return not reply.close and request.headers.get("connection", "").lower() != "close"

    @staticmethod
    def _send_head(sock, reply):
        headers = dict(reply.headers)
        if reply.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif reply.status != 304:
            headers.setdefault("Content-Length", str(len(reply.body)))
        if reply.close:
            headers["Connection"] = "close"
        try:
            reason = http.HTTPStatus(reply.status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [f"HTTP/1.1 {reply.status} {reason}"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def _send_body(self, sock, request, reply, body):
        view = memoryview(body)
        end = len(body) if reply.cut is None else min(reply.cut, len(body))
        at = 0
        begun = time.monotonic()
        while at < end and not self.stopping.is_set():
            if reply.stall and at >= reply.stall[0]:
                self.stopping.wait(reply.stall[1])
                reply.stall = None
            step = min(PIECE, end - at)
            if reply.stall:
                step = min(step, max(1, reply.stall[0] - at))
            if reply.drip:
                step = min(step, max(1, reply.drip // 20))
                self.stopping.wait(max(0, begun + at / reply.drip - time.monotonic()))
            _send_piece(sock, view[at:at + step], reply.chunked)
            at += step
            request.sent = at
        if reply.chunked and at == len(body):
            sock.sendall(b"0\r\n\r\n")


def _send_piece(sock, piece, chunked):
    if chunked:
        sock.sendall(b"%x\r\n" % len(piece) + piece + b"\r\n")
    else:
        sock.sendall(piece)


def _reset(sock):
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.shutdown(socket.SHUT_RD)
        sock.close()
    except OSError:
        pass


def _read_request(stream, connection):
    line = stream.readline(65536)
    if not line.strip():
        return None
    method, target, _ = line.decode("latin-1").split(" ", 2)
    headers = {}
    while True:
        line = stream.readline(65536)
        if line in (b"\r\n", b"\n", b""):
            break
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    stream.read(int(headers.get("content-length", 0)))
    path, _, query = target.partition("?")
    request = Request(method, path, query, headers, connection, time.monotonic())
    asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
    if asked:
        request.start = int(asked[1])
        request.end = int(asked[2]) if asked[2] else None
    return request


def correct_reply(request, file):
    """What a server by the book answers."""
    if not file:
        return Reply(404, {"Content-Type": "text/html"}, b"<html>not found</html>")
    if file.user and not _authorized(request, file.user):
        return Reply(401, {"WWW-Authenticate": 'Basic realm="images"'}, b"no\n")
    for name, value in file.needs.items():
        if request.headers.get(name.lower()) != value:
            return Reply(403, {}, b"forbidden\n")
    headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream",
               "Date": http_date(time.time())}
    if file.etag:
        headers["ETag"] = file.etag
    if file.last_modified:
        headers["Last-Modified"] = http_date(file.last_modified)
    refused = _precondition(request, file)
    if refused:
        return Reply(refused, headers)
    return _ranged(request, file, headers)


def _ranged(request, file, headers):
    size = len(file.data)
    if not request.ranged or not _if_range(request, file):
        return Reply(200, headers, file.data)
    if request.start >= size:
        headers["Content-Range"] = f"bytes */{size}"
        return Reply(416, headers)
    end = size - 1 if request.end is None else min(request.end, size - 1)
    headers["Content-Range"] = f"bytes {request.start}-{end}/{size}"
    return Reply(206, headers, file.data[request.start:end + 1])


def _authorized(request, user):
    return request.headers.get("authorization") == (
        "Basic " + base64.b64encode(user.encode()).decode())


def _strong(tag):
    return bool(tag) and not tag.startswith("W/")


def _precondition(request, file):
    asked = request.headers
    if "if-match" in asked:
        tags = [t.strip() for t in asked["if-match"].split(",")]
        if asked["if-match"] != "*" and (file.etag not in tags or not _strong(file.etag)):
            return 412
    elif "if-unmodified-since" in asked and file.last_modified:
        if file.last_modified > email.utils.parsedate_to_datetime(
                asked["if-unmodified-since"]).timestamp():
            return 412
    if "if-none-match" in asked:
        tags = [t.strip().removeprefix("W/") for t in asked["if-none-match"].split(",")]
        if file.etag and file.etag.removeprefix("W/") in tags:
            return 304
    elif "if-modified-since" in asked and file.last_modified:
        if file.last_modified <= email.utils.parsedate_to_datetime(
                asked["if-modified-since"]).timestamp():
            return 304
    return None


def _if_range(request, file):
    """Whether the range applies."""
    asked = request.headers.get("if-range")
    if not asked:
        return True
    if asked.startswith(('"', "W/")):
        return _strong(asked) and asked == file.etag
    return bool(file.last_modified) and asked == http_date(file.last_modified)
