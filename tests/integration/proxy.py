# SPDX-License-Identifier: Apache-2.0
"""A small forward proxy: CONNECT tunnels and plain requests by absolute URI, with a log."""

import base64
import contextlib
import select
import socket
import threading
import urllib.parse


class Proxy:
    def __init__(self, user=None):
        self.user = user  # "name:password", or nobody is asked
        self.log = []  # the first line of each request
        self.stopping = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.listener.settimeout(0.05)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.threads = [threading.Thread(target=self._accept, daemon=True)]
        self.threads[0].start()

    def close(self):
        self.stopping.set()
        for thread in self.threads:
            thread.join(10)
        self.listener.close()

    def _accept(self):
        while not self.stopping.is_set():
            with contextlib.suppress(TimeoutError):
                sock, _ = self.listener.accept()
                thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
                self.threads.append(thread)
                thread.start()

    def _serve(self, client):
        with client, contextlib.suppress(OSError):
            client.settimeout(60)
            head = _read_head(client)
            if not head:
                return
            lines = head.decode("latin-1").split("\r\n")
            self.log.append(lines[0])
            if not self._admitted(lines):
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n"
                               b'Proxy-Authenticate: Basic realm="proxy"\r\n'
                               b"Content-Length: 0\r\nConnection: close\r\n\r\n")
                return
            method, target, _ = lines[0].split(" ")
            if method == "CONNECT":
                self._tunnel(client, target)
            else:
                self._forward(client, method, target, lines[1:])

    def _admitted(self, lines):
        wanted = self.user and base64.b64encode(self.user.encode()).decode()
        return not wanted or any(
            line.lower().startswith("proxy-authorization:") and line.endswith(wanted)
            for line in lines)

    def _tunnel(self, client, target):
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port)), 10) as server:
            client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            self._pump(client, server)

    def _forward(self, client, method, target, headers):
        url = urllib.parse.urlsplit(target)
        path = url.path + ("?" + url.query if url.query else "")
        kept = [h for h in headers if h and not h.lower().startswith(("proxy-", "connection:"))]
        head = "\r\n".join([f"{method} {path} HTTP/1.1", *kept, "Connection: close", "", ""])
        with socket.create_connection((url.hostname, url.port or 80), 10) as server:
            server.sendall(head.encode("latin-1"))
            self._pump(client, server)

    def _pump(self, client, server):
        """Both ways until one side ends."""
        other = {client: server, server: client}
        while not self.stopping.is_set():
            ready, _, _ = select.select(list(other), [], [], 0.1)
            for sock in ready:
                data = sock.recv(65536)
                if not data:
                    return
                other[sock].sendall(data)


def _read_head(sock):
    head = b""
    while b"\r\n\r\n" not in head:
        piece = sock.recv(65536)
        if not piece:
            return b""
        head += piece
    return head.partition(b"\r\n\r\n")[0]
