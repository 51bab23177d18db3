# SPDX-License-Identifier: Apache-2.0
"""OCI images made of plain bytes and JSON, as layouts on disk and pushed to registries by HTTP."""

import base64
import gzip
import hashlib
import http.client
import io
import json
import os
import ssl
import tarfile
import urllib.parse

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tar(files, **kwargs):
    """A layer: {name: bytes}, as `tar` writes it."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT, **kwargs) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.uid = info.gid = 107
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


class Image:
    """One image manifest and its blobs."""

    def __init__(self, layers, kind=MANIFEST, arch="amd64", labels=None, media_types=None, **extra):
        config_type = CONFIG if kind == MANIFEST else DOCKER_CONFIG
        config = json.dumps({
            "architecture": arch, "os": "linux", "config": {"Labels": labels or {}},
            "rootfs": {"type": "layers", "diff_ids": [digest(_plain(b)) for b in layers]},
        }).encode()
        self.kind = kind
        self.arch = arch
        self.blobs = {digest(b): b for b in [config, *layers]}
        self.layers = [digest(b) for b in layers]
        types = media_types or [LAYER + ("+gzip" if b[:2] == b"\x1f\x8b" else "") for b in layers]
        self.manifest = json.dumps({
            "schemaVersion": 2, "mediaType": kind,
            "config": {"mediaType": config_type, "digest": digest(config), "size": len(config)},
            "layers": [{"mediaType": t, "digest": digest(b), "size": len(b)}
                       for t, b in zip(types, layers)],
            **extra}).encode()

    @property
    def digest(self):
        return digest(self.manifest)


def _plain(data):
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def index(images, kind=INDEX):
    """An index over @images: {"os/arch[/variant]": Image}."""
    entries = []
    for platform, image in images.items():
        words = dict(zip(("os", "architecture", "variant"), platform.split("/")))
        entries.append({"mediaType": image.kind, "digest": image.digest,
                        "size": len(image.manifest), "platform": words})
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": entries}).encode()


def write_layout(directory, images):
    """{reference name: Image} as an image layout."""
    entries = []
    for name, image in images.items():
        for key, data in [*image.blobs.items(), (image.digest, image.manifest)]:
            path = os.path.join(directory, "blobs", *key.split(":"))
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as f:
                f.write(data)
        entries.append({"mediaType": image.kind, "digest": image.digest,
                        "size": len(image.manifest),
                        "annotations": {"org.opencontainers.image.ref.name": name}})
    with open(os.path.join(directory, "oci-layout"), "w", encoding="ascii") as f:
        f.write('{"imageLayoutVersion":"1.0.0"}')
    with open(os.path.join(directory, "index.json"), "w", encoding="ascii") as f:
        json.dump({"schemaVersion": 2, "manifests": entries}, f)


class Pusher:
    """Puts images into the registry at @url."""

    def __init__(self, url, user=None, password=None, ca=None, cert=None, key=None):
        parts = urllib.parse.urlsplit(url)
        self.host = parts.netloc
        self.context = None
        self.headers = {}
        if parts.scheme == "https":
            self.context = ssl.create_default_context(cafile=ca)
            if cert:
                self.context.load_cert_chain(cert, key)
        if user:
            word = base64.b64encode(f"{user}:{password}".encode()).decode()
            self.headers["Authorization"] = "Basic " + word

    def _call(self, method, path, body=None, **headers):
        if self.context:
            link = http.client.HTTPSConnection(self.host, context=self.context, timeout=30)
        else:
            link = http.client.HTTPConnection(self.host, timeout=30)
        with_auth = {**self.headers, **{k.replace("_", "-"): v for k, v in headers.items()}}
        link.request(method, path, body, with_auth)
        answer = link.getresponse()
        text = answer.read()
        link.close()
        return answer, text

    def blob(self, repo, data):
        answer, _ = self._call("HEAD", f"/v2/{repo}/blobs/{digest(data)}")
        if answer.status == 200:
            return
        answer, text = self._call("POST", f"/v2/{repo}/blobs/uploads/", b"")
        assert answer.status == 202, (answer.status, text)
        parts = urllib.parse.urlsplit(answer.headers["Location"])
        query = parts.query + ("&" if parts.query else "") + "digest=" + digest(data)
        answer, text = self._call("PUT", f"{parts.path}?{query}", data,
                                  Content_Type="application/octet-stream")
        assert answer.status == 201, (answer.status, text)

    def manifest(self, repo, tag, data, kind):
        answer, text = self._call("PUT", f"/v2/{repo}/manifests/{tag}", data, Content_Type=kind)
        assert answer.status == 201, (answer.status, text)

    def image(self, repo, tag, image):
        for data in image.blobs.values():
            self.blob(repo, data)
        self.manifest(repo, tag, image.manifest, image.kind)

    def index(self, repo, tag, images, kind=INDEX):
        for image in images.values():
            self.image(repo, image.digest, image)
        self.manifest(repo, tag, index(images, kind), kind)
