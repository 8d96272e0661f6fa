# SPDX-License-Identifier: Apache-2.0
"""Keys, envelope, trust store and counter store."""

from __future__ import annotations

import base64
import contextlib
import json
import multiprocessing
import os
import stat
import warnings

import pytest
from cryptography.hazmat.primitives import serialization as s
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

import pyneo
from pyneo.errors import RollbackError, SignatureError
from pyneo.package.signing.counter import CounterStore
from pyneo.package.signing.envelope import pae
from pyneo.package.signing.keys import PublicKey, keygen, load_private_key, load_public_keys
from pyneo.package.signing.trust import TrustStore
from tests.package import forge

KEY, OTHER = forge.KEY, forge.OTHER


# ---- keys ---------------------------------------------------------------------------------------


def test_keygen_writes_what_other_tools_read(tmp_path):
    pair = keygen(tmp_path / "p")
    private = s.load_pem_private_key((tmp_path / "p.key").read_bytes(), None)
    public = s.load_pem_public_key((tmp_path / "p.pub").read_bytes())
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    assert private.public_key().public_bytes_raw() == public.public_bytes_raw()
    import hashlib

    assert pair.id == hashlib.sha256(public.public_bytes_raw()).hexdigest()
    assert stat.S_IMODE(os.stat(pair.key).st_mode) == 0o600


@pytest.mark.parametrize("existing", ["p.key", "p.pub"])
@pytest.mark.parametrize("kind", ["file", "link"])
def test_keygen_overwrites_nothing(tmp_path, existing, kind):
    path = tmp_path / existing
    if kind == "file":
        path.write_text("precious")
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="would be lost"):
        keygen(tmp_path / "p")
    assert [f.name for f in tmp_path.iterdir()] == [existing]


def test_an_encrypted_key_needs_its_password(tmp_path):
    pair = keygen(tmp_path / "p", password=b"secret")
    with pytest.raises(SignatureError, match="is encrypted"):
        load_private_key(pair.key)
    with pytest.raises(SignatureError, match="no readable PEM"):
        load_private_key(pair.key, b"wrong")
    assert load_private_key(pair.key, b"secret").public.id == pair.id


def test_a_private_key_that_others_can_read_is_worth_a_warning(tmp_path):
    pair = keygen(tmp_path / "p")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_private_key(pair.key)
    os.chmod(pair.key, 0o644)
    with pytest.warns(UserWarning, match="can be read by others"):
        load_private_key(pair.key)


def test_a_private_key_does_not_show_itself():
    raw = KEY._key.private_bytes_raw()
    assert raw.hex() not in repr(KEY) and repr(raw) not in repr(KEY)


def test_keys_come_in_every_common_form(tmp_path):
    pair = keygen(tmp_path / "p")
    raw = s.load_pem_public_key((tmp_path / "p.pub").read_bytes())
    pem = (tmp_path / "p.pub").read_bytes()
    for source in (
        pair.pub,
        tmp_path / "p.pub",
        pem,
        pem.decode(),
        raw,
        raw.public_bytes_raw(),
        PublicKey(raw.public_bytes_raw()),
    ):
        assert [k.id for k in load_public_keys(source)] == [pair.id]


def rsa_pem() -> bytes:
    key = rsa.generate_private_key(65537, 2048).public_key()
    return key.public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.parametrize(
    "pem, words",
    [
        (b"", "no complete PEM"),
        (b"ssh-ed25519 AAAA", "no PEM public key"),
        (b"-----BEGIN PUBLIC KEY-----\n", "no complete PEM"),
        (b"-----BEGIN PUBLIC KEY-----\n!!!!\n-----END PUBLIC KEY-----\n", "not an Ed25519"),
        (rsa_pem(), "not an Ed25519"),
        (KEY.to_pem(), "is a private key"),
        (KEY.public.raw + b"\0", "no PEM public key"),
    ],
    ids=["empty", "ssh", "cut off", "no base64", "rsa", "private", "33 bytes"],
)
def test_what_is_no_public_key_is_refused(pem, words):
    with pytest.raises(SignatureError, match=words) as e:
        TrustStore([pem])
    assert e.value.reason == "bad-key"


