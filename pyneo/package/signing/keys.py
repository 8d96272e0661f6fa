# SPDX-License-Identifier: Apache-2.0
"""Ed25519 keys: made, written, read. A key's id is the SHA-256 of its 32 raw public bytes, in hex."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

from pyneo.errors import SignatureError
from pyneo.namedtuple import NamedTuple
from pyneo.package.digest import sha256

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PathLike = str | os.PathLike[str]

# SubjectPublicKeyInfo of Ed25519 (RFC 8410) is this and the raw key. Reading it by hand keeps a device from
# importing the whole of cryptography's serialization code, and leaves no algorithm to be chosen by the file.
_SPKI_PREFIX = bytes.fromhex("302a300506032b6570032100")
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"
_MAX_KEY_FILE = 1 << 16

# Points of small order, by their y: as a public key each would accept a signature that fits many messages
# (RFC 8032 leaves refusing them to the caller). _Y8 solves 2 y^2 = 1 - d y^4, the points of order 8.
_P = 2**255 - 19
_Y8 = int.from_bytes(
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
)
_SMALL_ORDER_Y = frozenset((0, 1, _P - 1, _Y8, _P - _Y8))


def key_id(raw: bytes) -> str:
    """The id of a raw public key."""
    return sha256(raw).hex()


class PublicKey:
    """A public key: 32 raw bytes and the id made of them."""

    __slots__ = ("id", "raw")

    def __init__(self, raw: bytes) -> None:
        if len(raw) != 32:
            raise SignatureError(f"an Ed25519 public key has 32 bytes, not {len(raw)}", "bad-key")
        if (int.from_bytes(raw, "little") & (2**255 - 1)) % _P in _SMALL_ORDER_Y:
            raise SignatureError("the public key is a point of small order, which is no key", "bad-key")
        self.raw = raw
        self.id = key_id(raw)

    def verify(self, signature: bytes, message: bytes) -> bool:
        """Whether `signature` is this key's over `message`."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def to_pem(self) -> bytes:
        from binascii import b2a_base64

        return f"{_BEGIN}\n{b2a_base64(_SPKI_PREFIX + self.raw).decode()}{_END}\n".encode()


class PrivateKey:
    """A signing key; `repr` does not show it."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @classmethod
    def generate(cls) -> PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return cls(Ed25519PrivateKey.generate())

    @property
    def public(self) -> PublicKey:
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature over `message`."""
        return self._key.sign(message)

    def to_pem(self, password: bytes | None = None) -> bytes:
        """PKCS#8, encrypted if a password is given."""
        from cryptography.hazmat.primitives import serialization as s

        how = s.BestAvailableEncryption(password) if password else s.NoEncryption()
        return self._key.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, how)

    def __repr__(self) -> str:
        return f"PrivateKey(id={self.public.id[:16]}...)"


class KeyPair(NamedTuple):
    """What keygen wrote: two paths and the key's id."""

    key: str
    pub: str
    id: str


def keygen(name: PathLike = "publisher", *, force: bool = False, password: bytes | None = None) -> KeyPair:
    """Makes an Ed25519 key pair: `name`.key (PKCS#8 PEM, mode 0600) and `name`.pub (PEM).

    The private key signs packages and never leaves the workstation; the public key goes to every device.
    Existing files are not overwritten unless `force` is given; a password encrypts the private key.

    Raises FileExistsError, OSError.
    """
    from pyneo.package.files import write_atomically

    stem = os.fspath(name)
    paths = KeyPair(stem + ".key", stem + ".pub", "")
    for path in (paths.key, paths.pub):
        if os.path.lexists(path) and not force:
            raise FileExistsError(
                f"{path} exists and would be lost, and with it the power to sign as that key; "
                "choose another name, or pass force=True (--force)"
            )
    private = PrivateKey.generate()
    if force:
        write_atomically(paths.key, [private.to_pem(password)], 0o600)
        write_atomically(paths.pub, [private.public.to_pem()], 0o644)
    else:
        _create(paths.key, private.to_pem(password), 0o600)
        try:
            _create(paths.pub, private.public.to_pem(), 0o644)
        except BaseException:
            os.unlink(paths.key)
            raise
    return KeyPair(paths.key, paths.pub, private.public.id)


