"""What the Java client does to a text before it sends it."""

import os

import cramjam
from cryptography.hazmat.primitives import hashes, padding
from cryptography.hazmat.primitives.asymmetric.padding import MGF1, OAEP
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.serialization import load_der_public_key
from rsocket.payload import Payload

PLAINTEXT = b"plaintext"


def seal(key, text):
    """Sealed to the key, which is a SubjectPublicKeyInfo; left open where the key says `plaintext`."""
    if key == PLAINTEXT:
        return Payload(text.encode(), PLAINTEXT)
    session = os.urandom(16)
    aes = Cipher(algorithms.AES128(session), modes.ECB()).encryptor()
    pkcs = padding.PKCS7(128).padder()
    padded = pkcs.update(bytes(cramjam.snappy.compress_raw(text.encode()))) + pkcs.finalize()
    oaep = OAEP(mgf=MGF1(hashes.SHA1()), algorithm=hashes.SHA256(), label=None)
    return Payload(aes.update(padded) + aes.finalize(), load_der_public_key(key).encrypt(session, oaep))