def test_odd_key_files_are_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo.pub")
    for path in (tmp_path / "fifo.pub", "/dev/zero"):
        with pytest.raises(SignatureError, match="is no key file"):
            TrustStore.load(path)


def test_points_of_small_order_are_no_keys():
    """As public keys they would fit signatures that nobody made: all eight, in every encoding."""
    p = 2**255 - 19
    d = -121665 * pow(121666, -1, p) % p
    eighth = int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    )
    assert (2 * eighth**2 - 1 + d * eighth**4) % p == 0, "doubled, it has y = 0: it is of order 8"
    for y in (0, 1, p - 1, eighth, p - eighth, p, p + 1):
        for sign in (0, 1):
            with pytest.raises(SignatureError, match="small order"):
                TrustStore([(y | sign << 255).to_bytes(32, "little")])


# ---- envelope -----------------------------------------------------------------------------------


def test_ed25519_verifies():
    """The second vector of RFC 8032, section 7.1."""
    key = PublicKey(bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"))
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert key.verify(signature, b"\x72")
    assert not key.verify(signature, b"\x73")
    assert not key.verify(signature[::-1], b"\x72")
    assert not key.verify(signature[:-1], b"\x72")
    assert not PublicKey(b"\x02" + bytes(31)).verify(signature, b"\x72")  # on no point of the curve


def test_the_pre_authentication_encoding_is_that_of_dsse():
    """The example of the DSSE protocol document."""
    assert (
        pae(b"hello world", "http://example.com/HelloWorld")
        == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


def test_another_program_can_check_the_signature():
    """Only struct, json and cryptography: what docs/package-format.md promises."""
    data = forge.signed()
    rows = forge.table(data)
    manifest = data[rows[0][2] : rows[0][2] + rows[0][3]]
    envelope = json.loads(data[rows[3][2] : rows[3][2] + rows[3][3]])
    kind = envelope["payloadType"]
    message = f"DSSEv1 {len(kind)} {kind} {len(manifest)} ".encode() + manifest
    public = ed25519.Ed25519PublicKey.from_public_bytes(KEY.public.raw)
    public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), message)


# ---- trust --------------------------------------------------------------------------------------


def both() -> bytes:
    p = forge.package()
    p.sign(KEY)
    p.sign(OTHER)
    return p.to_bytes()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.pub").write_bytes(KEY.public.to_pem())
    (tmp_path / "b.pub").write_bytes(OTHER.public.to_pem())
    (tmp_path / "notes.txt").write_text("not a key")
    return tmp_path


def policy(folder, **value):
    (folder / "trust.json").write_text(json.dumps(value))


def test_any_key_of_a_folder_will_do(folder):
    trust = TrustStore.load(folder)
    assert set(trust.key_ids) == {KEY.public.id, OTHER.public.id}
    for key in (KEY, OTHER):
        assert forge.check(forge.signed(key=key), trust).signers == (key.public.id,)
    assert set(forge.check(both(), trust).signers) == {KEY.public.id, OTHER.public.id}


def test_a_folder_without_keys_trusts_nobody(tmp_path):
    with pytest.raises(SignatureError, match=r"holds no \.pub file"):
        TrustStore.load(tmp_path)
    with pytest.raises(SignatureError, match="not signed by a trusted key"):
        forge.check(forge.signed(), TrustStore())


def test_a_threshold_counts_different_keys(folder):
    policy(folder, threshold=2)
    forge.check(both(), TrustStore.load(folder))
    with pytest.raises(SignatureError, match="1 of the 2") as e:
        forge.check(forge.signed(), TrustStore.load(folder))
    assert e.value.reason == "threshold"