def _create(path: str, data: bytes, mode: int) -> None:
    """Writes a file that must not exist, with its final mode from the first moment."""
    from pyneo.package.files import sync_folder

    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    sync_folder(os.path.dirname(os.path.abspath(path)))


def load_private_key(source: PathLike | bytes | PrivateKey, password: bytes | None = None) -> PrivateKey:
    """A signing key of a path, PEM bytes, or a key object of pyneo or `cryptography`.

    Raises SignatureError if it is no Ed25519 private key, OSError if the file cannot be read.
    """
    if isinstance(source, PrivateKey):
        return source
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    if isinstance(source, Ed25519PrivateKey):
        return PrivateKey(source)
    where = "the key" if isinstance(source, bytes) else os.fspath(source)
    pem = source if isinstance(source, bytes) else _read(os.fspath(source))
    if _BEGIN.encode() in pem:
        raise SignatureError(f"{where} is a public key; signing takes the private one (.key)", "bad-key")
    try:
        key = load_pem_private_key(pem, password)
    except TypeError:
        hint = "is encrypted: give its password" if password is None else "is not encrypted: give no password"
        raise SignatureError(f"{where} {hint}", "bad-key") from None
    except Exception as e:  # cryptography raises ValueError, UnsupportedAlgorithm and others for broken PEM
        raise SignatureError(
            f"{where} is no readable PEM private key ({e}); make one with pyneo keygen", "bad-key"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SignatureError(f"{where} is not an Ed25519 key; make one with pyneo keygen", "bad-key")
    if not isinstance(source, bytes) and os.stat(source).st_mode & 0o077:
        warnings.warn(f"{where} can be read by others; run chmod 600 on it", stacklevel=3)
    return PrivateKey(key)


def load_public_keys(source: Any) -> list[PublicKey]:
    """The public keys in a path, PEM text or bytes, 32 raw bytes, or a key object; at least one.

    Raises SignatureError if there is something else in it, OSError if the file cannot be read.
    """
    if isinstance(source, PublicKey):
        return [source]
    if isinstance(source, PrivateKey):
        return [source.public]
    if isinstance(source, (bytes, bytearray)):
        return [PublicKey(bytes(source))] if len(source) == 32 else _parse_pem(bytes(source), "the key")
    if isinstance(source, (str, os.PathLike)):
        text = os.fspath(source)
        if isinstance(text, str) and text.lstrip().startswith("-----BEGIN"):
            return _parse_pem(text.encode(), "the key")
        return _parse_pem(_read(text), text)
    if hasattr(source, "public_bytes_raw"):
        return [PublicKey(source.public_bytes_raw())]
    raise SignatureError(
        f"{type(source).__name__} is no public key; give a .pub file, PEM, or a key object", "bad-key"
    )


def _parse_pem(pem: bytes, where: str) -> list[PublicKey]:
    from binascii import a2b_base64

    if b"PRIVATE KEY-----" in pem:
        raise SignatureError(f"{where} is a private key; trust takes the public one (.pub)", "bad-key")
    lines = [line.strip() for line in pem.decode("ascii", "replace").splitlines() if line.strip()]
    keys: list[PublicKey] = []
    body: list[str] | None = None
    for line in lines:
        if line == _BEGIN and body is None:
            body = []
        elif line == _END and body is not None:
            try:
                der = a2b_base64("".join(body), strict_mode=True)
            except ValueError:
                der = b""
            if len(der) != 44 or not der.startswith(_SPKI_PREFIX):
                raise SignatureError(f"{where} holds a key that is not an Ed25519 public key", "bad-key")
            keys.append(PublicKey(der[12:]))
            body = None
        elif body is not None:
            body.append(line)
        else:
            raise SignatureError(f"{where} is no PEM public key; make one with pyneo keygen", "bad-key")
    if body is not None or not keys:
        raise SignatureError(f"{where} is no complete PEM public key; make one with pyneo keygen", "bad-key")
    return keys


def _read(path: str) -> bytes:
    import stat

    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as f:
        status = os.fstat(f.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_KEY_FILE:
            raise SignatureError(
                f"{path} is no key file: expected a regular file of at most {_MAX_KEY_FILE} bytes", "bad-key"
            )
        return f.read(_MAX_KEY_FILE + 1)
