# SPDX-License-Identifier: Apache-2.0
"""A private certificate authority, a server and a client certificate, and a stranger's authority."""

import os

from util import run


class Pki:
    def __init__(self, directory):
        os.mkdir(directory)
        self.directory = directory
        self.ca, ca_key = self._authority("ca", "Lazydisk test CA")
        self.other_ca, _ = self._authority("other-ca", "Somebody else's CA")
        self.server_cert, self.server_key = self._signed(
            "server", "subjectAltName=IP:127.0.0.1,DNS:localhost", ca_key)
        self.client_cert, self.client_key = self._signed(
            "client", "extendedKeyUsage=clientAuth", ca_key)

    def path(self, name):
        return os.path.join(self.directory, name)

    def _authority(self, name, subject):
        cert, key = self.path(name + ".pem"), self.path(name + ".key")
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "30", "-subj", f"/CN={subject}", "-keyout", key, "-out", cert)
        return cert, key

    def _signed(self, name, extension, ca_key):
        cert, key, asked = self.path(name + ".pem"), self.path(name + ".key"), self.path("request")
        extensions = self.path("extensions")
        with open(extensions, "w", encoding="ascii") as f:
            f.write(extension + "\n")
        run("openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-subj", f"/CN={name}", "-keyout", key, "-out", asked)
        run("openssl", "x509", "-req", "-in", asked, "-CA", self.ca, "-CAkey", ca_key,
            "-CAcreateserial", "-days", "30", "-extfile", extensions, "-out", cert)
        return cert, key
