# SPDX-License-Identifier: Apache-2.0
"""Hostile packages, by the numbers of the project's list of cases (docs/security.md)."""

from __future__ import annotations

import base64
import json
import os
import resource
import socket
import struct
import subprocess
import sys
import time

import pytest

from pyneo.errors import ExpiredError, PackageError, RollbackError, SignatureError, TargetError
from pyneo.package.container import KIND_NAMES, Kind, Section
from pyneo.package.package import Package
from pyneo.package.signing.counter import CounterStore
from pyneo.package.signing.envelope import pae
from pyneo.package.signing.trust import TrustStore
from pyneo.package.signing.verify import Policy, verify
from pyneo.package.source import FileSource, anonymous
from tests.package import forge
from tests.package.forge import KEY, OTHER, TRUST, check, listing, package, signed, table
from tests.package.forge import forge as forged

DATA = signed()


def refused(data: bytes, kind: type[Exception] = PackageError, words: str = ".", **policy) -> Exception:
    with pytest.raises(kind, match=words) as e:
        check(data, **policy)
    assert len(str(e.value)) > 20 and "\n" not in str(e.value)
    return e.value


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def body(plan: bytes = forge.PLAN, weights: bytes = forge.WEIGHTS) -> list[tuple[int, int, bytes]]:
    return [(2, 0, plan), (3, 0, weights)]


def manifest_json(sections, **fields) -> dict:
    return {**forge.manifest().to_json(), "sections": listing(sections), **fields}


def test_case_01_an_empty_file_is_not_a_package():
    refused(b"", words="not a pyneo package: the file is empty")


