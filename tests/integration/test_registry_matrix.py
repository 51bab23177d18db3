# SPDX-License-Identifier: Apache-2.0
"""Every kind of registry with every shape of a containerDisk: the bytes are the disk's, through the
mount and by copy."""

import contextlib
import json
import os
import types

import pytest

import oci
from containers import gz, layer, zstd
from registries import PASSWORD, USER, Front, copied
from util import KIB, MIB, assert_bytes, pread, run, seeded_bytes, wait_for

DISK = seeded_bytes(300 * KIB, 1) + bytes(1 * MIB) + b"lazy disk\n" * 30000 + seeded_bytes(512, 2)
DISK += bytes(-len(DISK) % 512)
ARM = seeded_bytes(200 * KIB, 3)
SHAPES = ["raw", "qcow2", "qcow2-gzip", "qcow2-zstd", "whiteouts", "index"]
KINDS = ["plain", "basic", "token", "mutual", "proxy", "redirect"]


def qcow2_of(workdir):
    raw, path = (os.path.join(workdir, "matrix." + end) for end in ("raw", "qcow2"))
    with open(raw, "wb") as f:
        f.write(DISK)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path)
    with open(path, "rb") as f:
        return f.read()


def make_images(qcow2):
    """{shape: Image}, and what the index is over."""
    whole = layer([("disk/", None), ("disk/disk.qcow2", qcow2)])
    zstd_layer = zstd(whole)
    merged = [
        layer([("disk/", None), ("disk/old.img", ARM), ("etc/", None), ("etc/motd", b"x")]),
        gz(layer([("disk/.wh.old.img", b""), ("disk/new.img", ARM)])),
        layer([("disk/.wh..wh..opq", b""), ("disk/disk.img", DISK)]),
        gz(layer([("etc/.wh.motd", b""), ("var/log", b"y")])),
    ]
    images = {
        "raw": oci.Image([oci.tar({"disk/disk.img": DISK})]),
        "qcow2": oci.Image([whole]),
        "qcow2-gzip": oci.Image([gz(whole)]),
        "qcow2-zstd": oci.Image([zstd_layer], media_types=[oci.LAYER + "+zstd"]),
        "whiteouts": oci.Image(merged),
    }
    platforms = {f"linux/{arch}": oci.Image([oci.tar({"disk/disk.img": disk})], arch=arch)
                 for arch, disk in (("amd64", DISK), ("arm64", ARM))}
    return images, platforms


@pytest.fixture(scope="module", name="pushed")
def fixture_pushed(workdir, registries):
    """All of it in the store that the real registries share, made once."""
    images, platforms = make_images(qcow2_of(workdir))
    for shape, image in images.items():
        registries.push("t/" + shape, "latest", image)
    registries.push_index("t/index", "latest", platforms)
    return types.SimpleNamespace(images=images, platforms=platforms)


@pytest.fixture(name="password")
def fixture_password(tmp):
    path = os.path.join(tmp, "password")
    with open(path, "w", encoding="ascii") as f:
        f.write(PASSWORD + "\n")
    return ["--user", USER, "--password-file", path]


@contextlib.contextmanager
def redirecting(pushed):
    """A registry that sends readers of blobs to a host which takes no credentials."""
    front = Front(pushed.images["raw"], "none")
    for shape, image in pushed.images.items():
        front.add("t/" + shape, "latest", image.manifest)
        front.store.blobs.update(image.blobs)
    for image in pushed.platforms.values():
        front.add("t/index", image.digest, image.manifest)
        front.store.blobs.update(image.blobs)
    front.add("t/index", "latest", oci.index(pushed.platforms))
    try:
        yield front
    finally:
        front.close()
    assert front.store.seen
    assert not [s for s in front.store.seen if "Authorization" in s[2] or PASSWORD in str(s)]


@contextlib.contextmanager
def reached(kind, registries, pushed, password):
    """Yields host:port and the options that it takes to read there."""
    tls = ["--cacert", registries.pki.ca]
    if kind == "plain":
        yield registries.plain, []
    elif kind == "basic":
        yield registries.basic, [*tls, *password]
    elif kind == "mutual":
        yield registries.mutual, [*tls, "--client-cert", registries.pki.client_cert,
                                  "--client-key", registries.pki.client_key]
    elif kind == "proxy":
        yield registries.proxy("matrix"), []
    elif kind == "redirect":
        with redirecting(pushed) as front:
            yield front.host, password
    else:
        host = registries.token
        with registries.tokens.short_lived(3):
            yield host, password


