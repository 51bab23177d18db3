# SPDX-License-Identifier: Apache-2.0
"""Certificates, passwords, headers and proxies; and that no secret is seen where it should not."""

import base64
import glob
import os
import re
import subprocess
import time

import pytest

import faults
from badserver import BadServer
from command import BINARY, slowness
from nginx import PASSWORD, USER
from proxy import Proxy
from util import MIB, assert_bytes, assert_same, offset_words, one_line, pread, wait_for

DATA = offset_words(8, 8 + 2 * MIB)
SECRET = "hunter2-Zq9-never-shown"


@pytest.fixture(name="password_file")
def fixture_password_file(tmp):
    path = os.path.join(tmp, "password")
    with open(path, "w", encoding="ascii") as f:
        f.write(PASSWORD + "\n")
    os.chmod(path, 0o600)
    return path


@pytest.fixture(name="proxy")
def fixture_proxy():
    proxy = Proxy()
    yield proxy
    proxy.close()


def secret_directory(tmp, **values):
    """A Secret as Kubernetes mounts it: files that are links into a directory of a date."""
    path = os.path.join(tmp, "secret")
    os.makedirs(os.path.join(path, "..2026_11_23"))
    os.symlink("..2026_11_23", os.path.join(path, "..data"))
    for name, value in values.items():
        with open(os.path.join(path, "..data", name), "w", encoding="ascii") as f:
            f.write(value)
        os.symlink(f"..data/{name}", os.path.join(path, name))
    return path


def refused(lazydisk, *args, code=3):
    """The mount is refused in time and in one line, which is returned."""
    begun = time.monotonic()
    done = lazydisk.run("mount", *args, lazydisk.point())
    assert done.returncode == code, done.stderr
    assert time.monotonic() - begun < 5 * slowness()
    return one_line(done.stderr)


# TLS

def test_a_private_authority_is_named_by_file(lazydisk, nginx, images, pki):
    with lazydisk.mounted("--cacert", pki.ca, nginx.url(images.raw, "https")) as mount:
        assert_same(mount.image(), images.raw)


def test_a_private_authority_is_found_in_a_directory(lazydisk, nginx, images, pki, tmp):
    directory = secret_directory(tmp, **{"weird name.txt": open(pki.ca, encoding="ascii").read()})
    with lazydisk.mounted("--cert-dir", directory, nginx.url(images.raw, "https")) as mount:
        assert_same(mount.image(), images.raw)


def test_a_directory_may_hold_other_authorities_and_other_files(
        lazydisk, nginx, images, pki, tmp):
    directory = secret_directory(
        tmp, a=open(pki.other_ca, encoding="ascii").read(),
        b=open(pki.ca, encoding="ascii").read(), c="no certificate at all\n")
    with lazydisk.mounted("--cert-dir", directory, nginx.url(images.raw, "https")) as mount:
        assert pread(mount.image(), 512, 0) == pread(images.raw, 512, 0)


def test_an_unknown_authority_is_refused(lazydisk, nginx, images):
    line = refused(lazydisk, nginx.url(images.raw, "https"))
    assert "certificate" in line
    assert "--cacert" in line or "--cert-dir" in line


def test_the_wrong_authority_is_refused(lazydisk, nginx, images, pki):
    assert "certificate" in refused(
        lazydisk, "--cacert", pki.other_ca, nginx.url(images.raw, "https"))


def test_a_certificate_for_another_host_is_refused(lazydisk, pki):
    server = BadServer(tls=(pki.server_cert, pki.server_key), host="127.0.0.2")
    try:
        url = server.file("/disk.img", DATA)
        assert "certificate" in refused(lazydisk, "--cacert", pki.ca, url)
        assert not server.requests()
    finally:
        server.close()


def test_insecure_accepts_any_certificate(lazydisk, nginx, images):
    with lazydisk.mounted("--insecure", nginx.url(images.raw, "https")) as mount:
        assert pread(mount.image(), 512, 0) == pread(images.raw, 512, 0)


def test_an_unreadable_authority_is_named(lazydisk, nginx, images, tmp):
    url = nginx.url(images.raw, "https")
    for option in ("--cacert", "--cert-dir"):
        done = lazydisk.run("mount", option, tmp + "/missing", url, lazydisk.point())
        assert done.returncode != 0
        assert "missing" in one_line(done.stderr)


