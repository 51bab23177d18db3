# SPDX-License-Identifier: Apache-2.0
"""Manifests: the documentation's procedure end to end, and everything that may be wrong with it."""

import base64
import json
import os

import pytest

import command
from nginx import PASSWORD, USER
from util import MIB, assert_same, first_difference, one_line, pread, run, sha256

DATA = os.path.join(command.ROOT, "tests", "data", "manifests")
DOCUMENTED = "https://mirror.example.org/fedora/Fedora-Cloud-Base-35-1.2.x86_64.qcow2"
SIZE = 48 * MIB  # of the sample disk

needs_loops = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control"),
    reason="loop devices need root and /dev/loop-control")


def encoded(text):
    return base64.b64encode(text.encode()).decode()


class Manifests:
    """Files of manifests, and a directory of volumes."""

    def __init__(self, lazydisk, nginx, pki):
        self.lazydisk = lazydisk
        self.nginx = nginx
        self.pki = pki
        self.directory = os.path.join(lazydisk.directory, "manifests")
        self.volumes = os.path.join(lazydisk.directory, "volumes")
        os.mkdir(self.directory)
        os.mkdir(self.volumes)

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def documented(self, name, *changes):
        """A manifest of the documentation with values of our own."""
        with open(os.path.join(DATA, name), encoding="utf-8") as f:
            text = f.read()
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        return self.write(name, text)

    def secret(self, password=PASSWORD):
        return self.documented(
            "endpoint-secret.yaml", ('accessKeyId: ""', f"accessKeyId: {encoded(USER)}"),
            ('secretKey: ""', f'secretKey: "{encoded(password + chr(10))}"'))

    def authorities(self, pem=None):
        with open(pem or self.pki.ca, encoding="ascii") as f:
            lines = f.read().splitlines()
        return self.write("tls-certs.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n"
                          "  name: tls-certs\ndata:\n  ca.pem: |\n"
                          + "".join(f"    {line}\n" for line in lines))

    def volume(self, name, source, storage="64Mi", spec=""):
        return (f"kind: DataVolume\napiVersion: cdi.kubevirt.io/v1beta1\nmetadata:\n"
                f"  name: {name}\nspec:\n  source: {source}\n"
                f"  storage: {{resources: {{requests: {{storage: {storage}}}}}}}\n{spec}---\n")

    def run(self, *files, options=()):
        words = [word for path in files for word in ("-f", path)]
        done = self.lazydisk.run("copy", *words, "--volumes", self.volumes, *options)
        for secret in (PASSWORD, encoded(PASSWORD), encoded(PASSWORD + "\n")):
            assert secret not in done.stdout + done.stderr
        return done

    def ok(self, *files, options=()):
        done = self.run(*files, options=options)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def refused(self, *files, code, says, options=()):
        done = self.run(*files, options=options)
        assert done.returncode == code, (done.returncode, done.stderr)
        errors = [line for line in done.stderr.splitlines() if "error:" in line]
        assert len(errors) == 1 and says in errors[0], done.stderr
        return done

    def disk(self, name, namespace="default"):
        return os.path.join(self.volumes, namespace, name, "disk.img")


@pytest.fixture(name="manifests")
def fixture_manifests(lazydisk, nginx, pki):
    return Manifests(lazydisk, nginx, pki)


def assert_disk(path, raw, size):
    """@path is the disk @raw, and zeros behind it up to @size."""
    with open(raw, "rb") as f:
        want = f.read()
    got = pread(path, size + 1, 0)
    assert len(got) == size
    assert first_difference(got[:len(want)], want) == len(want)
    assert not any(got[len(want):])


@pytest.mark.parametrize("file", ["vm-fedora-datavolume.yaml", "vm-references-beside-http.yaml",
                                  "vm-references-beside-source.yaml"])
def test_the_documented_machine(manifests, images, nginx, file):
    """Private CA and password; the references stand where the documentation has them."""
    url = nginx.url(images.variant("zlib"), "basic_https")
    machine = manifests.documented(file, (DOCUMENTED, url), ("10Gi", "64Mi"),
                                   ('certConfigMap: ""', "certConfigMap: tls-certs"))
    said = manifests.ok(manifests.secret(), manifests.authorities(), machine)
    assert f"default/fedora-dv: filled {manifests.disk('fedora-dv')}: " in said
    assert_disk(manifests.disk("fedora-dv"), images.raw, 64 * MIB)
    assert os.stat(manifests.disk("fedora-dv")).st_mode & 0o777 == 0o660


