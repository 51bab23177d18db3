# SPDX-License-Identifier: Apache-2.0
"""
Debian's docker-registry in several disguises, on free ports, over one store: plain HTTP, HTTPS with
passwords, HTTPS with client certificates, tokens, a pull-through proxy; a server of tokens; and a
front that sends readers of blobs elsewhere, with addresses that expire.
"""

import base64
import contextlib
import json
import os
import re
import subprocess
import threading
import time
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import oci
from util import answers, free_port, run, wait_for

USER, PASSWORD = "keeper", "Geheim-42"
IDENTITY = "identity-of-keeper-4711"
# By how many seconds the clocks of the registry and of who gives tokens may differ, it thinks
LEEWAY = 60
# bcrypt, as the registry wants it, of PASSWORD
SALT = "$2y$05$abcdefghijklmnopqrstuu"

BASE = """
version: 0.1
log: {{level: error}}
storage:
  filesystem: {{rootdirectory: {store}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
"""
TLS = "  tls: {{certificate: {pki.server_cert}, key: {pki.server_key}}}\n"
MUTUAL = """  tls:
    certificate: {pki.server_cert}
    key: {pki.server_key}
    clientcas: [{pki.ca}]
"""
BASIC = "auth:\n  htpasswd: {{realm: vault, path: {prefix}/htpasswd}}\n"
TOKEN = """auth:
  token: {{realm: '{tokens}', service: vault, issuer: issuer, rootcertbundle: {prefix}/token.pem}}
"""
PROXY = "proxy: {{remoteurl: '{origin}'}}\n"


class Process:
    """One docker-registry."""

    def __init__(self, prefix, name, text, port):
        self.config = os.path.join(prefix, name + ".yml")
        self.log = os.path.join(prefix, name + ".log")
        self.port = port
        with open(self.config, "w", encoding="ascii") as f:
            f.write(text)
        self.process = None
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(  # pylint: disable=consider-using-with
                ["docker-registry", "serve", self.config], stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
        wait_for(lambda: self.process.poll() is not None or answers(self.port), 20, self.config)
        assert self.process.poll() is None, open(self.log, encoding="utf-8").read()

    def requests(self):
        """"METHOD path status" of all that it answered, from its log."""
        with open(self.log, encoding="utf-8") as f:
            found = re.findall(r'"(\w+) (/\S*) HTTP/1.1" (\d+)', f.read())
        return [" ".join(words) for words in found]

    def stop(self):
        self.process.kill()
        self.process.wait()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.lock = threading.Lock()
        self.seen = []  # (method, path, headers)
        self.connections = 0
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def get_request(self):
        with self.lock:
            self.connections += 1
        return super().get_request()

    def handle_error(self, request, client_address):
        pass  # readers hang up when they have what they want

    def close(self):
        self.shutdown()
        self.server_close()
        self.thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):  # pylint: disable=redefined-builtin
        pass

    def note(self):
        with self.server.lock:
            self.server.seen.append((self.command, self.path, dict(self.headers)))

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class TokenHandler(Handler):
    """GET with a password or without, POST with an identity token; what is public needs neither."""

    def grant(self, scopes, user):
        access = []
        for scope in scopes:
            kind, name, actions = re.fullmatch(r"(\w+):(.*):([\w,*]+)", scope).groups()
            allowed = actions.split(",") if user else ["pull"] if name.startswith("public/") else []
            access.append({"type": kind, "name": name, "actions": allowed})
        body = {"token": self.server.sign(user or "", access)}
        if self.server.tells:
            body["expires_in"] = self.server.life
        self.answer(200, json.dumps(body).encode(), Content_Type="application/json")

    def do_GET(self):
        self.note()
        if self.server.fail:
            status = self.server.fail.pop(0)
            self.answer(status, **({"Retry_After": "0"} if status == 429 else {}))
            return
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        word = self.headers.get("Authorization")
        user = None
        if word:
            user, password = base64.b64decode(word.split()[1]).decode().split(":", 1)
            if (user, password) != (USER, PASSWORD):
                self.answer(401, b"{}")
                return
        self.grant(query.get("scope", []), user)

    def do_POST(self):
        self.note()
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form.get("refresh_token") != [IDENTITY] or form["grant_type"] != ["refresh_token"]:
            self.answer(401, b"{}")
            return
        self.grant(form.get("scope", []), USER)