def test_a_client_certificate_opens_what_asks_for_one(lazydisk, nginx, images, pki):
    url = nginx.url(images.raw, "mutual")
    with lazydisk.mounted("--cacert", pki.ca, "--client-cert", pki.client_cert, "--client-key",
                          pki.client_key, url) as mount:
        assert_same(mount.image(), images.raw)
    refused(lazydisk, "--cacert", pki.ca, url)


def test_plain_http_to_a_tls_port_and_back_fail_clearly(lazydisk, nginx, images):
    refused(lazydisk, "--timeout", 2, nginx.url(images.raw).replace("http:", "https:"))
    refused(lazydisk, "--timeout", 2,
            nginx.url(images.raw, "https").replace("https:", "http:"))


# passwords

@pytest.mark.parametrize("server", ["basic", "basic_https"])
def test_a_password_comes_from_a_file(lazydisk, nginx, images, pki, password_file, server):
    with lazydisk.mounted("--cacert", pki.ca, "--user", USER, "--password-file", password_file,
                          nginx.url(images.variant("zlib"), server)) as mount:
        assert_same(mount.image(), images.raw)


@pytest.mark.parametrize("names", [("accessKeyId", "secretKey"), ("username", "password")])
def test_a_password_comes_from_a_mounted_secret(lazydisk, nginx, images, tmp, names):
    directory = secret_directory(tmp, **{names[0]: USER, names[1]: PASSWORD})
    with lazydisk.mounted("--secret", directory, nginx.url(images.raw, "basic")) as mount:
        assert pread(mount.image(), 512, 0) == pread(images.raw, 512, 0)


def test_a_missing_password_is_asked_for_in_words(lazydisk, nginx, images):
    line = refused(lazydisk, nginx.url(images.raw, "basic"))
    assert "--user" in line or "--secret" in line


def test_a_refused_password_is_told(lazydisk, nginx, images, tmp):
    wrong = os.path.join(tmp, "wrong")
    with open(wrong, "w", encoding="ascii") as f:
        f.write(SECRET)
    line = refused(lazydisk, "--user", USER, "--password-file", wrong,
                   nginx.url(images.raw, "basic"))
    assert SECRET not in line
    assert re.search("401|password|credential", line)


def test_a_password_that_is_revoked_later_fails_reads(lazydisk, bad, password_file):
    url = bad.file("/disk.img", DATA, user=f"{USER}:{PASSWORD}")
    with lazydisk.mounted("--user", USER, "--password-file", password_file, "--readahead", 0,
                          "--timeout", 3, url) as mount:
        assert_bytes(pread(mount.image(), 4096, 0), DATA[:4096])
        bad.change("/disk.img", user="someone:else")
        with pytest.raises(OSError):
            pread(mount.image(), 4096, MIB + 65536)
        assert mount.alive()


# headers

def test_headers_come_from_a_file(lazydisk, bad, tmp):
    headers = os.path.join(tmp, "headers")
    with open(headers, "w", encoding="ascii") as f:
        f.write(f"X-Token: {SECRET}\n\nX-Second:  two words \n")
    url = bad.file("/disk.img", DATA, needs={"X-Token": SECRET, "X-Second": "two words"})
    with lazydisk.mounted("--header-file", headers, url) as mount:
        assert_bytes(pread(mount.image(), len(DATA), 0), DATA)
        assert SECRET not in open(mount.path(".lazydisk/status"), encoding="utf-8").read()


# redirects

def credentials(tmp, password_file):
    headers = os.path.join(tmp, "headers")
    with open(headers, "w", encoding="ascii") as f:
        f.write(f"X-Token: {SECRET}\nCookie: session={SECRET}\n")
    return ["--user", USER, "--password-file", password_file, "--header-file", headers]


def leaked(server):
    """What of our secrets arrived at @server."""
    basic = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    return [(name, value) for request in server.requests() for name, value in
            [*request.headers.items(), ("path", request.path), ("query", request.query)]
            if basic in value or SECRET in value or PASSWORD in value]