@needs_loops
def test_the_documented_block_volume(manifests, images, nginx):
    """From `volume create` to a filled device whose old bytes are gone."""
    env = {"LAZYDISK_VOLUME_DIR": os.path.join(manifests.lazydisk.directory, "loops")}
    made = manifests.lazydisk.run("volume", "create", "--size", "80Mi", "--name", "manifest-test",
                                  env=env)
    assert made.returncode == 0, made.stderr
    try:
        device = next(line.split()[1] for line in made.stdout.splitlines() if "path:" in line)
        with open(device, "r+b", buffering=0) as f:
            f.write(b"\xa5" * (80 * MIB))
        pv = manifests.write("local-block-pv10.yaml", made.stdout)
        volume = manifests.documented(
            "import-pv-datavolume.yaml", ("10Gi", "64Mi"),
            (DOCUMENTED, nginx.url(images.variant("zstd"), "basic_https")),
            ("secretRef: endpoint-secret",
             "secretRef: endpoint-secret\n         certConfigMap: tls-certs"))
        files = (pv, manifests.secret(), manifests.authorities(), volume)
        said = manifests.ok(*files)
        assert f"default/import-pv-datavolume: filled {device}: " in said
        assert_disk(device, images.raw, 80 * MIB)
        assert "complete already" in manifests.ok(*files)
        assert not os.path.exists(manifests.disk("import-pv-datavolume"))
    finally:
        done = manifests.lazydisk.run("volume", "delete", "manifest-test", env=env)
        assert done.returncode == 0, done.stderr


def test_a_wrong_password_or_authority_is_told(manifests, images, nginx, pki):
    url = nginx.url(images.variant("plain"), "basic_https")
    machine = manifests.documented("vm-fedora-datavolume.yaml", (DOCUMENTED, url), ("10Gi", "64Mi"),
                                   ('certConfigMap: ""', "certConfigMap: tls-certs"))
    manifests.refused(manifests.secret("wrong"), manifests.authorities(), machine, code=3,
                      says="default/fedora-dv: ")
    manifests.refused(manifests.secret(), manifests.authorities(pki.other_ca), machine, code=3,
                      says="certificate")
    assert not os.path.exists(manifests.disk("fedora-dv"))


def test_complete_volumes_are_left_alone(manifests, images, nginx):
    first = nginx.url(images.variant("plain"))
    file = manifests.write("a.yaml", manifests.volume("a", f"{{http: {{url: '{first}'}}}}"))
    manifests.ok(file)
    with open(manifests.disk("a"), "r+b") as f:
        f.write(b"the guest was here")
    assert "default/a: complete already" in manifests.ok(file)
    assert pread(manifests.disk("a"), 18, 0) == b"the guest was here"
    other = nginx.url(images.variant("zlib"))
    file = manifests.write("a.yaml", manifests.volume("a", f"{{http: {{url: '{other}'}}}}"))
    manifests.refused(file, code=5, says="it was filled already, with http")
    assert pread(manifests.disk("a"), 18, 0) == b"the guest was here"
    manifests.ok(file, options=["--force"])
    assert_disk(manifests.disk("a"), images.raw, 64 * MIB)


def test_a_disk_that_is_not_ours_is_not_replaced(manifests, images, nginx):
    os.makedirs(os.path.dirname(manifests.disk("a")))
    with open(manifests.disk("a"), "wb") as f:
        f.write(b"precious")
    url = nginx.url(images.variant("plain"))
    file = manifests.write("a.yaml", manifests.volume("a", f"{{http: {{url: '{url}'}}}}"))
    manifests.refused(file, code=5, says="default/a: ")
    assert pread(manifests.disk("a"), 100, 0) == b"precious"


