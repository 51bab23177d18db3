# SPDX-License-Identifier: Apache-2.0
"""Disks in images of registries, through the command: logins, expiry, failures, manifests."""

import base64
import contextlib
import glob
import json
import os
import re
import threading

import pytest

import oci
from command import slowness
from containers import gz
from registries import PASSWORD, USER, Front, copied
from util import KIB, MIB, assert_bytes, drop_pages, one_line, pread, refuses, seeded_bytes, wait_for

DISK = seeded_bytes(1 * MIB, 3) + bytes(2 * MIB) + seeded_bytes(2 * MIB, 4)


@pytest.fixture(scope="module", name="image")
def fixture_image(registries):
    image = oci.Image([oci.tar({"disk/disk.img": DISK})])
    registries.push("t/vm", "latest", image)
    registries.push("public/vm", "latest", image)
    return image


@pytest.fixture(name="front")
def fixture_front(image):
    front = Front(image)
    yield front
    front.close()


@pytest.fixture(name="password")
def fixture_password(tmp):
    path = os.path.join(tmp, "password")
    with open(path, "w", encoding="ascii") as f:
        f.write(PASSWORD + "\n")
    return ["--user", USER, "--password-file", path]


def docker_config(*hosts, password=PASSWORD):
    word = base64.b64encode(f"{USER}:{password}".encode()).decode()
    return json.dumps({"auths": {host: {"auth": word} for host in hosts}})