@pytest.mark.parametrize(
    "data, words",
    [
        (b"PK\3\4" + bytes(200), "not a pyneo package"),
        (b"x", "not a pyneo"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS"),
    ],
)
def test_case_01_and_61_other_files_are_named_as_such(data, words):
    refused(data, words=words)


def test_case_02_truncation_anywhere_is_refused():
    cuts = {len(DATA) * i // 64 for i in range(64)}
    for _, _, offset, size, _, _ in table(DATA):
        cuts |= {offset - 1, offset, offset + 1, offset + size - 1, offset + size, offset + size + 1}
    cuts |= {0, 1, 7, 8, 63, 64, 65, 64 * 5 - 1, 64 * 5}
    for cut in sorted(c for c in cuts if c < len(DATA)):
        refused(DATA[:cut], words="truncated|empty")


def test_case_03_every_flipped_bit_is_refused():
    """Every byte of header, table, manifest and signature, with a bit that rotates; a sample of the rest."""
    rows = table(DATA)
    edges = [e for r in rows for e in (r[2], r[2] + r[3])]
    every = {*range(rows[0][2] + rows[0][3]), *range(rows[3][2], len(DATA))}
    every |= {at for e in edges for at in range(e - 8, e + 8)} | set(range(rows[1][2], rows[3][2], 211))
    for at in sorted(every & set(range(len(DATA)))):
        data = patched(DATA, at, bytes([DATA[at] ^ (1 << at % 8)]))
        refused(data, PackageError if at < 64 else SignatureError)


@pytest.mark.parametrize(
    "offset, size", [(2**64 - 8, 16), (2**64 - 64, 128), (64, 2**64 - 1), (2**63, 2**63)]
)
@pytest.mark.parametrize("row", range(4))
def test_case_04_offsets_that_wrap_are_refused(row, offset, size):
    refused(patched(DATA, 64 + 64 * row + 8, struct.pack("<QQ", offset, size)), words="beyond the file")


def test_case_05_overlapping_sections_are_refused_even_if_signed():
    rows = table(DATA)
    plan, weights = rows[1], rows[2]
    refused(patched(DATA, 64 + 64 * 2 + 8, struct.pack("<Q", plan[2])), words="overlaps")
    refused(patched(DATA, 64 + 64 * 1 + 8, struct.pack("<Q", 0)), words="overlaps")
    refused(patched(DATA, 64 + 64 * 1 + 16, struct.pack("<Q", weights[2] - plan[2] + 1)))


def test_case_06_misaligned_sections_are_refused():
    offset = table(DATA)[2][2]
    for shift in (1, 8, 64, 4096):
        refused(
            patched(DATA, 64 + 64 * 2 + 8, struct.pack("<Q", offset - shift)),
            words="not where the format puts it",
        )


@pytest.mark.parametrize("count", [0, 65, 10**6, 2**32 - 1])
def test_case_07_absurd_section_counts_cost_nothing(count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    refused(patched(DATA, 24, struct.pack("<I", count)), words=f"claims {count} sections")
    assert time.process_time() - start < 0.1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


@pytest.mark.parametrize("kind", [2, 3, 6])
def test_case_08_duplicate_sections_are_refused_even_if_signed(kind):
    sections = [*body(), (kind, 0, b"again"), (kind, 0, b"and again")]
    refused(forged(manifest_json(sections), sections), words="at most one")


def test_case_08_duplicate_manifest_or_signature_sections_are_refused():
    for kind in (1, 4):
        sections = [*body(), (kind, 0, b"{}"), (5, 0, b"")]
        refused(forged(manifest_json(sections), sections), words="more than one manifest|must be the last")


def test_case_08_duplicate_tensor_names_are_refused():
    m = manifest_json(body())
    m["inputs"] = m["inputs"] * 2
    refused(forged(m, body()), words="same name")


def test_case_09_trailing_bytes_are_refused():
    refused(DATA + b"\0", SignatureError, "follow the end")
    longer = patched(DATA + bytes(64), 16, struct.pack("<Q", len(DATA) + 64))
    refused(longer, SignatureError, "follow the last section")


@pytest.mark.parametrize("version", [0, 2, 0x01000000, 2**32 - 1])
def test_case_10_other_versions_are_named(version):
    refused(patched(DATA, 8, struct.pack("<I", version)), words=f"version {version};")


def test_case_10_other_magic_is_refused():
    refused(DATA[7::-1] + DATA[8:], words="not a pyneo package")


def test_case_11_missing_and_malformed_signatures_are_refused():
    refused(package().to_bytes(), SignatureError, "not signed")
    sections = body()
    data = forged(manifest_json(sections), sections)
    good = json.loads(data[table(data)[-1][2] :])["signatures"][0]
    for sig in (bytes(64), bytes(63), bytes(65), b"", b"\xff" * 64):
        refused(
            with_envelope({"keyid": good["keyid"], "sig": base64.b64encode(sig).decode()}), SignatureError
        )
    refused(with_envelope(), SignatureError)


def with_envelope(*signatures: dict, **extra) -> bytes:
    """The sound package with another envelope, its digest mended: only the signature can tell."""
    from pyneo.package.container import write
    from pyneo.package.manifest import canonical

    rows = table(DATA)
    cut = lambda i: DATA[rows[i][2] : rows[i][2] + rows[i][3]]  # noqa: E731
    envelope = {"payloadType": "application/vnd.pyneo.manifest+json", "signatures": list(signatures), **extra}
    return b"".join(write([Section(i + 1, cut(i)) for i in range(3)] + [Section(4, canonical(envelope))]))


def good_signature() -> dict:
    return json.loads(DATA[table(DATA)[-1][2] :])["signatures"][0]


def test_case_12_another_key_is_refused_without_details():
    e = refused(signed(key=OTHER), SignatureError, "not signed by a trusted key")
    assert e.reason == "untrusted-key" and "toy" not in str(e)
    claims = base64.b64encode(OTHER.sign(pae(b"anything"))).decode()
    refused(with_envelope({"keyid": KEY.public.id, "sig": claims}), SignatureError, "does not fit")


def test_case_13_a_signature_of_another_package_is_refused():
    other = signed(name="other")
    sig = json.loads(other[table(other)[-1][2] :])["signatures"][0]
    refused(with_envelope(sig), SignatureError, "does not fit")


def test_case_14_a_manifest_does_not_go_with_another_packages_sections():
    from pyneo.package.container import write

    a, b = DATA, signed(weights=forge.WEIGHTS[::-1])
    part = lambda d, i: d[table(d)[i][2] : table(d)[i][2] + table(d)[i][3]]  # noqa: E731
    mixed = b"".join(
        write(
            [Section(1, part(a, 0)), Section(2, part(a, 1)), Section(3, part(b, 2)), Section(4, part(a, 3))]
        )
    )
    refused(mixed, SignatureError, "not the one that was signed")
    rows = table(a)
    swapped = patched(a, rows[2][2], part(b, 2))
    refused(swapped, SignatureError, "weights section is not what was signed")


WINDOW = {"not_before": "2026-01-01T00:00:00Z", "not_after": "2026-12-31T00:00:00Z"}
INSIDE, BEFORE, AFTER, UNSET = 1780000000.0, 1750000000.0, 1800000000.0, 1000.0


@pytest.mark.parametrize(
    "now, reason", [(INSIDE, None), (BEFORE, "key-not-yet-valid"), (AFTER, "key-expired"), (UNSET, "clock")]
)
def test_case_15_a_key_is_trusted_in_its_window_only(now, reason):
    trust = TrustStore()
    trust.add(KEY.public, **WINDOW)
    if reason is None:
        assert check(DATA, trust, clock=lambda: now).signers == (KEY.public.id,)
    else:
        assert refused(DATA, ExpiredError, trust=trust, clock=lambda: now).reason == reason


@pytest.mark.parametrize(
    "now, reason", [(INSIDE, None), (AFTER, "expired"), (BEFORE, "clock"), (UNSET, "clock")]
)
def test_case_15_a_package_expires(now, reason):
    data = signed(created="2026-01-01T00:00:00Z", expires="2026-12-31T00:00:00Z")
    if reason is None:
        check(data, clock=lambda: now)
    else:
        assert refused(data, ExpiredError, clock=lambda: now).reason == reason


def test_case_15_a_package_without_dates_needs_no_clock():
    check(DATA, clock=lambda: 0.0)


def test_case_15_a_revoked_key_is_refused():
    trust = TrustStore([KEY.public], revoked=[KEY.public.id])
    assert refused(DATA, SignatureError, trust=trust).reason == "revoked-key"


@pytest.mark.parametrize(
    "extra",
    [{"alg": "none"}, {"algorithm": "hs256"}, {"payloadType": "application/json"}, {"payload": "e30="}],
)
def test_case_16_the_file_does_not_choose_the_algorithm(extra):
    refused(with_envelope(good_signature(), **extra), SignatureError, "not a valid envelope")


def test_case_16_an_hmac_with_the_public_key_is_no_signature():
    import hmac

    rows = table(DATA)
    manifest = DATA[rows[0][2] : rows[0][2] + rows[0][3]]
    mac = hmac.digest(KEY.public.raw, pae(manifest), "sha512")
    forged_signature = {"keyid": KEY.public.id, "sig": base64.b64encode(mac).decode()}
    refused(with_envelope(forged_signature), SignatureError, "does not fit")
    refused(with_envelope({**good_signature(), "alg": "HMAC"}), SignatureError, "not a valid envelope")


def test_case_17_going_back_to_an_older_release_is_refused(tmp_path):
    store = CounterStore(tmp_path / "releases.json")
    old, new = signed(release=6), signed(release=7)
    store.record(check(new, counter_store=store).manifest)
    refused(old, RollbackError, "release 6 of 'toy' is older than release 7", counter_store=store)
    check(new, counter_store=store)
    check(signed(release=1, name="another"), counter_store=store)
    check(old, counter_store=CounterStore(store.path, allow_rollback=True))
    (tmp_path / "releases.json").write_text("{")
    refused(new, SignatureError, "counter store .* is damaged", counter_store=store)


@pytest.mark.parametrize("what", ["device", "tenant"])
def test_case_18_a_package_for_another_device_or_tenant_is_refused(what):
    data = signed(**{what + "s": ("kiosk-7", "kiosk-8")})
    check(data, **{what: "kiosk-8"})
    refused(data, TargetError, f"{what} 'kiosk-7', 'kiosk-8'.*'kiosk-9'", **{what: "kiosk-9"})
    refused(data, TargetError, f"pass {what}=")


def test_case_19_a_file_replaced_while_it_is_read_gives_verified_bytes_or_an_error(tmp_path):
    """Another process renames two packages over the path, and rewrites it in place, as fast as it can."""
    tries = 3000
    path = tmp_path / "m.neo"
    a, b = signed(weights=b"a" * 7000), signed(weights=b"b" * 7000)
    path.write_bytes(a)
    (tmp_path / "a").write_bytes(a)
    (tmp_path / "b").write_bytes(b)
    program = """
import os, sys
folder = sys.argv[1]
data = [open(os.path.join(folder, n), "rb").read() for n in "ab"]
print("ready", flush=True)
for i in range(10**9):
    if i % 3:
        t = os.path.join(folder, "t"); open(t, "wb").write(data[i & 1]); os.replace(t, folder + "/m.neo")
    else:
        fd = os.open(os.path.join(folder, "m.neo"), os.O_WRONLY); os.pwrite(fd, data[i & 1], 0); os.close(fd)
"""
    other = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"ready\n"
        outcomes = {"a": 0, "b": 0, "refused": 0}
        for _ in range(tries):
            try:
                source = FileSource(path, anonymous)
                try:
                    found = verify(source, Policy(trust=TRUST))
                finally:
                    source.close()
            except PackageError:
                outcomes["refused"] += 1
                continue
            weights = found.find(Kind.WEIGHTS)
            used = bytes(source.view[weights.offset : weights.end])
            assert used in (b"a" * 7000, b"b" * 7000)
            outcomes["a" if used[:1] == b"a" else "b"] += 1
        assert outcomes["a"] and outcomes["b"]
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_case_21_only_regular_files_are_read_and_nothing_hangs(tmp_path):
    good = tmp_path / "good.neo"
    good.write_bytes(DATA)
    link, fifo, sock, sparse = (tmp_path / n for n in ("link.neo", "fifo", "sock", "sparse"))
    link.symlink_to(good)
    os.mkfifo(fifo)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(sock))
    sparse.touch()
    os.truncate(sparse, 1 << 40)
    start = time.monotonic()
    for path, words in [
        (link, "symbolic link"), (tmp_path, "not a regular file"), (fifo, "not a regular file"),
        ("/dev/zero", "not a regular file"), ("/proc/self/mem", "empty"), (sparse, "at most"),
        ("a\0b", "zero byte"),
    ]:  # fmt: skip
        with pytest.raises(PackageError, match=words):
            FileSource(path, anonymous)
    with pytest.raises(OSError):
        FileSource(sock, anonymous)
    with pytest.raises(FileNotFoundError):
        FileSource(tmp_path / "absent", anonymous)
    os.truncate(sparse, 1 << 32)
    with pytest.raises(PackageError, match="not a pyneo package"):
        FileSource(sparse, anonymous)
    with open(sparse, "r+b") as f:  # a sound beginning, then nothing: refused before the weights are read
        f.write(patched(DATA[:64], 16, struct.pack("<Q", 1 << 32)) + DATA[64:])
    with pytest.raises(PackageError):
        verify(FileSource(sparse, anonymous), Policy(trust=TRUST))
    assert time.monotonic() - start < 1.0
    server.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_case_21_an_unreadable_file_is_an_os_error(tmp_path):
    path = tmp_path / "m.neo"
    path.write_bytes(DATA)
    path.chmod(0)
    with pytest.raises(PermissionError):
        FileSource(path, anonymous)


def test_case_22_archives_are_no_packages_and_nothing_is_unpacked(tmp_path, monkeypatch):
    """A .neo file holds no file names at all: archives are refused by their first bytes."""
    import io
    import tarfile
    import zipfile

    monkeypatch.chdir(tmp_path)
    for kind in ("zip", "tar"):
        out = io.BytesIO()
        if kind == "zip":
            with zipfile.ZipFile(out, "w") as z:
                z.writestr("../escaped", "x")
        else:
            with tarfile.open(fileobj=out, mode="w") as t:
                entry = tarfile.TarInfo(str(tmp_path.parent / "escaped"))
                entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
                t.addfile(entry)
        refused(out.getvalue(), words="not a pyneo package")
    assert list(tmp_path.iterdir()) == [] and not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize("name", ["x" * (1 << 19), "a\0b", "a\x1b[31m", "line\nbreak", "\x9b31m"])
def test_case_23_bad_names_are_refused_and_escaped(name):
    e = refused(forged(manifest_json(body(), name=name), body()), words="name (has|holds)")
    assert str(e).isprintable() and len(str(e)) < 300


def test_case_23_names_that_are_no_utf8_are_refused():
    from pyneo.package.manifest import canonical

    data = canonical(manifest_json(body(), name="NAME"))
    refused(forged(data.replace(b"NAME", b"\xff\xfe\xfd\xfc"), body()), words="not valid JSON in UTF-8")
    refused(forged(data.replace(b"NAME", b"\\ud800"), body()), words="not valid JSON in UTF-8")


@pytest.mark.parametrize("arch", ["aarch64", "x86_64", "riscv64"])
def test_case_24_a_package_for_another_machine_is_refused(arch):
    from pyneo.package.manifest import Target

    mine = "s390x"
    data = signed(target=Target("rpi4", arch))
    refused(data, TargetError, f"compiled for {arch} .target 'rpi4'., this machine is s390x", arch=mine)
    check(data, arch=arch)


def test_case_25_unknown_sections_are_refused_unless_optional():
    for flags, accepted in ((0, False), (1, True), (2, False)):
        sections = [*body(), (77, flags, b"new")]
        data = forged(manifest_json(sections), sections)
        if accepted:
            check(data)
        else:
            refused(data, words="update pyneo")


def test_case_25_a_newer_runtime_is_asked_for_by_name():
    refused(
        signed(minimum_runtime="9.0.0"),
        TargetError,
        "needs pyneo 9.0.0 or later, this is 0.1.0",
        runtime="0.1.0",
    )


def test_case_25_unknown_manifest_fields_are_refused():
    refused(forged(manifest_json(body(), surprise=1), body()), words="unknown fields 'surprise'")
    refused(forged(manifest_json(body(), format=2), body()), words="format 2")


def test_case_26_there_is_no_section_for_code():
    """The format has no kind for native code: such a section is an unknown mandatory one."""
    sections = [*body(), (1000, 0, b"\x7fELF")]
    refused(forged(manifest_json(sections), sections), words="does not know")
    assert set(KIND_NAMES.values()) == {
        "manifest", "plan", "weights", "signature", "delegate", "baseline",
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"a":1,"a":1}',
        b'{ "a":1}',
        b"\xef\xbb\xbf{}",
        b"NaN",
        b"[" * 100000,
        b"1" * 5000,
    ],
)
def test_signed_manifests_that_are_not_canonical_objects_are_refused(text):
    refused(forged(text, body()), words="manifest")


def test_an_untrusted_manifest_is_never_parsed(monkeypatch):
    """The order of verification: nothing is interpreted before its signature was checked."""
    from pyneo.package.signing import verify as module

    def parsed(*_):
        raise AssertionError("parsed before it was trusted")

    monkeypatch.setattr(module.Manifest, "decode", parsed)
    refused(signed(key=OTHER), SignatureError, "not signed by a trusted key")


def test_package_open_refuses_what_load_refuses(tmp_path):
    path = tmp_path / "m.neo"
    path.write_bytes(patched(DATA, len(DATA) // 2, b"\xff"))
    with pytest.raises(SignatureError):
        Package.open(path)