def test_secrets_do_not_follow_a_redirect_to_another_port(lazydisk, bad, tmp, password_file):
    other = BadServer()
    try:
        target = other.file("/there.img", DATA)
        url = bad.file("/disk.img", b"", user=f"{USER}:{PASSWORD}",
                       faults=[_if_admitted(faults.redirect(target))])
        with lazydisk.mounted(*credentials(tmp, password_file), url) as mount:
            assert_bytes(pread(mount.image(), len(DATA), 0), DATA)
        assert leaked(bad)
        assert other.requests()
        assert not leaked(other)
    finally:
        other.close()


def _if_admitted(fault):
    return lambda request, reply: reply.status != 401 and fault(request, reply)


def test_secrets_follow_a_redirect_within_the_same_origin(lazydisk, bad, tmp, password_file):
    bad.file("/there.img", DATA, user=f"{USER}:{PASSWORD}", needs={"X-Token": SECRET})
    url = bad.file("/disk.img", b"", faults=[faults.redirect("/there.img")])
    with lazydisk.mounted(*credentials(tmp, password_file), url) as mount:
        assert_bytes(pread(mount.image(), len(DATA), 0), DATA)


def test_secrets_do_not_follow_a_redirect_there_and_back(lazydisk, bad, tmp, password_file):
    """Back at the first origin they may be sent again, or not; never to the one between."""
    other = BadServer()
    try:
        bad.file("/back.img", DATA)
        hop = other.file("/hop", b"", faults=[faults.redirect(bad.origin + "/back.img")])
        url = bad.file("/disk.img", b"", faults=[faults.redirect(hop)])
        with lazydisk.mounted(*credentials(tmp, password_file), url) as mount:
            assert_bytes(pread(mount.image(), len(DATA), 0), DATA)
        assert not leaked(other)
    finally:
        other.close()


def test_a_downgrade_to_plain_http_carries_no_secret(
        lazydisk, bad, bad_tls, pki, tmp, password_file):
    target = bad.file("/there.img", DATA)
    url = bad_tls.file("/disk.img", b"", faults=[faults.redirect(target)])
    done = lazydisk.run("info", "--cacert", pki.ca, *credentials(tmp, password_file), url)
    assert done.returncode in (0, 3)
    if done.returncode:
        one_line(done.stderr)
    assert bad_tls.requests()
    assert not leaked(bad)


def test_nginx_redirects_are_followed(lazydisk, nginx, images, pki):
    for kind in ("once", "permanent", "twice", "tls"):
        url = nginx.redirect(images.variant("zlib"), kind)
        with lazydisk.mounted("--cacert", pki.ca, url) as mount:
            assert os.path.basename(mount.image()) == "sample-zlib.raw"
            assert_same(mount.image(), images.raw)


# proxies

def test_a_proxy_of_the_environment_is_used(lazydisk, nginx, images, pki, proxy):
    env = {"http_proxy": proxy.url, "https_proxy": proxy.url}
    with lazydisk.mounted(nginx.url(images.raw), env=env) as mount:
        assert_same(mount.image(), images.raw)
    assert proxy.log and all(line.startswith("GET http://") for line in proxy.log)
    proxy.log.clear()
    with lazydisk.mounted("--cacert", pki.ca, nginx.url(images.raw, "https"), env=env) as mount:
        assert pread(mount.image(), 512, 0) == pread(images.raw, 512, 0)
    assert proxy.log and all(line.startswith("CONNECT ") for line in proxy.log)


def test_upper_case_names_and_no_proxy_count_too(lazydisk, nginx, images, pki, proxy):
    url = nginx.url(images.raw, "https")
    with lazydisk.mounted("--cacert", pki.ca, "--no-cache", url,
                          env={"HTTPS_PROXY": proxy.url}) as mount:
        assert pread(mount.image(), 512, 0) == pread(images.raw, 512, 0)
    assert proxy.log
    proxy.log.clear()
    with lazydisk.mounted("--cacert", pki.ca, "--no-cache", url, env={
            "HTTPS_PROXY": proxy.url, "NO_PROXY": "127.0.0.1"}) as mount:
        assert pread(mount.image(), 512, 0) == pread(images.raw, 512, 0)
    assert not proxy.log


def test_a_proxy_can_be_named(lazydisk, nginx, images, proxy):
    with lazydisk.mounted("--proxy", proxy.url, nginx.url(images.raw)) as mount:
        assert pread(mount.image(), 512, 0) == pread(images.raw, 512, 0)
    assert proxy.log


