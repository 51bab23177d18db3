# SPDX-License-Identifier: Apache-2.0
"""A real nginx on free ports, with everything it writes below one directory."""

import os
import subprocess

from util import answers, free_port, wait_for

USER, PASSWORD = "reader", "s3cret-Passw0rd"

CONFIG = """
daemon off;
user root;
worker_processes 1;
pid {prefix}/pid;
error_log {prefix}/error.log warn;
events {{ worker_connections 256; }}
http {{
    access_log {prefix}/access.log;
    client_body_temp_path {prefix}/body;
    fastcgi_temp_path {prefix}/fastcgi;
    proxy_temp_path {prefix}/proxy;
    scgi_temp_path {prefix}/scgi;
    uwsgi_temp_path {prefix}/uwsgi;
    default_type application/octet-stream;
    sendfile on;
    root {root};
    ssl_certificate {pki.server_cert};
    ssl_certificate_key {pki.server_key};
    server {{ listen 127.0.0.1:{plain}; listen 127.0.0.1:{https} ssl; }}
    server {{
        listen 127.0.0.1:{basic};
        listen 127.0.0.1:{basic_https} ssl;
        auth_basic "images";
        auth_basic_user_file {prefix}/users;
    }}
    server {{
        listen 127.0.0.1:{mutual} ssl;
        ssl_client_certificate {pki.ca};
        ssl_verify_client on;
    }}
    server {{
        listen 127.0.0.1:{redirect};
        location /once/ {{ rewrite ^/once/(.*)$ http://127.0.0.1:{plain}/$1 redirect; }}
        location /permanent/ {{ rewrite ^/permanent/(.*)$ http://127.0.0.1:{plain}/$1 permanent; }}
        location /tls/ {{ rewrite ^/tls/(.*)$ https://127.0.0.1:{https}/$1 redirect; }}
        location /twice/ {{ rewrite ^/twice/(.*)$ /once/$1 redirect; }}
    }}
    server {{ listen 127.0.0.1:{limited}; limit_rate 20m; }}
}}
"""
PORTS = ["plain", "https", "basic", "basic_https", "mutual", "redirect", "limited"]


class Nginx:
    def __init__(self, prefix, root, pki):
        os.mkdir(prefix)
        self.prefix = prefix
        with open(os.path.join(prefix, "users"), "w", encoding="ascii") as f:
            f.write(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        for _ in range(5):
            self.ports = {name: free_port() for name in PORTS}
            if len(set(self.ports.values())) == len(PORTS) and self._start(root, pki):
                return
        raise AssertionError(f"nginx does not start: {self._errors()}")

    def _start(self, root, pki):
        """False when somebody took one of the ports in the meantime."""
        config = os.path.join(self.prefix, "nginx.conf")
        with open(config, "w", encoding="ascii") as f:
            f.write(CONFIG.format(prefix=self.prefix, root=root, pki=pki, **self.ports))
        self.process = subprocess.Popen(  # pylint: disable=consider-using-with
            ["nginx", "-p", self.prefix, "-c", config, "-e", f"{self.prefix}/error.log"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.process.poll() is not None or self._all_answer(), 30, "nginx")
        return self.process.poll() is None

    def _all_answer(self):
        return all(answers(port) for port in self.ports.values())

    def _errors(self):
        with open(os.path.join(self.prefix, "error.log"), encoding="utf-8") as f:
            return f.read()

    def url(self, path, server="plain"):
        """The URL of a file of the images directory, on one of PORTS."""
        scheme = "https" if server in ("https", "basic_https", "mutual") else "http"
        return f"{scheme}://127.0.0.1:{self.ports[server]}/{os.path.basename(path)}"

    def redirect(self, path, kind="once"):
        return f"http://127.0.0.1:{self.ports['redirect']}/{kind}/{os.path.basename(path)}"

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