def test_revocation_applies_even_to_a_single_file(folder):
    policy(folder, revoked=[KEY.public.id])
    for source in (folder, folder / "a.pub"):
        with pytest.raises(SignatureError, match="is revoked"):
            forge.check(forge.signed(), TrustStore.load(source))
    assert forge.check(both(), TrustStore.load(folder)).signers == (OTHER.public.id,)


def test_a_store_can_revoke_a_key_that_it_took():
    trust = TrustStore([KEY.public])
    assert forge.check(forge.signed(), trust).signers == (KEY.public.id,)
    trust.revoke(KEY.public.id)
    assert trust.key_ids == (KEY.public.id,)
    with pytest.raises(SignatureError, match="is revoked"):
        forge.check(forge.signed(), trust)


def test_windows_come_from_the_policy_file(folder):
    policy(folder, keys={KEY.public.id: {"not_after": "2026-01-01T00:00:00Z"}})
    trust = TrustStore.load(folder)
    forge.check(forge.signed(), trust, clock=lambda: 1760000000.0)
    with pytest.raises(pyneo.ExpiredError, match="no longer valid"):
        forge.check(forge.signed(), trust, clock=lambda: 1790000000.0)
    forge.check(forge.signed(key=OTHER), trust, clock=lambda: 1790000000.0)


@pytest.mark.parametrize(
    "value",
    [[], {"treshold": 2}, {"threshold": "2"}, {"threshold": 0}, {"threshold": True}, {"revoked": ["short"]},
     {"revoked": {}}, {"keys": []}, {"keys": {"a": {"until": ""}}}, {"keys": {"a": {"not_after": 5}}}],
)  # fmt: skip
def test_a_policy_with_a_slip_is_refused_not_ignored(folder, value):
    (folder / "trust.json").write_text(json.dumps(value))
    with pytest.raises(SignatureError):
        TrustStore.load(folder)


def test_a_broken_policy_is_refused(folder):
    (folder / "trust.json").write_text("{")
    with pytest.raises(SignatureError, match="not valid JSON"):
        TrustStore.load(folder)
    policy(folder, keys={KEY.public.id: {"not_after": "soon"}})
    with pytest.raises(pyneo.PackageError, match="UTC time such as"):
        TrustStore.load(folder)


def test_one_bad_signature_of_a_trusted_key_spoils_the_package():
    from tests.package.test_hostile import good_signature, with_envelope

    bad = {"keyid": OTHER.public.id, "sig": good_signature()["sig"]}
    data = with_envelope(good_signature(), bad)
    assert forge.check(data, TrustStore([KEY.public])).signers == (KEY.public.id,)
    with pytest.raises(SignatureError, match="does not fit"):
        forge.check(data, TrustStore([KEY.public, OTHER.public]))


def test_the_same_signature_twice_is_refused():
    from tests.package.test_hostile import good_signature, with_envelope

    with pytest.raises(SignatureError, match="not a valid envelope"):
        forge.check(with_envelope(good_signature(), good_signature()), TrustStore([KEY.public], threshold=2))


# ---- counters -----------------------------------------------------------------------------------


def _record(path: str, release: int) -> None:
    with contextlib.suppress(RollbackError):
        CounterStore(path).record(forge.manifest(release=release))


def test_counters_of_many_processes_never_go_back(tmp_path):
    path = str(tmp_path / "releases.json")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_record, args=(path, r)) for r in (3, 9, 1, 7, 5, 8, 2)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert json.loads((tmp_path / "releases.json").read_text()) == {"toy": 9}
    assert sorted(os.listdir(tmp_path)) == ["releases.json", "releases.json.lock"]


def test_saving_a_package_leaves_the_old_file_or_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "m.neo"
    path.write_bytes(b"old")
    p = forge.package()
    p.sign(KEY)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        p.save(path)
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["m.neo"]
    monkeypatch.undo()
    p.save(path)
    assert path.read_bytes() == p.to_bytes() and os.listdir(tmp_path) == ["m.neo"]