def check(lazydisk, host, shapes, options, want=DISK):
    sources = [f"docker://{host}/t/{shape}" for shape in shapes]
    with lazydisk.mounted(*options, *sources, wait=40) as mount:
        assert mount.images() == sorted(shape + ".raw" for shape in shapes)
        for shape in shapes:
            path = mount.path(shape + ".raw")
            assert os.stat(path).st_size == len(want)
            assert_bytes(pread(path, 5000, len(want) - 5000), want[-5000:])
            assert_bytes(pread(path, len(want), 0), want)
        assert PASSWORD not in json.dumps(mount.status()) + mount.stderr()
    for source in sources:
        assert_bytes(copied(lazydisk, source, *options), want)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_shape_from_every_registry(lazydisk, registries, pushed, password, kind):
    with reached(kind, registries, pushed, password) as (host, options):
        check(lazydisk, host, SHAPES, ["--platform", "amd64", *options])
        check(lazydisk, host, ["index"], ["--platform", "arm64", *options], ARM)


@pytest.mark.parametrize("kind", KINDS)
def test_each_registry_once(lazydisk, registries, pushed, password, kind):
    """The same in brief, for builds that are slow."""
    with reached(kind, registries, pushed, password) as (host, options):
        check(lazydisk, host, ["qcow2-zstd"], options)


def test_a_token_that_expires_at_a_real_registry_is_not_noticed(lazydisk, registries, password):
    disk = seeded_bytes(6 * MIB, 5)
    registries.push("t/long", "latest", oci.Image([oci.tar({"disk/disk.img": disk})]))
    source = f"docker://{registries.token}/t/long"
    # Longer than a busy machine takes from getting one to using it.
    with registries.tokens.short_lived(5):
        with lazydisk.mounted("--no-cache", "--readahead", 0, *password, source) as mount:
            before = len(registries.tokens.seen)
            for at in (2 * MIB, 4 * MIB, len(disk) - 4096):
                wait_for(registries.tokens.all_expired, 30, "the token's end")
                assert_bytes(pread(mount.image(), 4096, at), disk[at:at + 4096], at)
            assert len(registries.tokens.seen) - before >= 3


# --- what opening costs: round trips, one after the other ---

ROUND_TRIPS = 8


@pytest.mark.parametrize("shape", ["raw", "qcow2"])
def test_opening_takes_few_round_trips_after_the_token(lazydisk, pushed, password, shape):
    """Requests and set-ups of connections are counted as if none of them went side by side. The
    token's own, before it, are the first three requests: refused, token, answered."""
    front = Front(pushed.images[shape], bearer=True)
    try:
        with lazydisk.mounted("--readahead", 0, *password, f"docker://{front.host}/t/x"):
            asked = [s[1].split("?")[0] for s in front.seen]
            there = list(front.store.seen)
            assert asked[:3] == ["/v2/t/x/manifests/latest", "/token", "/v2/t/x/manifests/latest"]
            trips = len(asked[2:]) + front.connections + len(there) + front.store.connections
            assert trips <= ROUND_TRIPS, (asked, [s[2].get("Range") for s in there])
            print(f"{shape}: {trips} round trips after the token")
    finally:
        front.close()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "redirect"])
def test_opening_at_real_registries_takes_few_requests(lazydisk, registries, pushed, password, kind):
    """By the registry's own log. A connection takes one more for TCP, and one for TLS 1.3. What is
    mounted again takes two requests at most, tokens apart."""
    with reached(kind, registries, pushed, password) as (host, options):
        process = next(p for p in registries.started.values() if host.endswith(f":{p.port}"))
        options = ["--readahead", 0, *options, f"docker://{host}/t/qcow2"]
        before = len(process.requests())
        with lazydisk.mounted(*options, wait=40) as mount:
            first = process.requests()[before:]
            assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
        before = len(process.requests())
        with lazydisk.mounted(*options, wait=40) as mount:
            assert_bytes(pread(mount.image(), len(DISK), 0), DISK)
            again = process.requests()[before:]
    granted = [line for line in first if not line.endswith(" 401")]
    connection = 2 if kind in ("basic", "mutual") else 1
    assert granted and len(granted) + connection <= ROUND_TRIPS, first
    assert 1 <= len(again) <= 2, again
    print(f"{kind}: {len(granted)} requests that were granted; mounted again: {again}")


def test_what_umoci_makes_is_read(lazydisk, tmp, workdir, registries):
    """An independent maker of images: layers in gzip, no entry for the directory, no mediaType."""
    if not os.path.exists("/usr/bin/umoci"):
        pytest.skip("umoci is not installed")
    disk = os.path.join(tmp, "disk.qcow2")
    with open(disk, "wb") as f:
        f.write(qcow2_of(workdir))
    made = os.path.join(tmp, "umoci")
    run("umoci", "init", "--layout", made)
    run("umoci", "new", "--image", made + ":latest")
    run("umoci", "insert", "--rootless", "--image", made + ":latest", disk, "/disk/disk.qcow2")
    run("skopeo", "copy", "--dest-tls-verify=false", f"oci:{made}:latest",
        f"docker://{registries.plain}/t/umoci:latest")
    check(lazydisk, registries.plain, ["umoci"], [])
    assert_bytes(copied(lazydisk, f"oci:{made}:latest"), DISK)