class TokenServer(Server):
    def __init__(self, prefix):
        self.key = os.path.join(prefix, "token.key")
        self.life = 300
        self.tells = True  # how long tokens live
        self.last = 0  # when the last one that was handed out ends
        self.fail = []
        certificate = os.path.join(prefix, "token.pem")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj",
            "/CN=issuer", "-keyout", self.key, "-out", certificate)
        pem = open(certificate, encoding="ascii").read()
        self.x5c = "".join(pem.split("-----")[2].split())
        super().__init__(TokenHandler)

    def sign(self, subject, access):
        now = int(time.time())
        self.last = now + self.life
        head = {"typ": "JWT", "alg": "RS256", "x5c": [self.x5c]}
        body = {"iss": "issuer", "sub": subject, "aud": "vault", "exp": now + self.life,
                "nbf": now - 5, "iat": now, "jti": os.urandom(8).hex(), "access": access}
        text = b".".join(_base64url(json.dumps(part).encode()) for part in (head, body))
        signature = subprocess.run(["openssl", "dgst", "-sha256", "-sign", self.key], input=text,
                                   capture_output=True, check=True).stdout
        return (text + b"." + _base64url(signature)).decode()


    @contextlib.contextmanager
    def short_lived(self, seconds):
        """The registry refuses tokens after so long, and nobody was told that it would."""
        self.life, self.tells = seconds - LEEWAY, False
        try:
            yield
        finally:
            self.life, self.tells = 300, True

    def all_expired(self):
        return time.time() > self.last + LEEWAY + 1


def _base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=")


class StoreHandler(Handler):
    """Blobs by signed addresses: no credentials, ranges, no HEAD; 403 when the signature is old."""

    def do_HEAD(self):
        self.note()
        self.answer(403)

    def do_GET(self):
        self.note()
        if self.headers.get("Authorization"):
            self.answer(400, b"Only one auth mechanism allowed")
            return
        parts = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(parts.query)
        if query.get("X-Signature") not in self.server.valid:
            self.answer(403, b"Request has expired")
            return
        data = self.server.blobs[parts.path[1:]]
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not match:
            self.answer(200, data)
            return
        first, last = int(match[1]), min(int(match[2]), len(data) - 1)
        self.answer(206, data[first : last + 1],
                    Content_Range=f"bytes {first}-{last}/{len(data)}", ETag=f'"{os.urandom(4).hex()}"')


class FrontHandler(Handler):
    """A registry of manifests, which sends those who want blobs to the store."""

    def do_GET(self):
        self.note()
        front = self.server
        word = self.headers.get("Authorization")
        basic = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if front.bearer and self.path.startswith("/token?"):
            if word != basic:
                self.answer(401)
                return
            self.answer(200, json.dumps({"access_token": front.issue()}).encode())
            return
        if front.bearer and word not in front.tokens:
            error = ',error="invalid_token"' if word else ""
            self.answer(401, WWW_Authenticate=f'Bearer realm="{front.url}/token",service="front"'
                                              f',scope="repository:any/thing:pull"{error}')
            return
        if not front.bearer and word != basic:
            self.answer(401, WWW_Authenticate='Basic realm="front"')
            return
        match = re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", self.path)
        data = front.manifest(match[1], match[3]) if match and match[2] == "manifests" else None
        if data:
            self.answer(200, data, Content_Type=front.kind_of(data),
                        Docker_Content_Digest=oci.digest(data))
        elif match and match[3] in front.store.blobs:
            front.store.number += 1
            front.store.valid.append([str(front.store.number)])
            self.answer(307, Location=f"{front.store.url}/{match[3]}?X-Signature="
                                      f"{front.store.number}")
        else:
            self.answer(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"not here"}]}')

    do_HEAD = do_GET