def write(directory, name, text):
    path = os.path.join(directory, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return path


def refused(lazydisk, code, *args):
    done = lazydisk.run(*args)
    assert done.returncode == code, (done.returncode, done.stderr)
    assert PASSWORD not in done.stderr and "wrong-word" not in done.stderr
    return one_line(done.stderr)


def test_from_each_registry(lazydisk, registries, image, password):
    assert image
    pki = registries.pki
    ways = [
        (registries.plain, "t/vm", []),
        (registries.basic, "t/vm", ["--cacert", pki.ca, *password]),
        (registries.mutual, "t/vm", ["--cacert", pki.ca, "--client-cert", pki.client_cert,
                                     "--client-key", pki.client_key]),
        (registries.token, "t/vm", password),
        (registries.token, "public/vm", []),
        (registries.proxy("disks"), "t/vm", []),
    ]
    for host, repo, options in ways:
        source = f"docker://{host}/{repo}"
        assert_bytes(copied(lazydisk, source, *options), DISK)
        with lazydisk.mounted("--no-cache", *options, source) as mount:
            assert mount.images() == ["vm.raw"]
            assert_bytes(pread(mount.image(), len(DISK), 0), DISK)


def test_logins_from_secrets_and_files(lazydisk, registries, image):
    assert image
    source = f"docker://{registries.token}/t/vm"
    mounted = os.path.dirname(write(lazydisk.directory, "mounted/.dockerconfigjson",
                                    docker_config(registries.token)))
    word = base64.b64encode(docker_config(registries.token).encode()).decode()
    manifest = write(lazydisk.directory, "secret.yaml",
                     "kind: Secret\napiVersion: v1\ntype: kubernetes.io/dockerconfigjson\n"
                     f"data: {{.dockerconfigjson: {word}}}\n")
    keys = write(lazydisk.directory, "keys/accessKeyId", USER + "\n")
    write(lazydisk.directory, "keys/secretKey", PASSWORD + "\n")
    for options in (["--secret", mounted], ["--secret", manifest], ["--authfile", mounted],
                    ["--secret", os.path.dirname(keys)]):
        assert_bytes(copied(lazydisk, source, *options), DISK)
    info = json.loads(lazydisk.ok("info", "--json", "--secret", mounted, source))
    layer = [found for found in info["layers"] if found["name"] == "image"][0]
    assert layer["reference"] == source + ":latest" and layer["manifest"] == image.digest
    assert layer["account"] == f"user {USER} from {mounted}"
    bad = write(lazydisk.directory, "bad.json", docker_config(registries.token, password="wrong-word"))
    said = refused(lazydisk, 3, "info", "--authfile", bad, source)
    assert registries.token in said and bad in said
    said = refused(lazydisk, 3, "copy", source, os.path.join(lazydisk.directory, "x"))
    assert registries.token in said


def test_expiry_is_not_noticed_by_readers(lazydisk, image, password):
    front = Front(image, bearer=True)
    source = f"docker://{front.host}/any/thing"
    try:
        with lazydisk.mounted("--no-cache", "--readahead", 0, *password, source) as mount:
            for turn, at in enumerate(range(0, len(DISK), 512 * KIB)):
                if turn % 3 == 1:
                    front.revoke()
                    front.expire()
                drop_pages(mount.image())
                assert_bytes(pread(mount.image(), 4096, at), DISK[at:at + 4096], at)
            assert PASSWORD not in json.dumps(mount.status()) + mount.stderr()
        assert front.issued > 1 and front.store.seen
        assert not [s for s in front.store.seen if "Authorization" in s[2]]
    finally:
        front.close()


def test_a_restart_in_mid_copy_is_not_noticed(lazydisk, registries, image):
    assert image
    process = registries.started["plain"]
    stop = threading.Timer(0.4, process.stop)
    start = threading.Timer(1.0, process.start)
    stop.start()
    start.start()
    try:
        got = copied(lazydisk, f"docker://{registries.plain}/t/vm", "--rate", "2Mi")
    finally:
        stop.join()
        start.join()
    assert_bytes(got, DISK)


def test_what_is_wrong_is_one_line(lazydisk, registries, image, front, password):
    assert "no such image" in refused(lazydisk, 3, "info", f"docker://{registries.plain}/t/vm:no")
    images = {f"linux/{arch}": oci.Image([oci.tar({"disk/x": DISK[:512]})], arch=arch)
              for arch in ("amd64", "arm64")}
    registries.push_index("t/vms", "latest", images)
    said = refused(lazydisk, 3, "info", "--platform", "s390x", f"docker://{registries.plain}/t/vms")
    assert "linux/amd64, linux/arm64" in said
    source = f"docker://{front.host}/any/thing"
    front.manifests["latest"] = b'{"schemaVersion": 1, "fsLayers": [], "mediaType": "x"}'
    assert "schema 1" in refused(lazydisk, 4, "info", *password, source)
    front.manifests["latest"] = b" " * (100 * MIB)
    assert "larger than 4 MiB" in refused(lazydisk, 4, "info", *password, source)
    front.manifests["latest"] = image.manifest
    front.manifests[image.digest] = image.manifest + b" "
    assert "do not match" in refused(lazydisk, 6, "info", *password, f"{source}@{image.digest}")
    layer = bytearray(image.blobs[image.layers[0]])
    layer[-20000] ^= 1
    front.store.blobs = {**image.blobs, image.layers[0]: bytes(layer)}
    target = os.path.join(lazydisk.directory, "bad.raw")
    said = refused(lazydisk, 6, "copy", *password, source, target)
    assert re.search(r"checksum|digest", said)
    if os.path.exists(target):
        assert not any(pread(target, MIB, 0))


def test_what_is_cached_is_shared_and_opens_without_the_registry(lazydisk, registries, image):
    registries.push("t/copy", "other", image)
    first, other = (f"docker://{registries.plain}/{ref}" for ref in ("t/vm", "t/copy:other"))
    for _ in range(2):
        with lazydisk.mounted(first) as mount:
            assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
    with lazydisk.mounted(other) as mount:
        assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
        assert mount.layer("http")["bytes_fetched"] < 200 * KIB
    registries.started["plain"].stop()
    try:
        with lazydisk.mounted("--timeout", 2, first) as mount:
            assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
    finally:
        registries.started["plain"].start()
    listed = json.loads(lazydisk.ok("cache", "list", "--json"))
    assert image.layers[0] in [entry["key"] for entry in listed]
    lazydisk.ok("cache", "drop", first)
    assert json.loads(lazydisk.ok("cache", "list", "--json")) == []


def test_volumes_of_manifests(lazydisk, registries, image):
    assert image
    text = f"""
kind: Secret
metadata: {{name: login}}
stringData: {{.dockerconfigjson: '{docker_config(registries.basic)}'}}
---
kind: ConfigMap
metadata: {{name: authority}}
data:
  ca.crt: |
    {open(registries.pki.ca, encoding="ascii").read().replace(chr(10), chr(10) + "    ")}
---
kind: DataVolume
apiVersion: cdi.kubevirt.io/v1beta1
metadata: {{name: root}}
spec:
  source:
    registry:
      url: docker://{registries.basic}/t/vm
      pullMethod: node
      secretRef: login
      certConfigMap: authority
  storage: {{resources: {{requests: {{storage: 8Mi}}}}}}
"""
    path = write(lazydisk.directory, "vm.yaml", text)
    volumes = os.path.join(lazydisk.directory, "volumes")
    os.mkdir(volumes)
    lazydisk.ok("copy", "-f", path, "--volumes", volumes)
    disk = os.path.join(volumes, "default", "root", "disk.img")
    assert_bytes(pread(disk, 8 * MIB, 0), DISK + bytes(8 * MIB - len(DISK)))
    with lazydisk.mounted("-f", path) as mount:
        assert mount.images() == ["root.raw"]
        assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
    wrong = write(lazydisk.directory, "wrong.yaml", text.replace(docker_config(registries.basic),
                  docker_config(registries.basic, password="wrong-word")))
    said = refused(lazydisk, 3, "copy", "-f", wrong, "--volumes", volumes, "--force")
    assert "Secret login" in said and registries.basic in said


# --- caches that several registries fill ---


def evil_front(image, layer):
    """A registry that has the manifest of @image and other bytes in place of its layer."""
    front = Front(image)
    front.store.blobs = {**image.blobs, image.layers[0]: layer}
    return front


def test_a_registry_poisons_no_other(lazydisk, image, front, password):
    """Bytes that nobody verified are served to those only who asked the same registry."""
    lie = oci.tar({"disk/disk.img": bytes(len(DISK) - 512) + b"x" * 512})
    assert len(lie) == len(image.blobs[image.layers[0]])
    evil = evil_front(image, lie)
    evil_source, source = (f"docker://{f.host}/any/thing@{image.digest}" for f in (evil, front))
    try:
        with lazydisk.mounted(*password, evil_source) as mount:
            assert pread(mount.image(), 4096, 0) == bytes(4096)
    finally:
        evil.close()
    with lazydisk.mounted(*password, source) as mount:
        assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
    assert_bytes(copied(lazydisk, source, "--cache-dir", lazydisk.cache, *password), DISK)


def test_a_copy_verifies_what_it_takes_from_the_cache(lazydisk, image, front, password):
    lie = oci.tar({"disk/disk.img": bytes(len(DISK) - 512) + b"x" * 512})
    right, front.store.blobs = front.store.blobs, {**image.blobs, image.layers[0]: lie}
    source = f"docker://{front.host}/any/thing"
    target = os.path.join(lazydisk.directory, "copied.raw")
    with lazydisk.mounted(*password, source) as mount:
        assert pread(mount.image(), 4096, MIB) == bytes(4096)
    front.store.blobs = right
    said = refused(lazydisk, 6, "copy", "--cache-dir", lazydisk.cache, *password, source, target)
    assert "checksum" in said
    assert_bytes(copied(lazydisk, source, "--cache-dir", lazydisk.cache, *password), DISK)


def verdict(mount):
    return mount.layer("blob")["verified"].split(",")[0]


def read_on(mount):
    """All of it, or until the verdict is there and refuses the rest."""
    with contextlib.suppress(OSError):
        pread(mount.image(), len(DISK), 0)


def test_what_was_verified_is_shared_between_registries(lazydisk, registries, image, front,
                                                        password):
    with lazydisk.mounted(f"docker://{registries.plain}/t/vm") as mount:
        assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
        wait_for(lambda: verdict(mount) == "yes", 20 * slowness(), "the verdict")
    with lazydisk.mounted(*password, f"docker://{front.host}/any/thing") as mount:
        assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
        assert verdict(mount) == "yes"
    assert not [s for s in front.store.seen if s[0] == "GET" and image.layers[0] in s[1]]


@pytest.mark.parametrize("squeeze", [bytes, lambda data: gz(data, 0)], ids=["plain", "gzip"])
def test_a_blob_that_was_found_to_be_wrong_is_fetched_anew(lazydisk, front, password, squeeze):
    wanted = oci.Image([squeeze(oci.tar({"disk/disk.img": DISK}))])
    lie = bytearray(oci.tar({"disk/disk.img": DISK}))
    lie[MIB] ^= 1
    lie = squeeze(bytes(lie))
    assert len(lie) == len(wanted.blobs[wanted.layers[0]])
    front.manifests["latest"] = wanted.manifest
    front.store.blobs = {**wanted.blobs, wanted.layers[0]: lie}
    source = f"docker://{front.host}/any/thing"
    with lazydisk.mounted(*password, source) as mount:
        assert os.getxattr(mount.image(), "user.lazydisk.format") == b"raw"
        read_on(mount)
        wait_for(lambda: verdict(mount) == "no", 20 * slowness(), "the verdict")
        wait_for(lambda: refuses(mount.image()), 20 * slowness(), "the end of the pages")
    front.store.blobs = wanted.blobs
    for _ in range(2):
        with lazydisk.mounted(*password, source) as mount:
            assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
            wait_for(lambda: verdict(mount) == "yes", 20 * slowness(), "the verdict")


def test_a_lie_is_dropped_and_the_truth_of_another_registry_stays(lazydisk, image, front, password):
    lie = oci.tar({"disk/disk.img": bytes(len(DISK) - 512) + b"x" * 512})
    evil = evil_front(image, lie)
    evil_source, source = (f"docker://{f.host}/any/thing" for f in (evil, front))
    try:
        for at in (evil_source, source):
            with lazydisk.mounted(*password, at) as mount:
                read_on(mount)
        target = os.path.join(lazydisk.directory, "copied.raw")
        refused(lazydisk, 6, "copy", "--cache-dir", lazydisk.cache, *password, evil_source, target)
    finally:
        evil.close()
    keys = [entry["key"] for entry in json.loads(lazydisk.ok("cache", "list", "--json"))]
    assert [key for key in keys if image.layers[0] in key] == [
        f"{image.layers[0]} from http://{front.host}"]


def test_a_boot_from_one_registry_is_replayed_from_another(lazydisk, registries, image, front,
                                                           password):
    """A trace is of the blob, wherever it comes from, and of no other of that size."""
    with lazydisk.mounted("--no-complete", f"docker://{registries.plain}/t/vm") as mount:
        pread(mount.image(), MIB, 3 * MIB)
    trace, = glob.glob(os.path.join(lazydisk.cache, "obj", "*", "*", "blob.trace"))
    options = ["--no-complete", "--cache-dir", os.path.join(lazydisk.directory, "elsewhere"),
               "--trace", trace, *password]
    with lazydisk.mounted(*options, f"docker://{front.host}/any/thing") as mount:
        assert mount.layer("cache")["trace_boots"] == 1
        assert mount.stderr() == ""
    other = oci.Image([oci.tar({"disk/disk.img": bytes(len(DISK) - 512) + b"x" * 512})])
    assert len(other.blobs[other.layers[0]]) == len(image.blobs[image.layers[0]])
    registries.push("t/other", "latest", other)
    with lazydisk.mounted(*options, f"docker://{registries.plain}/t/other") as mount:
        assert "of another image" in one_line(mount.stderr())


def test_all_of_an_image_is_dropped(lazydisk, image, front, password):
    """Also what was decoded of a file in it, and what two registries have of one digest."""
    packed = oci.Image([oci.tar({"disk/disk.img.gz": gz(DISK, 1)})])
    second = Front(packed)
    front.manifests["latest"] = packed.manifest
    front.store.blobs = packed.blobs
    assert image.digest != packed.digest
    try:
        for host in (front.host, second.host):
            with lazydisk.mounted("--no-complete", *password, f"docker://{host}/any/thing") as mount:
                assert_bytes(pread(mount.image(), 4096, 0), DISK[:4096])
        keys = [entry["key"] for entry in json.loads(lazydisk.ok("cache", "list", "--json"))]
        assert len([key for key in keys if key.endswith("+gzip")]) == 2, keys
        for host in (front.host, second.host):
            lazydisk.ok("cache", "drop", f"docker://{host}/any/thing")
    finally:
        second.close()
    assert json.loads(lazydisk.ok("cache", "list", "--json")) == []
