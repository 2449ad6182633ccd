"""Certificates made by the openssl command, with the parameters of FISCO BCOS's own generator."""

import os
import pathlib
import subprocess

DAYS = "36500"
# Its configuration asks for no extensions in a CA of its own, so those certificates are of version 1
# with OpenSSL 3.0. Later releases may make version 3 of the same commands; both must work.
CONFIG = """\
[ req ]
distinguished_name = name
[ name ]
[ leaf ]
basicConstraints = CA:FALSE
keyUsage = nonRepudiation, digitalSignature, keyEncipherment
[ agency ]
basicConstraints = CA:TRUE
"""
EC = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"]
RSA = ["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]


def make(profile, directory):
    """Makes a node's files and an SDK's, in `directory`/node and `directory`/sdk."""
    made = Made(pathlib.Path(directory))
    if profile == "fisco-rsa":
        rsa(made)
    else:
        ec(made)
    return made.dir


def rsa(made):
    """One CA for the agency; leaves of version 1 that all have one subject."""
    made.ca("ca", RSA, "/CN=agency/O=fisco-bcos/OU=chain")
    for leaf in ("node", "sdk"):
        made.leaf(leaf, RSA, "/CN=FISCO-BCOS/O=fisco-bcos/OU=agency", "ca")
        made.deliver(leaf, [leaf])


def ec(made):
    """Chain, agency, leaf, all on secp256k1; the files of leaves hold the chain."""
    made.ca("ca", EC, "/CN=chain/O=fisco-bcos/OU=chain")
    made.leaf("agency", EC, "/CN=agency/O=fisco-bcos/OU=agency", "ca", "agency")
    for leaf in ("node", "sdk"):
        made.leaf(leaf, EC, f"/CN={leaf}/O=fisco-bcos/OU={leaf}", "agency", "leaf")
        made.deliver(leaf, [leaf, "agency", "ca"])


class Made:
    """A directory that fills with keys and certificates."""

    def __init__(self, directory):
        self.dir = directory
        directory.mkdir(parents=True)
        (directory / "openssl.cnf").write_text(CONFIG)

    def openssl(self, *argv):
        subprocess.run(["openssl", *argv], cwd=self.dir, check=True, capture_output=True, timeout=60)

    def ca(self, name, algorithm, subject):
        self.openssl("genpkey", *algorithm, "-out", f"{name}.pem")
        own = ["-new", "-x509", "-sha256", "-days", DAYS, "-subj", subject, "-config", "openssl.cnf"]
        self.openssl("req", *own, "-key", f"{name}.pem", "-out", f"{name}.crt")

    def leaf(self, name, algorithm, subject, issuer, section=None):
        self.openssl("genpkey", *algorithm, "-out", f"{name}.pem")
        asked = ["-new", "-sha256", "-subj", subject, "-config", "openssl.cnf", "-key", f"{name}.pem"]
        self.openssl("req", *asked, "-out", f"{name}.csr")
        extensions = ["-extfile", "openssl.cnf", "-extensions", section] if section else []
        signed = ["-req", "-sha256", "-days", DAYS, "-CA", f"{issuer}.crt", "-CAkey", f"{issuer}.pem", "-CAcreateserial"]
        self.openssl("x509", *signed, *extensions, "-in", f"{name}.csr", "-out", f"{name}.crt")

    def deliver(self, name, chain):
        """Puts key, chain and CA where a node or an SDK looks for them."""
        target = self.dir / name
        target.mkdir()
        key = target / f"{name}.key"
        key.write_bytes((self.dir / f"{name}.pem").read_bytes())
        os.chmod(key, 0o600)
        (target / f"{name}.crt").write_bytes(b"".join((self.dir / f"{part}.crt").read_bytes() for part in chain))
        (target / "ca.crt").write_bytes((self.dir / "ca.crt").read_bytes())
