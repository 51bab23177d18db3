#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Serves one file on loopback, with ranges and a validator, as any good web server would.

Usage: serve.py FILE    prints the URL once it answers, and serves until it is ended

For ./quickstart, where a real server would have to be installed and would stay on the machine.
"""
import http.server
import os
import re
import sys
import urllib.parse


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'
    path_served = ''

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer(False)

    def do_GET(self):
        self.answer(True)

    def answer(self, with_body):
        if urllib.parse.unquote(self.path) != '/' + os.path.basename(self.path_served):
            self.send_error(404)
            return
        with open(self.path_served, 'rb') as f:
            stat = os.fstat(f.fileno())
            etag = f'"{stat.st_size:x}-{stat.st_mtime_ns:x}"'
            if self.headers.get('If-Match', etag) not in (etag, '*'):
                self.send_error(412)
                return
            wanted = self.range(stat.st_size, etag)
            if wanted is None:
                self.send_response(416)
                self.send_header('Content-Range', f'bytes */{stat.st_size}')
                self.send_header('Content-Length', '0')
                self.end_headers()
                return
            first, last, status = wanted
            self.send_response(status)
            if status == 206:
                self.send_header('Content-Range', f'bytes {first}-{last}/{stat.st_size}')
            self.send_header('Content-Length', str(last + 1 - first))
            self.send_header('Content-Type', 'application/octet-stream')
            self.send_header('Accept-Ranges', 'bytes')
            self.send_header('ETag', etag)
            self.end_headers()
            if with_body:
                f.seek(first)
                self.send(f, last + 1 - first)

    def range(self, size, etag):
        """(first, last, status) of what is asked for; None: it lies outside of the file."""
        match = re.fullmatch(r'bytes=(\d*)-(\d*)', self.headers.get('Range', ''))
        if not match or match.group(0) == 'bytes=-' or self.headers.get('If-Range', etag) != etag:
            return 0, size - 1, 200
        if not match.group(1):
            first, last = max(0, size - int(match.group(2))), size - 1
        else:
            first = int(match.group(1))
            last = min(int(match.group(2) or size - 1), size - 1)
        return (first, last, 206) if first <= last else None

    def send(self, f, left):
        while left:
            data = f.read(min(left, 1 << 18))
            if not data:
                self.close_connection = True
                return
            self.wfile.write(data)
            left -= len(data)


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that goes away in the middle is nothing to tell of."""


def main(path):
    Handler.path_served = os.path.abspath(path)
    server = Server(('127.0.0.1', 0), Handler)
    name = urllib.parse.quote(os.path.basename(path))
    print(f'http://127.0.0.1:{server.server_address[1]}/{name}', flush=True)
    server.serve_forever()


main(sys.argv[1])