def test_blank_and_cloned_volumes(manifests, images, nginx):
    """A clone is taken as it is, also when its bytes look like an image."""
    url = nginx.url(images.variant("plain"))
    text = (manifests.volume("golden", f"{{http: {{url: '{url}'}}}}", "48Mi")
            + manifests.volume("empty", "{blank: {}}", "20Mi", "  preallocation: true\n")
            + manifests.volume("copy", "{pvc: {name: golden}}", "50Mi")
            + manifests.volume("odd", "{pvc: {name: foreign, namespace: other}}", "8Mi"))
    os.makedirs(os.path.dirname(manifests.disk("foreign", "other")))
    run("qemu-img", "create", "-q", "-f", "qcow2", manifests.disk("foreign", "other"), "1G")
    manifests.ok(manifests.write("all.yaml", text))
    assert_disk(manifests.disk("golden"), images.raw, SIZE)
    assert_disk(manifests.disk("copy"), images.raw, 50 * MIB)
    assert_disk(manifests.disk("odd"), manifests.disk("foreign", "other"), 8 * MIB)
    assert not any(pread(manifests.disk("empty"), 21 * MIB, 0))
    st = os.stat(manifests.disk("empty"))
    assert st.st_size == 20 * MIB and st.st_blocks * 512 >= 20 * MIB
    assert os.stat(manifests.disk("copy")).st_blocks * 512 < 40 * MIB


def test_a_checksum_counts_for_its_volume(manifests, images, nginx):
    image = images.variant("zlib")
    source = "{{http: {{url: '{}', checksum: '{}'}}}}"
    good = source.format(nginx.url(image), "sha256:" + sha256(image))
    bad = source.format(nginx.url(image), "sha256:" + sha256(images.raw))
    path = manifests.write("a.yaml", manifests.volume("bad", bad) + manifests.volume("good", good))
    manifests.refused(path, code=6, says="default/bad: ")
    assert_disk(manifests.disk("good"), images.raw, 64 * MIB)
    if os.path.exists(manifests.disk("bad")):
        assert not any(pread(manifests.disk("bad"), MIB, 0))
    odd = source.format(nginx.url(image), "crc:12")
    path = manifests.write("b.yaml", manifests.volume("odd", odd))
    manifests.refused(path, code=2, says=f"{path}:6: spec.source.http.checksum: ")


def test_one_that_fails_stops_no_other(manifests, images, nginx):
    url = nginx.url(images.variant("plain"))
    text = (manifests.volume("small", f"{{http: {{url: '{url}'}}}}", "40Mi")
            + manifests.volume("bucket", "{s3: {url: 'http://h/i'}}")
            + manifests.volume("missing", f"{{http: {{url: '{url}.no'}}}}")
            + manifests.volume("secret", f"{{http: {{url: '{url}', secretRef: nobody}}}}")
            + manifests.volume("clone", "{pvc: {name: small}}")
            + manifests.volume("good", f"{{http: {{url: '{url}'}}}}"))
    path = manifests.write("all.yaml", text)
    done = manifests.run(path, options=["--progress", "json"])
    assert done.returncode == 5, done.stderr
    errors = done.stderr.splitlines()
    assert len(errors) == 5, errors
    assert "default/small: " in errors[0] and str(SIZE) in errors[0] and "41943040" in errors[0]
    assert f"{path}:14: spec.source: s3 sources are not supported" in errors[1]
    assert "default/missing: " in errors[2] and "404" in errors[2]
    assert (f"default/secret: {path}:30: spec.source.http.secretRef: there is no Secret nobody in "
            "namespace default") in errors[3]
    assert "default/small has not been filled" in errors[4]
    ends = [json.loads(line) for line in done.stdout.splitlines()]
    ends = {end["volume"]: (end["state"], end["exitcode"]) for end in ends if "volume" in end}
    assert ends == {"small": ("failed", 5), "bucket": ("failed", 4), "missing": ("failed", 3),
                    "secret": ("failed", 2), "clone": ("failed", 3), "good": ("filled", 0)}
    assert_disk(manifests.disk("good"), images.raw, 64 * MIB)
    assert not os.path.exists(manifests.disk("small"))


def test_a_block_volume_goes_to_nothing_but_a_device(manifests, images, nginx, tmp):
    path = os.path.join(tmp, "precious")
    with open(path, "wb") as f:
        f.write(b"precious")
    url = nginx.url(images.variant("plain"))
    file = manifests.write("a.yaml", f"""\
kind: PersistentVolume
metadata: {{name: pv}}
spec: {{local: {{path: {path}}}, capacity: {{storage: 1Gi}}, volumeMode: Block}}
---
""" + manifests.volume("a", f"{{http: {{url: '{url}'}}}}").replace(
        "storage: {res", "storage: {volumeMode: Block, res"))
    manifests.refused(file, code=5, says=f"a.yaml:1: spec.local.path: {path} is not a block device")
    assert pread(path, 100, 0) == b"precious"


