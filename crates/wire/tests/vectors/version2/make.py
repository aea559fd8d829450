#!/usr/bin/env python3
"""Makes the test vectors of envelope version 2, as docs/envelope.md describes it.

An implementation of its own, with nothing of this project: it needs `cryptography` and `cramjam` from PyPI. The secrets
are fixed; RSA-OAEP is randomised, so `metadata.bin` differs each time and stays what is committed.
"""

import hashlib
import pathlib
import struct

import cramjam
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

HERE = pathlib.Path(__file__).parent
KEY = serialization.load_pem_private_key((HERE / "../1-small/private.pem").read_bytes(), None)
SPKI = KEY.public_key().public_bytes(
    serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
)
TOKEN = bytes(range(16))
LABEL = b"prometheus-rsocket-proxy envelope 2"
OAEP = padding.OAEP(mgf=padding.MGF1(hashes.SHA256()), algorithm=hashes.SHA256(), label=None)


def item(kind, value):
    return bytes([kind, len(value)]) + value


def announcement(pull, timeout):
    text = b"PRP\x01" + item(1, b"\x01\x02") + item(2, TOKEN)
    if pull is not None:
        text += item(3, struct.pack(">Q", pull))
    if timeout is not None:
        text += item(4, struct.pack(">I", timeout))
    return text


def write(name, text, secret, wrapped, counter, pull=None, timeout=None):
    purpose = b"\x02" if pull is None else b"\x01"
    associated = LABEL + TOKEN + purpose + struct.pack(">Q", pull or 0)
    nonce = b"\0" * 4 + struct.pack(">Q", counter)
    block = bytes(cramjam.snappy.compress_raw(text))
    case = HERE / name
    case.mkdir(exist_ok=True)
    (case / "plaintext.txt").write_bytes(text)
    (case / "announcement.bin").write_bytes(announcement(pull, timeout))
    (case / "associated.bin").write_bytes(associated)
    (case / "secret.bin").write_bytes(secret)
    (case / "data.bin").write_bytes(AESGCM(secret).encrypt(nonce, block, associated))
    key_id = hashlib.sha256(SPKI).digest()[:8]
    (case / "metadata.bin").write_bytes(b"PRE\x02" + key_id + struct.pack(">Q", counter) + wrapped)


def wrap(secret):
    return KEY.public_key().encrypt(secret, OAEP)


first, second = bytes(range(32)), bytes(range(32, 64))
first_wrapped, second_wrapped = wrap(first), wrap(second)
long = "".join(
    f'http_requests_total{{path="/items/{n}",grüße="😀"}} {n * 7}\n' for n in range(2000)
).encode()
write("answer", b"up 1\n", first, first_wrapped, 0, pull=0, timeout=9500)
write("answer-long", long, first, first_wrapped, 1, pull=7, timeout=400)
write("answer-new-secret", b"up 1\n", second, second_wrapped, 2, pull=8, timeout=9500)
write("push", b"jobs_total 1\n", second, second_wrapped, 3)
write("push-empty", b"", second, second_wrapped, 0x0102030405060708)
