"""Keys that sign checkpoints: Ed25519, in the text forms of C2SP signed notes (c2sp.org/signed-note).

A key file holds one private key a line, `PRIVATE+KEY+<name>+<id>+<base64>`. With several keys every note is signed by
each, so a key is changed without a gap: add the new one, give its public key to those who check, remove the old one.
A public key is `<name>+<id>+<base64>`.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = b"\x01"
DASH = "\N{EM DASH}"
NAME = re.compile(r"[A-Za-z0-9._:/-]{1,128}")
_PRIVATE = "PRIVATE+KEY+"


class InvalidKey(ValueError):
    """The text is no key of a signed note."""


def _id(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + ED25519 + public).digest()[:4]


class PublicKey(NamedTuple):
    """A key that checks signatures; `raw` are its 32 bytes."""

    name: str
    raw: bytes

    @classmethod
    def parse(cls, text: str) -> PublicKey:
        """Return the key of a text; raises InvalidKey."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        key = cls(name, _raw(encoded))
        if NAME.fullmatch(name) is None or key_id != key.id.hex():
            raise InvalidKey("a public key is <name>+<id>+<base64>, and its id belongs to the rest")
        return key

    @property
    def id(self) -> bytes:
        """The four bytes that name the key in a signature."""
        return _id(self.name, self.raw)

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64encode(ED25519 + self.raw).decode()}"

    def verifies(self, text: str, signatures: Sequence[str]) -> bool:
        """Say whether one of the signature lines is this key's over the text."""
        for line in signatures:
            signature = _signature_of(line, self)
            if signature is None:
                continue
            try:
                Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, text.encode())
            except InvalidSignature:
                return False
            return True
        return False


def _raw(encoded: str) -> bytes:
    try:
        decoded = b64decode(encoded, validate=True)
    except ValueError:
        raise InvalidKey("the key is no base64") from None
    if len(decoded) != 33 or decoded[:1] != ED25519:
        raise InvalidKey("the key is not of Ed25519")
    return decoded[1:]


def _signature_of(line: str, key: PublicKey) -> bytes | None:
    """Return the 64 bytes of a signature line when it names this key."""
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != DASH or parts[1] != key.name:
        return None
    try:
        decoded = b64decode(parts[2], validate=True)
    except ValueError:
        return None
    is_this = len(decoded) == 68 and decoded[:4] == key.id and b64encode(decoded).decode() == parts[2]
    return decoded[4:] if is_this else None


def name_of(line: str) -> str:
    """Return the name of the key that a signature line says it is of."""
    return line.removeprefix(f"{DASH} ").partition(" ")[0]


class SigningKey:
    """A key that signs."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self._seed = seed
        self.public = PublicKey(name, self._private.public_key().public_bytes_raw())

    @classmethod
    def create(cls, name: str) -> SigningKey:
        """Return a new key; raises InvalidKey for a name that none may have."""
        if NAME.fullmatch(name) is None:
            raise InvalidKey("a key's name has 1 to 128 letters, digits and . _ : / -")
        return cls(name, os.urandom(32))

    @classmethod
    def parse(cls, text: str) -> SigningKey:
        """Return the key of a text; raises InvalidKey."""
        if not text.startswith(_PRIVATE):
            raise InvalidKey(f"a signing key begins with {_PRIVATE}")
        name, _, rest = text.removeprefix(_PRIVATE).partition("+")
        key_id, _, encoded = rest.partition("+")
        key = cls(name, _raw(encoded))
        if NAME.fullmatch(name) is None or key_id != key.public.id.hex():
            raise InvalidKey("the key's id does not belong to it")
        return key

    def secret(self) -> str:
        """Return the key as its file has it."""
        name, key_id = self.public.name, self.public.id.hex()
        return f"{_PRIVATE}{name}+{key_id}+{b64encode(ED25519 + self._seed).decode()}"

    def sign(self, text: str) -> str:
        """Return the signature line over a note's text."""
        signature = self._private.sign(text.encode())
        return f"{DASH} {self.public.name} {b64encode(self.public.id + signature).decode()}"


def read_keys(path: Path) -> tuple[SigningKey, ...]:
    """Return the keys of a file; raises InvalidKey and OSError."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        keys = [SigningKey.parse(line) for line in lines if line]
    except (InvalidKey, UnicodeDecodeError) as error:
        raise InvalidKey(f"{path} is no file of signing keys: {error}") from None
    if not keys:
        raise InvalidKey(f"{path} has no key")
    return tuple(keys)


def write_key(path: Path, key: SigningKey) -> None:
    """Write a new key file that only its owner may read; raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{key.secret()}\n")


def verified_by(text: str, signatures: Sequence[str], keys: Iterable[PublicKey]) -> bool:
    """Say whether one of the keys signed a note."""
    return any(key.verifies(text, signatures) for key in keys)