def test_manifests_that_cannot_be_read(manifests):
    bad = manifests.write("bad.yaml", "kind: Secret\nmetadata: {name: a\n")
    manifests.refused(bad, code=2, says=f"{bad}:3: not YAML")
    manifests.refused(os.path.join(manifests.directory, "no.yaml"), code=2, says="no.yaml")
    empty = manifests.write("empty.yaml", "kind: Pod\n")
    manifests.refused(empty, code=2, says="there is no DataVolume in the manifests")
    name = manifests.write("name.yaml", manifests.volume("../../x", "{blank: {}}"))
    manifests.refused(name, code=2, says=f"{name}:4: metadata.name: '../../x' is not a name")


def test_the_directory_of_the_volumes_is_not_made(manifests, tmp):
    text = manifests.volume("a", "{blank: {}}") + manifests.volume("b", "{blank: {}}")
    path = manifests.write("all.yaml", text)
    manifests.volumes = os.path.join(tmp, "unmounted")
    says = f"--volumes {manifests.volumes}: there is no such directory; mount "
    manifests.refused(path, code=5, says=says)
    assert not os.path.exists(manifests.volumes)
    manifests.volumes = path
    manifests.refused(path, code=5, says=f"--volumes {path}: this is no directory")


def test_usage(manifests):
    a = manifests.write("a.yaml", manifests.volume("a", "{blank: {}}"))
    for words, says in [
            ((), "-f needs --volumes"),
            (("--volumes", "/x", "--size", "1Gi"), "cannot be given with -f"),
            (("--volumes", "/x", "--user", "a"), "put credentials into a Secret")]:
        done = manifests.lazydisk.run("copy", "-f", a, *words)
        assert done.returncode == 2 and says in one_line(done.stderr)
    done = manifests.lazydisk.run("copy", "--volumes", "/x", "a", "b")
    assert done.returncode == 2 and "--volumes needs -f" in one_line(done.stderr)
    b = manifests.write("b.yaml", manifests.volume("b", "{blank: {}}"))
    done = manifests.lazydisk.run("copy", "-f", a, b, "--volumes", manifests.volumes)
    assert done.returncode == 0, done.stderr
    assert os.path.exists(manifests.disk("b"))
    assert_same(manifests.disk("a"), manifests.disk("b"))


def test_volumes_are_mounted_with_credentials_of_their_own(manifests, images, nginx):
    text = (manifests.volume("b", "{blank: {}}")
            + manifests.volume("c", f"{{http: {{url: '{nginx.url(images.variant('plain'))}'}}}}")
            + manifests.volume("c", f"{{http: {{url: '{nginx.url(images.raw)}'}}}}").replace(
                "name: c", "name: c\n  namespace: prod"))
    machine = manifests.documented(
        "vm-fedora-datavolume.yaml", (DOCUMENTED, nginx.url(images.variant("zlib"), "basic_https")),
        ('certConfigMap: ""', "certConfigMap: tls-certs"))
    words = ["-f", manifests.secret(), "-f", manifests.authorities(),
             "-f", machine, manifests.write("others.yaml", text)]
    with manifests.lazydisk.mounted(*words) as mount:
        assert mount.images() == ["default.c.raw", "fedora-dv.raw", "prod.c.raw"]
        for name in mount.images():
            assert_same(mount.path(name), images.raw)
        assert PASSWORD not in json.dumps(mount.status())
        assert "only http and registry sources can be mounted; default/b is not shown" in mount.stderr()
        assert PASSWORD not in mount.stderr()


def test_what_cannot_be_mounted_from_manifests(manifests):
    point = manifests.lazydisk.point()
    empty = manifests.write("empty.yaml", manifests.volume("a", "{blank: {}}"))
    done = manifests.lazydisk.run("mount", "-f", empty, point)
    assert done.returncode == 2 and "no DataVolume in the manifests to mount" in done.stderr
    bad = manifests.write("bad.yaml", manifests.volume("a", "{http: {url: /etc/passwd}}"))
    done = manifests.lazydisk.run("mount", "-f", bad, point)
    assert done.returncode == 2 and f"{bad}:6: spec.source.http.url: " in one_line(done.stderr)
    done = manifests.lazydisk.run("mount", "-f", bad, "--user", "x", point)
    assert done.returncode == 2 and "cannot be given with -f" in one_line(done.stderr)
    done = manifests.lazydisk.run("mount", "-f", bad)
    assert done.returncode == 2 and "too few arguments" in one_line(done.stderr)