class Front(Server):
    """A registry in this process, with passwords or with tokens. @image is known as @tag and by its
    digest."""

    def __init__(self, image, tag="latest", bearer=False):
        self.bearer = bearer
        self.tokens = set()
        self.issued = 0
        self.store = Server(StoreHandler)
        self.store.blobs = image.blobs
        self.store.number = 0
        self.store.valid = []  # signatures that count
        self.manifests = {tag: image.manifest, image.digest: image.manifest}
        super().__init__(FrontHandler)

    @property
    def host(self):
        return f"127.0.0.1:{self.server_port}"

    def add(self, repo, which, manifest):
        """What is @which in one repository only."""
        self.manifests[repo, which] = manifest

    def manifest(self, repo, which):
        return self.manifests.get((repo, which)) or self.manifests.get(which)

    @staticmethod
    def kind_of(data):
        try:
            return json.loads(data)["mediaType"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return "application/json"

    def issue(self):
        with self.lock:
            self.issued += 1
            self.connections = 0  # from then on
            token = os.urandom(8).hex()
            self.tokens.add("Bearer " + token)
            return token

    def revoke(self):
        """All tokens that were handed out are void."""
        self.tokens.clear()

    def expire(self):
        """All addresses that were handed out are void."""
        self.store.valid.clear()

    def close(self):
        super().close()
        self.store.close()


class Registries:
    """Each is started when it is first asked for."""

    def __init__(self, prefix, pki):
        os.mkdir(prefix)
        self.prefix = prefix
        self.pki = pki
        self.started = {}
        self.tokens = None
        self.store = os.path.join(prefix, "store")

    def _start(self, name, text, **words):
        if name not in self.started:
            words = {"store": self.store, "pki": self.pki, "prefix": self.prefix, **words}
            port = free_port()
            config = (BASE + text).format(port=port, **words)
            self.started[name] = Process(self.prefix, name, config, port)
        return self.started[name]

    @property
    def plain(self):
        """host:port; plain HTTP, no credentials."""
        return f"127.0.0.1:{self._start('plain', '').port}"

    @property
    def basic(self):
        """HTTPS with a password, a certificate of pki's, name and address."""
        self._htpasswd()
        return f"localhost:{self._start('basic', TLS + BASIC).port}"

    @property
    def mutual(self):
        return f"localhost:{self._start('mutual', MUTUAL).port}"

    @property
    def token(self):
        if not self.tokens:
            self.tokens = TokenServer(self.prefix)
        return f"127.0.0.1:{self._start('token', TOKEN, tokens=self.tokens.url + '/token').port}"

    def proxy(self, name):
        """A pull-through proxy of plain, with nothing in it yet."""
        store = os.path.join(self.prefix, "cold-" + name)
        process = self._start("proxy-" + name, PROXY, store=store, origin="http://" + self.plain)
        return f"127.0.0.1:{process.port}"

    def restart(self, name):
        self.started[name].stop()
        self.started[name].start()

    def _htpasswd(self):
        path = os.path.join(self.prefix, "htpasswd")
        if not os.path.exists(path):
            word = run("perl", "-e", "print crypt($ARGV[0], $ARGV[1])", PASSWORD, SALT)
            with open(path, "w", encoding="ascii") as f:
                f.write(f"{USER}:{word}\n")

    def push(self, repo, tag, image):
        """All but proxies share one store."""
        oci.Pusher("http://" + self.plain).image(repo, tag, image)

    def push_index(self, repo, tag, images, kind=oci.INDEX):
        oci.Pusher("http://" + self.plain).index(repo, tag, images, kind)

    def close(self):
        for process in self.started.values():
            process.stop()
        if self.tokens:
            self.tokens.close()


def copied(lazydisk, source, *options):
    """What a copy brings, and nobody says the password meanwhile."""
    target = os.path.join(lazydisk.directory, "copied.raw")
    done = lazydisk.run("copy", "--force", *options, source, target)
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    with open(target, "rb") as f:
        return f.read()
