# SPDX-License-Identifier: Apache-2.0
"""What goes over the wire between sources/ and registries: real ones, and fronts of our own."""

import base64
import errno
import json
import os
import subprocess
import threading

import pytest

import oci
from command import BUILD, slowness
from registries import IDENTITY, PASSWORD, USER, Front
from util import MIB, assert_bytes, run, seeded_bytes

BLOBCAT = os.path.join(BUILD, "tests", "helpers", "blobcat")
LATE = 30


class Blobcat:
    """tests/helpers/blobcat, with a home of its own."""

    def __init__(self, home):
        self.home = home
        self.env = {"PATH": os.environ["PATH"], "HOME": home, "XDG_RUNTIME_DIR": home + "/run"}
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"):
            if name in os.environ:
                self.env[name] = os.environ[name]

    def start(self, *args):
        return subprocess.Popen([BLOBCAT, *map(str, args)], env=self.env, stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *args):
        done = subprocess.run([BLOBCAT, *map(str, args)], env=self.env, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=LATE * slowness(), check=False)
        return done.returncode, done.stdout, done.stderr.decode()

    def facts(self, *args):
        code, out, err = self.run(*args)
        assert code == 0, err
        return json.loads(out)

    def layer(self, *args, layer=0):
        code, out, err = self.run("--layer", layer, *args)
        assert code == 0, err
        self.said = err
        return out

    def fails(self, code, *args):
        """The one line that it says."""
        got, out, err = self.run(*args)
        assert got == code, (got, out[:200], err)
        assert err.count("\n") == 1, err
        for secret in (PASSWORD, IDENTITY, "wrong-word"):
            assert secret not in err
        return err.strip()

    def write(self, name, data):
        path = os.path.join(self.home, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write(data if isinstance(data, str) else json.dumps(data))
        return path


@pytest.fixture(name="blobcat")
def fixture_blobcat(tmp):
    return Blobcat(tmp)


@pytest.fixture(scope="module", name="image")
def fixture_image(registries):
    image = oci.Image([oci.tar({"disk/disk.img": seeded_bytes(2 * MIB + 4711, 1)}),
                       oci.tar({"etc/x": b"x"})])
    for repo in ("t/disk", "public/disk"):
        registries.push(repo, "latest", image)
        registries.push(repo, "v1", image)
    return image


@pytest.fixture(name="front")
def fixture_front(image):
    front = Front(image)
    yield front
    front.close()


def bytes_of(image, layer=0):
    return image.blobs[image.layers[layer]]


def login(user=USER, password=PASSWORD):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def tls(registries):
    return ["--cacert", registries.pki.ca]


# --- real registries ---


def test_plain_http_on_loopback_is_read(blobcat, registries, image):
    facts = blobcat.facts(f"docker://{registries.plain}/t/disk")
    assert facts["digest"] == image.digest
    assert facts["reference"] == f"docker://{registries.plain}/t/disk:latest"
    assert [layer["digest"] for layer in facts["layers"]] == image.layers
    assert [layer["size"] for layer in facts["layers"]] == [len(bytes_of(image, i)) for i in (0, 1)]
    for ref in ("t/disk:v1", f"t/disk@{image.digest}", f"t/disk:nothing@{image.digest}"):
        got = blobcat.layer(f"docker://{registries.plain}/{ref}")
        assert_bytes(got, bytes_of(image))
    got = blobcat.layer("--threads", 8, f"docker://{registries.plain}/t/disk")
    assert_bytes(got, bytes_of(image))
    got = blobcat.layer(f"docker://{registries.plain}/t/disk", layer=1)
    assert_bytes(got, bytes_of(image, 1))


def test_tls_and_passwords(blobcat, registries, image):
    ref = f"docker://{registries.basic}/t/disk"
    given = ["--user", USER, "--password", PASSWORD]
    assert_bytes(blobcat.layer(*tls(registries), *given, ref), bytes_of(image))
    assert "unknown authority" in blobcat.fails(errno.EKEYREJECTED, *given, ref)
    assert_bytes(blobcat.layer("--insecure", *given, ref), bytes_of(image))
    said = blobcat.fails(errno.EACCES, *tls(registries), ref)
    assert registries.basic in said and "--authfile" in said
    said = blobcat.fails(errno.EACCES, *tls(registries), "--user", USER, "--password", "wrong-word",
                         ref)
    assert registries.basic in said and f"user {USER}" in said


def test_client_certificates(blobcat, registries, image):
    ref = f"docker://{registries.mutual}/t/disk"
    pki = registries.pki
    given = ["--client-cert", pki.client_cert, "--client-key", pki.client_key]
    assert_bytes(blobcat.layer(*tls(registries), *given, ref), bytes_of(image))
    assert "--client-cert" in blobcat.fails(errno.EKEYREJECTED, *tls(registries), ref)


def test_certificates_of_a_registry_are_found_where_container_tools_keep_them(
        blobcat, registries, image):
    ref = f"docker://{registries.mutual}/t/disk"
    pki = registries.pki
    where = f".config/containers/certs.d/{registries.mutual}/"
    for name, path in (("ca.crt", pki.ca), ("me.cert", pki.client_cert), ("me.key", pki.client_key)):
        blobcat.write(where + name, open(path, encoding="ascii").read())
    assert_bytes(blobcat.layer(ref), bytes_of(image))
    os.unlink(os.path.join(blobcat.home, where, "me.key"))
    assert "me.key" in blobcat.fails(errno.EINVAL, ref)


def test_tokens(blobcat, registries, image):
    private = f"docker://{registries.token}/t/disk"
    given = ["--user", USER, "--password", PASSWORD]
    assert_bytes(blobcat.layer(f"docker://{registries.token}/public/disk"), bytes_of(image))
    assert_bytes(blobcat.layer(*given, "--threads", 4, private), bytes_of(image))
    said = blobcat.fails(errno.EACCES, private)
    assert registries.token in said and "no such repository" in said
    said = blobcat.fails(errno.EACCES, "--user", USER, "--password", "wrong-word", private)
    assert f"user {USER}" in said and "127.0.0.1" in said
    identity = blobcat.write("id.json", {"auths": {registries.token: {
        "auth": base64.b64encode(b"00000000-0000-0000-0000-000000000000:").decode(),
        "identitytoken": IDENTITY}}})
    assert_bytes(blobcat.layer("--authfile", identity, private), bytes_of(image))
    method, path, headers = registries.tokens.seen[-1]
    assert method == "POST" and IDENTITY not in path and "Authorization" not in headers


def test_a_token_server_that_is_busy_is_asked_again(blobcat, registries, image):
    registries.token  # pylint: disable=pointless-statement
    registries.tokens.fail = [429, 503]
    assert_bytes(blobcat.layer(f"docker://{registries.token}/public/disk"), bytes_of(image))
    assert registries.tokens.fail == []


def test_tokens_that_are_never_good_are_an_error_and_no_loop(blobcat, registries, image):
    assert image
    ref = f"docker://{registries.token}/public/disk"
    before = len(registries.tokens.seen)
    registries.tokens.life = -70
    try:
        assert "gives no access" in blobcat.fails(errno.EACCES, ref)
    finally:
        registries.tokens.life = 300
    assert len(registries.tokens.seen) - before <= 3


def test_a_pull_through_proxy_serves_no_ranges_at_first(blobcat, registries, image):
    ref = f"docker://{registries.proxy('a')}/t/disk"
    assert_bytes(blobcat.layer(ref), bytes_of(image))
    assert "sequential" in blobcat.said
    assert_bytes(blobcat.layer(ref), bytes_of(image))
    assert "sequential" not in blobcat.said


def test_a_proxy_that_lost_what_it_had_is_warmed_up(blobcat, registries, image):
    """A reader that knows of ranges finds none: one transfer of all of it, then ranges again."""
    ref = f"docker://{registries.proxy('b')}/t/disk"
    records = os.path.join(blobcat.home, "records")
    os.mkdir(records)
    blobcat.layer("--records", records, f"docker://{registries.plain}/t/disk")
    known = os.path.join(records, f"docker:__{registries.plain}_t_disk:latest")
    as_proxy = os.path.join(records, f"docker:__{registries.proxy('b')}_t_disk:latest")
    os.rename(known, as_proxy)
    args = ["--records", records, "--known", "--threads", 4]
    assert_bytes(blobcat.layer(*args, ref), bytes_of(image))
    fetched = int(blobcat.said.split()[3])
    assert fetched <= 4 * len(bytes_of(image))


def test_a_registry_that_restarts_is_not_noticed(blobcat, registries, image):
    step = 256 * 1024
    reader = blobcat.start("--layer", 0, "--steps", step, f"docker://{registries.plain}/t/disk")
    got = b""
    for turn in range(-(-len(bytes_of(image)) // step)):
        if turn == 2:
            registries.restart("plain")
        if turn == 4:
            registries.started["plain"].stop()
            threading.Timer(0.3, registries.started["plain"].start).start()
        reader.stdin.write(b"\n")
        reader.stdin.flush()
        got += reader.stdout.read(min(step, len(bytes_of(image)) - len(got)))
    _, said = reader.communicate(timeout=LATE * slowness())
    assert reader.returncode == 0, said
    assert_bytes(got, bytes_of(image))


def test_what_is_not_there_is_said(blobcat, registries, image):
    assert image
    said = blobcat.fails(errno.ENOENT, f"docker://{registries.plain}/t/disk:missing")
    assert said.startswith(f"docker://{registries.plain}/t/disk:missing: there is no such image")
    said = blobcat.fails(errno.ENOENT, f"docker://{registries.plain}/t/never")
    assert "no such image" in said
    nowhere = "sha256:" + "0" * 64
    blobcat.fails(errno.ENOENT, f"docker://{registries.plain}/t/disk@{nowhere}")


@pytest.mark.parametrize("kind", [oci.INDEX, oci.DOCKER_LIST], ids=["oci", "docker"])
def test_the_image_for_a_platform_is_chosen(blobcat, registries, kind):
    manifest = oci.MANIFEST if kind == oci.INDEX else oci.DOCKER_MANIFEST
    images = {f"linux/{arch}": oci.Image([oci.tar({"disk/x": arch.encode()})], manifest, arch)
              for arch in ("amd64", "arm64")}
    tag = "list" if kind == oci.DOCKER_LIST else "index"
    registries.push_index("t/multi", tag, images, kind)
    ref = f"docker://{registries.plain}/t/multi:{tag}"
    for arch, name in (("amd64", "amd64"), ("arm64", "aarch64"), ("arm64", "linux/arm64/v8")):
        facts = blobcat.facts("--platform", name, ref)
        assert facts["platform"] == f"linux/{arch}"
        assert facts["digest"] == images[f"linux/{arch}"].digest
        assert_bytes(blobcat.layer("--platform", name, ref), bytes_of(images[f"linux/{arch}"]))
    said = blobcat.fails(errno.ENOENT, "--platform", "s390x", ref)
    assert "linux/amd64, linux/arm64" in said
    single = f"docker://{registries.plain}/t/multi@{images['linux/arm64'].digest}"
    assert "arm64" in blobcat.fails(errno.ENOENT, "--platform", "amd64", single)
    blobcat.facts("--platform", "arm64", single)


def test_labels_are_read(blobcat, registries):
    image = oci.Image([oci.tar({"a": b"a"})], labels={"containers.bootc": "1"})
    registries.push("t/labels", "latest", image)
    ref = f"docker://{registries.plain}/t/labels"
    assert blobcat.facts("--label", "containers.bootc", ref)["label"] == "1"
    assert "label" not in blobcat.facts("--label", "other", ref)


# --- fronts: what registries do in the wild ---


def given(front):
    return ["--user", USER, "--password", PASSWORD, f"docker://{front.host}/any/thing"]


def secrets_seen(server):
    word = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return [s for s in server.seen if "Authorization" in s[2] or word in str(s) or PASSWORD in str(s)]


def test_credentials_do_not_follow_a_redirect(blobcat, front, image):
    assert_bytes(blobcat.layer("--threads", 4, *given(front)), bytes_of(image))
    assert front.store.seen and not secrets_seen(front.store)
    assert len(secrets_seen(front)) >= 2
    # resolved once and kept
    asked = [s for s in front.seen if "/blobs/" in s[1] and "Authorization" in s[2]]
    assert len(asked) < len(front.store.seen)


def test_an_address_that_expires_is_asked_for_anew(blobcat, front, image):
    step = 128 * 1024
    reader = blobcat.start("--layer", 0, "--steps", step, *given(front))
    got = b""
    for turn in range(-(-len(bytes_of(image)) // step)):
        if turn % 3 == 2:
            front.expire()
        reader.stdin.write(b"\n")
        reader.stdin.flush()
        got += reader.stdout.read(min(step, len(bytes_of(image)) - len(got)))
    _, said = reader.communicate(timeout=LATE * slowness())
    assert reader.returncode == 0, said
    assert_bytes(got, bytes_of(image))
    assert not secrets_seen(front.store)
    assert any(s[0] == "GET" for s in front.store.seen)


def test_a_token_that_is_void_in_mid_read_is_renewed_once(blobcat, image):
    front = Front(image, bearer=True)
    step = 512 * 1024
    try:
        reader = blobcat.start("--layer", 0, "--steps", step, *given(front))
        got = b""
        for turn in range(-(-len(bytes_of(image)) // step)):
            if turn == 2:
                front.revoke()
                front.expire()
            reader.stdin.write(b"\n")
            reader.stdin.flush()
            got += reader.stdout.read(min(step, len(bytes_of(image)) - len(got)))
        _, said = reader.communicate(timeout=LATE * slowness())
        assert reader.returncode == 0, said
        assert_bytes(got, bytes_of(image))
        assert front.issued == 2
        assert not secrets_seen(front.store)
        # many readers at once fetch one token
        front.issued = 0
        assert_bytes(blobcat.layer("--threads", 16, *given(front)), bytes_of(image))
        assert front.issued == 1
    finally:
        front.close()


def test_an_image_that_is_known_costs_one_question(blobcat, front, image):
    records = os.path.join(blobcat.home, "records")
    os.mkdir(records)
    args = ["--records", records, "--known", "--layer", 0, "--steps", 65536, *given(front)]
    blobcat.layer("--records", records, *given(front))
    del front.seen[:], front.store.seen[:]
    reader = blobcat.start(*args)
    assert reader.communicate(timeout=LATE * slowness())[0] == b"" and reader.returncode == 0
    # the first is refused for want of credentials, the second answered
    assert [s[0] for s in front.seen] == ["HEAD", "HEAD"] and not front.store.seen
    newer = oci.Image([oci.tar({"disk/new": b"new"})])
    front.manifests["latest"] = newer.manifest
    assert blobcat.facts("--records", records, *given(front))["digest"] == newer.digest
    front.manifests["latest"] = image.manifest
    assert blobcat.facts("--records", records, *given(front))["digest"] == image.digest


def test_an_image_that_is_known_costs_a_token_and_a_question(blobcat, image):
    records = os.path.join(blobcat.home, "records")
    os.mkdir(records)
    front = Front(image, bearer=True)
    try:
        blobcat.layer("--records", records, *given(front))
        del front.seen[:], front.store.seen[:]
        facts = blobcat.facts("--records", records, *given(front))
        assert facts["digest"] == image.digest and not facts["unconfirmed"]
        assert [s[1].split("?")[0] for s in front.seen] == ["/token", "/v2/any/thing/manifests/latest"]
        assert not front.store.seen
    finally:
        front.close()


def test_an_image_that_is_known_opens_without_its_registry(blobcat, image):
    records = os.path.join(blobcat.home, "records")
    os.mkdir(records)
    front = Front(image)
    args = ["--timeout", 1, "--records", records, *given(front)]
    try:
        assert not blobcat.facts(*args)["unconfirmed"]
    finally:
        front.close()
    facts = blobcat.facts(*args)
    assert facts["unconfirmed"] and facts["digest"] == image.digest
    by_digest = ["--timeout", 1, "--records", records, f"docker://{front.host}/any/thing@{image.digest}"]
    assert blobcat.facts(*by_digest)["digest"] == image.digest
    # a record that was tampered with is none
    path = os.path.join(records, image.digest)
    data = open(path, "rb").read()
    with open(path, "wb") as f:
        f.write(data.replace(b"tar", b"rat", 1))
    blobcat.fails(errno.ENXIO, *by_digest)


def test_how_a_registry_is_reached_is_remembered_of_one_that_answered(blobcat, registries, image):
    """With --insecure, one that is down may speak TLS or not."""
    records = os.path.join(blobcat.home, "records")
    os.mkdir(records)
    args = ["--records", records, "--insecure", "--user", USER, "--password",
            PASSWORD, f"docker://{registries.basic}/t/disk@{image.digest}"]
    blobcat.facts("--records", records, f"docker://{registries.plain}/t/disk")
    registries.started["basic"].stop()
    try:
        assert blobcat.facts("--timeout", 1, *args)["digest"] == image.digest
    finally:
        registries.started["basic"].start()
    record = os.path.join(records, args[-1].replace("/", "_"))
    with open(record, "rb") as f:
        assert "plain" not in json.load(f)
    assert_bytes(blobcat.layer(*args), bytes_of(image))
    with open(record, "rb") as f:
        assert json.load(f)["plain"] is False


def test_bytes_that_are_not_of_their_digest_are_refused(blobcat, front, image):
    other = oci.Image([b"x"])
    front.manifests[image.digest] = other.manifest
    ref = f"docker://{front.host}/any/thing@{image.digest}"
    said = blobcat.fails(errno.ENOKEY, "--user", USER, "--password", PASSWORD, ref)
    assert "do not match their digest" in said


def test_a_blob_of_another_size_is_refused(blobcat, front, image):
    front.store.blobs = {**image.blobs, image.layers[0]: bytes_of(image)[:-1]}
    said = blobcat.fails(errno.EBADMSG, "--layer", 0, *given(front))
    assert str(len(bytes_of(image))) in said and "manifest" in said


@pytest.mark.parametrize("data, code, words", [
    (b" " * (100 * MIB), errno.EBADMSG, "larger than 4 MiB"),
    (b'{"schemaVersion": 1, "mediaType": "application/vnd.docker.distribution.manifest.v1+json",'
     b' "fsLayers": []}', errno.ENOTSUP, "schema 1"),
    (b"<html>", errno.EBADMSG, "not JSON"),
    (b'{"mediaType": "text/html"}', errno.EBADMSG, "not a manifest"),
    (b"[" * 100000, errno.EBADMSG, "nested too deeply"),
], ids=["huge", "schema1", "html", "other", "deep"])
def test_manifests_that_are_none_are_one_clear_line(blobcat, front, data, code, words):
    front.manifests["latest"] = data
    assert words in blobcat.fails(code, *given(front))


def test_what_is_known_of_an_image_can_be_told_without_it(blobcat, registries):
    """As `cache drop` needs it."""
    images = {f"linux/{arch}": oci.Image([oci.tar({"disk/x": arch.encode()})], arch=arch)
              for arch in ("amd64", "arm64")}
    registries.push_index("t/known", "latest", images)
    records = os.path.join(blobcat.home, "records")
    os.mkdir(records)
    ref = f"docker://{registries.plain}/t/known"
    for platform in images:
        blobcat.facts("--records", records, "--platform", platform, "--label", "x", ref)
    code, out, _ = blobcat.run("--records", records, "--keys", ref)
    lines = set(out.decode().split("\n")) - {""}
    configs = {key for image in images.values() for key in image.blobs} - {
        image.layers[0] for image in images.values()}
    wanted = {f"record {ref}:latest", f"record {oci.digest(oci.index(images))}"}
    wanted |= {f"record {image.digest}" for image in images.values()}
    wanted |= {f"record {config}" for config in configs}
    wanted |= {f"layer {image.layers[0]}" for image in images.values()}
    assert code == 0 and lines == wanted
    code, _, said = blobcat.run("--records", records, "--keys", ref + ":other")
    assert code == errno.ENOENT and "not cached" in said


# --- whose credentials ---


def account(blobcat, ref, *args):
    return blobcat.facts(*args, ref)["account"]


def test_credentials_are_found_in_their_order(blobcat, front):
    ref = f"docker://{front.host}/any/thing"
    files = [blobcat.write(name, {"auths": {front.host: login()}}) for name in (
        "given.json", "variable.json", "run/containers/auth.json", ".config/containers/auth.json",
        ".docker/config.json")]
    files.append(blobcat.write(".dockercfg", {f"http://{front.host}/v1/": login()}))
    blobcat.env["REGISTRY_AUTH_FILE"] = files[1]
    assert account(blobcat, ref, "--user", USER, "--password", PASSWORD) == f"user {USER} from the options"
    assert account(blobcat, ref, "--authfile", files[0]) == f"user {USER} from {files[0]}"
    for path in files[1:]:
        assert account(blobcat, ref) == f"user {USER} from {path}"
        os.unlink(path)
        blobcat.env.pop("REGISTRY_AUTH_FILE", None)
    assert "--authfile" in blobcat.fails(errno.EACCES, ref)


def test_a_mounted_secret_is_an_authfile(blobcat, front):
    ref = f"docker://{front.host}/any/thing"
    path = blobcat.write("secret/.dockerconfigjson", {"auths": {front.host: login()}})
    where = os.path.dirname(path)
    assert account(blobcat, ref, "--authfile", where) == f"user {USER} from {path}"
    os.unlink(path)
    assert ".dockerconfigjson" in blobcat.fails(errno.EINVAL, "--authfile", where, ref)
    broken = blobcat.write("broken.json", "{")
    assert broken in blobcat.fails(errno.EINVAL, "--authfile", broken, ref)


def test_the_repository_says_which_account(blobcat, front):
    path = blobcat.write("a.json", {"auths": {
        front.host: login("nobody", "wrong-word"), f"{front.host}/any": login(),
        f"{front.host}/any/other": login("nobody", "wrong-word")}})
    blobcat.facts("--authfile", path, f"docker://{front.host}/any/thing")
    for repo in ("some/thing", "any/other"):
        said = blobcat.fails(errno.EACCES, "--authfile", path, f"docker://{front.host}/{repo}")
        assert f"user nobody from {path}" in said and front.host in said


def test_a_helper_is_asked_over_its_input(blobcat, front):
    script = blobcat.write("bin/docker-credential-vault", f"""#!/bin/sh
echo "$@" >{blobcat.home}/args
cat >{blobcat.home}/input
test -e {blobcat.home}/empty && {{ echo credentials not found in native keychain; exit 1; }}
test -e {blobcat.home}/broken && {{ test -e {blobcat.home}/late || echo the vault is shut; }}
test -e {blobcat.home}/broken && ! test -e {blobcat.home}/late && exit 1
printf '{{"ServerURL":"x","Username":"%s","Secret":"%s"}}' {USER} {PASSWORD}
! test -e {blobcat.home}/late
""")
    os.chmod(script, 0o755)
    blobcat.env["PATH"] = os.path.dirname(script) + ":" + blobcat.env["PATH"]
    path = blobcat.write(".docker/config.json", {"credHelpers": {front.host: "vault"}})
    ref = f"docker://{front.host}/any/thing"
    assert account(blobcat, ref) == f"user {USER} from docker-credential-vault"
    assert open(blobcat.home + "/args", encoding="ascii").read() == "get\n"
    assert open(blobcat.home + "/input", encoding="ascii").read() == front.host
    blobcat.write("broken", "")
    said = blobcat.fails(errno.EACCES, ref)
    assert "docker-credential-vault" in said and "the vault is shut" in said
    blobcat.write("late", "")
    said = blobcat.fails(errno.EACCES, ref)
    assert "docker-credential-vault fails" in said and PASSWORD not in said
    blobcat.write("empty", "")
    assert "without credentials" in blobcat.fails(errno.EACCES, ref)
    blobcat.write(".docker/config.json", {"credsStore": "vault", "auths": {front.host: login()}})
    assert account(blobcat, ref) == f"user {USER} from {path}"
    blobcat.write(".docker/config.json", {"credsStore": "missing"})
    assert "docker-credential-missing does not start" in blobcat.fails(errno.EACCES, ref)


def test_credentials_that_were_found_and_are_stale_are_left_aside(blobcat, registries, image):
    path = blobcat.write(".docker/config.json",
                         {"auths": {registries.token: login(USER, "wrong-word")}})
    facts = blobcat.facts(f"docker://{registries.token}/public/disk")
    assert facts["digest"] == image.digest and facts["account"] == ""
    assert path in facts["warning"] and "without credentials" in facts["warning"]
    said = blobcat.fails(errno.EACCES, f"docker://{registries.token}/t/disk")
    assert path in said
    said = blobcat.fails(errno.EACCES, "--authfile", path,
                         f"docker://{registries.token}/public/disk")
    assert path in said


# --- layouts ---


def test_layouts_in_directories(blobcat, image):
    other = oci.Image([oci.tar({"disk/b": b"b"})])
    one, two = os.path.join(blobcat.home, "one"), os.path.join(blobcat.home, "two")
    oci.write_layout(one, {"latest": image})
    oci.write_layout(two, {"a": image, "b": other})
    assert_bytes(blobcat.layer(f"oci:{one}"), bytes_of(image))
    for ref, want in ((":a", image), (":b", other), (":@0", image), (":@1", other)):
        facts = blobcat.facts(f"oci:{two}{ref}")
        assert facts["digest"] == want.digest and facts["reference"] == f"oci:{two}{ref}"
        assert_bytes(blobcat.layer(f"oci:{two}{ref}"), bytes_of(want))
    assert "a, b" in blobcat.fails(errno.EINVAL, f"oci:{two}")
    assert "a, b" in blobcat.fails(errno.ENOENT, f"oci:{two}:c")
    blobcat.fails(errno.ENOENT, f"oci:{two}:@2")
    assert "not an OCI image layout" in blobcat.fails(errno.ENOENT, f"oci:{blobcat.home}")
    os.chmod(one, 0o755)
    with open(os.path.join(one, "blobs", *image.layers[0].split(":")), "ab") as f:
        f.write(b"x")
    blobcat.fails(errno.EBADMSG, "--layer", 0, f"oci:{one}")
    with open(os.path.join(one, "blobs", *image.digest.split(":")), "ab") as f:
        f.write(b" ")
    blobcat.fails(errno.ENOKEY, f"oci:{one}")


def test_what_skopeo_writes_is_read(blobcat, registries, image):
    """An independent writer of layouts and registries."""
    if not os.path.exists("/usr/bin/skopeo"):
        pytest.skip("skopeo is not installed")
    where = os.path.join(blobcat.home, "copy")
    run("skopeo", "copy", "--src-tls-verify=false", "--preserve-digests",
        f"docker://{registries.plain}/t/disk:v1", f"oci:{where}:mine")
    assert blobcat.facts(f"oci:{where}:mine")["digest"] == image.digest
    run("skopeo", "copy", "--dest-tls-verify=false", "--preserve-digests", f"oci:{where}:mine",
        f"docker://{registries.plain}/t/skopeo:x")
    assert_bytes(blobcat.layer(f"docker://{registries.plain}/t/skopeo:x"), bytes_of(image))
    run("skopeo", "copy", "--dest-tls-verify=false", "--format", "v2s2", f"oci:{where}:mine",
        f"docker://{registries.plain}/t/skopeo:v2s2")
    facts = blobcat.facts(f"docker://{registries.plain}/t/skopeo:v2s2")
    assert facts["media_type"] == oci.DOCKER_MANIFEST and len(facts["layers"]) == 2
