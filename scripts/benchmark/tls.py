"""TLS on equal terms: one certificate for all, and one way to speak it.

Proxies speak TLS 1.3 only. wrk and h2load know one suite and one way to exchange keys; asked by others, who know more, all
proxies but Envoy take the same. Clients get tickets to resume sessions with, as each proxy ships them.
"""

import functools
import os
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .failure import Failure
from .stage import ROOT

VERSION = "TLSv1.3"
SUITE = "TLS_AES_128_GCM_SHA256"
GROUP = "X25519"


@dataclass(frozen=True)
class Certificate:
    """A server's certificate for 127.0.0.1 (ECDSA, P-256) and its key, all in PEM."""

    cert: Path
    key: Path
    both: Path  # in one file


@functools.cache
def certificate(directory: Path) -> Certificate:
    """The one of this run, made when it is first needed."""
    place = directory / "certificates"
    command = [str(ROOT / "scripts/certificates"), str(place)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failure(f"scripts/certificates: {done.stdout.strip()}")
    cert, key, both = place / "server.crt", place / "server.key", place / "server.pem"
    both.write_text(cert.read_text() + key.read_text())
    return Certificate(cert, key, both)


def trusting() -> ssl.SSLContext:
    """A client that takes any certificate; each of its connections begins with a full handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@functools.cache
def of_clients(directory: Path) -> dict[str, str]:
    """The environment of a client that uses OpenSSL and has no flags for these things."""
    config = directory / "clients.cnf"
    config.write_text(f"""
        openssl_conf = all
        [all]
        ssl_conf = ssl
        [ssl]
        system_default = clients
        [clients]
        MinProtocol = {VERSION}
        Ciphersuites = {SUITE}
        Groups = {GROUP}
    """)
    return {"OPENSSL_CONF": str(config)}


def check_terms(directory: Path, name: str, address: str) -> None:
    """Fails unless such a client and the proxy at this address agree as all have to."""
    command = ["openssl", "s_client", "-brief", "-connect", address]
    environment = {**os.environ, **of_clients(directory)}
    said = subprocess.run(command, env=environment, input="", capture_output=True, text=True, timeout=10).stderr
    for term in (f"Protocol version: {VERSION}", f"Ciphersuite: {SUITE}", f"Server Temp Key: {GROUP},"):
        if term not in said:
            raise Failure(f"{name} does not agree to {term!r}: {said.strip()}")