def test_a_dead_proxy_is_an_error_that_names_it(lazydisk, nginx, images):
    line = refused(lazydisk, "--timeout", 2, "--proxy", "http://127.0.0.1:1",
                   nginx.url(images.raw))
    assert "127.0.0.1:1" in line or "proxy" in line


# secrets

def all_arguments():
    """The arguments of all processes but our own, as ps shows them."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        if os.path.dirname(path) != f"/proc/{os.getpid()}":
            try:
                with open(path, "rb") as f:
                    found.append(f.read().decode("utf-8", "replace"))
            except OSError:
                pass
    assert any(BINARY in arguments for arguments in found)
    return "\n".join(found)


def test_no_secret_is_shown_anywhere(lazydisk, bad, tmp):
    other = BadServer()
    password = os.path.join(tmp, "password")
    with open(password, "w", encoding="ascii") as f:
        f.write(SECRET)
    headers = os.path.join(tmp, "headers")
    with open(headers, "w", encoding="ascii") as f:
        f.write(f"X-Token: {SECRET}-header\n")
    try:
        other.file("/disk.img", DATA)
        url = bad.file("/disk.img", b"", user=f"{USER}:{SECRET}", faults=[_if_admitted(
            faults.redirect(f"{other.origin}/disk.img?X-Amz-Signature={SECRET}-signature"))])
        options = ["-v", "-v", "--user", USER, "--password-file", password, "--header-file",
                   headers]
        with lazydisk.mounted(*options, url) as mount:
            assert_bytes(pread(mount.image(), len(DATA), 0), DATA)
            shown = [all_arguments(), mount.stderr(),
                     open(mount.path(".lazydisk/status"), encoding="utf-8").read(),
                     lazydisk.ok("status", mount.point), lazydisk.ok("status", "--json", mount.point)]
            for name in os.listxattr(mount.image()):
                shown.append(os.getxattr(mount.image(), name).decode())
            with open("/proc/self/mountinfo", encoding="utf-8") as f:
                shown.append(f.read())
        shown.append(lazydisk.ok("info", *options, url))
        shown.append(lazydisk.ok("info", "--json", *options, url))
        shown.append(lazydisk.ok("cache", "list"))
        for where, _, files in os.walk(lazydisk.cache):
            for name in files:
                if name != "data":
                    with open(os.path.join(where, name), "rb") as f:
                        shown.append(f.read().decode("latin-1"))
        other.close()
        bad.change("/disk.img", faults=[faults.status(500)])
        failed = lazydisk.run("mount", *options, "--no-cache", "--timeout", 1, url,
                              lazydisk.point())
        assert failed.returncode == 3
        shown.append(failed.stderr)
        basic = base64.b64encode(f"{USER}:{SECRET}".encode()).decode()
        for text in shown:
            assert SECRET not in text
            assert basic not in text
        assert any(SECRET in request.query for request in other.requests())
    finally:
        other.close()


def test_user_info_in_the_url_works_and_is_not_shown(lazydisk, nginx, images):
    url = nginx.url(images.raw, "basic").replace("//", f"//{USER}:{PASSWORD}@")
    with lazydisk.mounted("-v", url) as mount:
        assert pread(mount.image(), 512, 0) == pread(images.raw, 512, 0)
        assert PASSWORD not in mount.stderr()
        assert PASSWORD not in open(mount.path(".lazydisk/status"), encoding="utf-8").read()
        assert PASSWORD not in os.getxattr(mount.image(), "user.lazydisk.url").decode()
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            assert PASSWORD not in f.read()


@pytest.mark.slow
def test_children_get_no_secret_in_their_arguments(lazydisk, nginx, images, password_file, tmp):
    trace = os.path.join(tmp, "trace")
    point = lazydisk.point()
    with subprocess.Popen(
            ["strace", "-f", "-qq", "-s", "4096", "-e", "trace=execve", "-o", trace, BINARY, "mount",
             "--user", USER, "--password-file", password_file, nginx.url(images.raw, "basic"),
             point], env={**lazydisk.env, "ASAN_OPTIONS": "detect_leaks=0"}) as traced:
        wait_for(lambda: traced.poll() is not None or lazydisk.ready(point), 20, "the mount")
        lazydisk.adopt(point).umount()
        assert traced.wait(20) == 0
    with open(trace, encoding="utf-8") as f:
        calls = f.read()
    assert "execve" in calls
    assert PASSWORD not in calls
