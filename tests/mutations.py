"""Changes to the bytes of files, for the fuzz test: blind ones, and ones that keep lengths and checksums right.

Everything is drawn from a `random.Random`: the same state gives the same change.
"""

from __future__ import annotations

import copy
import hashlib
import io
import json
import random
import re
import struct
import zipfile

from apmgsrn_core.file.model_file import PREAMBLE
from apmgsrn_core.training.checkpoint import DIGEST_BYTES, MAGIC

NUMBERS = (
    0, -1, 1, 2, 7, 255, 65536, 2**31 - 1, 2**31, 2**32, 2**40, 2**62, 2**63, 2**64, 10**30, 10**400, 0.5, -0.0, 1e-300, 1e300,
    1e308, -1e308, float("nan"), float("inf"), float("-inf"), True,
)  # fmt: skip
TEXTS = (
    "", "x", "../../x", "/etc/passwd", "a/../b", "nul\0", "x" * 70_000, "float16", "mask", "\u202e", "1", "a\\b", "point", "delta",
    "rounded", "none", "voxels", "voxels/2", "values", "quadratic", "uint8", "leveled ranges", "error bounds",
)  # fmt: skip
DEEP = "@deep@"


def blind(data: bytes, draw: random.Random) -> bytes:
    """Bytes flipped, cut, inserted, copied or overwritten with a number."""
    for _ in range(draw.choice((1, 1, 1, 2, 5))):
        data = draw.choice((_flipped, _cut, _inserted, _copied, _numbered, _spliced))(data, draw)
    return data


def _flipped(data: bytes, draw: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 4, 32))):
        if changed:
            changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _cut(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randrange(len(data) + 1)]


def _inserted(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.choice((bytes(draw.choice((1, 4, 300))), draw.randbytes(draw.choice((1, 8, 64))))) + data[at:]


def _copied(data: bytes, draw: random.Random) -> bytes:
    first, at, count = draw.randrange(len(data) + 1), draw.randrange(len(data) + 1), draw.choice((1, 8, 100))
    return data[:at] + data[first : first + count] + data[at + count :]


def _spliced(data: bytes, draw: random.Random) -> bytes:
    first, last = sorted((draw.randrange(len(data) + 1), draw.randrange(len(data) + 1)))
    return data[:first] + data[last:] if draw.random() < 0.5 else data[:last] + data[first:]


def _numbered(data: bytes, draw: random.Random) -> bytes:
    number = draw.choice([n for n in NUMBERS if type(n) is int and -1 <= n < 2**64])
    kind = draw.choice("BHIQ")
    packed = struct.pack("<" + kind, number % (1 << 8 * struct.calcsize(kind)))
    if draw.random() < 0.3:
        packed = struct.pack(*draw.choice((("<f", float("nan")), ("<d", 1e308), ("<d", float("inf")), ("<f", -3e38))))
    at = draw.randrange(len(data) + 1)
    return data[:at] + packed + data[at + len(packed) :]


# ---- JSON ------------------------------------------------------------------------------------------


def changed_json(value, draw: random.Random) -> bytes:
    """A JSON value with one to three places changed, as text."""
    value = copy.deepcopy(value)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        value = _changed(value, draw)
    text = json.dumps(value, separators=(",", ":"))
    if DEEP in text:
        depth = draw.choice((5, 40, 200, 900, 3000))
        opened, closed = draw.choice((("[", "]"), ('{"a":', "}")))
        text = text.replace(f'"{DEEP}"', opened * depth + "1" + closed * depth)
    if draw.random() < 0.05:
        text = text.replace("{", '{"grid":null,', 1) if draw.random() < 0.5 else text.replace(",", ",,", 1)
    return text.encode()


def _changed(value, draw: random.Random):
    """One place, found by a walk from the root, changed."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or draw.random() < 0.08:
        return _other(value, draw)
    key, action = draw.choice(keys), draw.random()
    if isinstance(value[key], (dict, list)) and value[key] and action < 0.75:
        value[key] = _changed(value[key], draw)
    elif action < 0.85:
        value[key] = _other(value[key], draw)
    elif action < 0.93:
        value.pop(key)
    elif isinstance(value, list):
        value.insert(draw.randrange(len(value) + 1), copy.deepcopy(value[key]))
    else:
        value[draw.choice(("more", "config", "bounds", "ranges", "axes", draw.choice(keys)))] = _other(value[key], draw)
    return value


def _other(value, draw: random.Random):
    """Something in place of a value, of its own kind as a rule."""
    if draw.random() < 0.4:
        lists = ([], [1, 1, 1], [2, 1, 1], [2**40] * 3, [1e30], [0.5])
        return draw.choice((None, {}, DEEP, draw.choice(NUMBERS), draw.choice(TEXTS), {"kind": "log"}, *map(list, lists)))
    if isinstance(value, str):
        return draw.choice((*TEXTS, value + "0", value[:-1], value * 2))
    if isinstance(value, (int, float)):
        return draw.choice((*NUMBERS, value + 1, value - 1, value * 2, -value))
    if isinstance(value, list):
        numbers = [draw.choice(NUMBERS)] * len(value)
        return draw.choice((value[:-1], value + value[-1:], value[::-1], numbers, [[v] for v in value]))
    return {}


# ---- files that say how long they are and what their checksum is -----------------------------------


def safetensors(data: bytes, draw: random.Random) -> bytes:
    """A safetensors buffer with another header, or other bytes behind it."""
    length = int.from_bytes(data[:8], "little")
    head, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    action = draw.random()
    if action < 0.45:
        text = changed_json(head, draw)
    elif action < 0.9 and rest:
        return _with_bytes(head, rest, draw)
    else:
        text = blind(data[8 : 8 + length], draw)
    return len(text).to_bytes(8, "little") + text + rest


def _with_bytes(head: dict, rest: bytes, draw: random.Random) -> bytes:
    """The bytes of one tensor changed, its length too where that is told again."""
    names = sorted((name for name in head if name != "__metadata__"), key=lambda name: head[name]["data_offsets"])
    chosen, parts, offset = draw.choice(names), [], 0
    for name in names:
        first, last = head[name]["data_offsets"]
        part = rest[first:last]
        if name == chosen:
            part = blind(part, draw)
            count = draw.choice((last - first,) * 5 + (0, (last - first) // 2, 2 * (last - first), 8))
            if head[name]["dtype"] == "U8":
                head[name]["shape"] = [len(part)]
            else:
                part = (part + bytes(count))[:count]
            if head[name]["dtype"] != "U8" and count != last - first:
                wide = {"F64": 8, "I64": 8, "F32": 4, "F16": 2}.get(head[name]["dtype"], 1)
                part = part[: count - count % wide]
                head[name]["shape"] = [len(part) // wide]
        head[name]["data_offsets"] = [offset, offset + len(part)]
        parts, offset = [*parts, part], offset + len(part)
    text = json.dumps(head, separators=(",", ":")).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def model(data: bytes, draw: random.Random) -> bytes:
    """A model file with another manifest or other sections; checksums are right, as a rule."""
    magic, version, zero, offset, _, _ = PREAMBLE.unpack(data[: PREAMBLE.size])
    manifest = json.loads(data[offset:])
    sections = [data[s["offset"] : s["offset"] + s["length"]] for s in manifest["sections"]]
    action = draw.random()
    if action < 0.55:
        number = draw.randrange(len(sections))
        sections[number] = (blind if draw.random() < 0.1 else safetensors)(sections[number], draw)
        if draw.random() < 0.1:
            sections[number], sections[0] = sections[0], sections[number]
    end = PREAMBLE.size
    for entry, section in zip(manifest["sections"], sections):
        entry.update(offset=end, length=len(section), sha256=hashlib.sha256(section).hexdigest())
        end += len(section)
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    if action >= 0.4:
        text = blind(text, draw) if action > 0.95 else changed_json(manifest, draw)
    head = PREAMBLE.pack(magic, version, zero, end, len(text), hashlib.sha256(text).digest())
    if draw.random() < 0.03:
        head = _numbered(head, draw)[: PREAMBLE.size]
    return head + b"".join(sections) + text


def part(data: bytes, draw: random.Random) -> bytes:
    """A finished brick: a line of JSON, then its section."""
    line, _, section = data.partition(b"\n")
    head = json.loads(line)
    if draw.random() < 0.4:
        section = safetensors(section, draw)
        head.update(length=len(section), sha256=hashlib.sha256(section).hexdigest())
    return (changed_json(head, draw) if draw.random() < 0.7 else json.dumps(head).encode()) + b"\n" + section


def checkpoint(data: bytes, draw: random.Random) -> bytes:
    """A checkpoint: a digest, then a safetensors buffer with a tree of JSON in its header."""
    inner = data[len(MAGIC) + DIGEST_BYTES :]
    if draw.random() < 0.6:
        length = int.from_bytes(inner[:8], "little")
        head = json.loads(inner[8 : 8 + length])
        tree = json.loads(head["__metadata__"]["state"])
        if draw.random() < 0.7:
            tree = _changed_tree(tree, draw)
        state = changed_json(tree, draw) if draw.random() < 0.3 else json.dumps(tree).encode()
        head["__metadata__"]["state"] = state.decode()
        text = json.dumps(head).encode()
        inner = len(text).to_bytes(8, "little") + text + inner[8 + length :]
    else:
        inner = safetensors(inner, draw)
    return MAGIC + hashlib.sha256(inner).digest() + inner


def _changed_tree(tree: list, draw: random.Random) -> list:
    """A description of a state (`training/checkpoint.py`) with one entry changed, gone, or exchanged for another one."""
    kind, value = tree
    if kind == "json":
        return [kind, _other(value, draw)]
    if kind != "dict" or not value:
        return [kind, str(draw.randrange(12))] if draw.random() < 0.7 else ["json", draw.choice((None, 1, [1]))]
    name, action = draw.choice(sorted(value)), draw.random()
    if action < 0.85:
        return [kind, {**value, name: _changed_tree(value[name], draw)}]
    if action < 0.93:
        return [kind, {other: child for other, child in value.items() if other != name}]
    return [kind, {**value, name: value[draw.choice(sorted(value))]}]


def archive(data: bytes, draw: random.Random) -> bytes:
    """A zip archive with one member changed, dropped, twice there or compressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as opened:
        members = [(name, opened.read(name)) for name in opened.namelist()]
    number = draw.choice([i for i, (name, _) in enumerate(members) if name.endswith(".pkl") or draw.random() < 0.3])
    name, content = members[number]
    action = draw.random()
    content = blind(content, draw) if action < 0.6 else _numbers_in_pickle(content, draw) if action < 0.9 else content
    members[number : number + 1] = [(name, content)] * (draw.choice((0, 2)) if action > 0.95 else 1)
    kind = draw.choice((zipfile.ZIP_STORED,) * 6 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as written:
        for name, content in members:
            written.writestr(zipfile.ZipInfo(name), content, kind)
    return buffer.getvalue()


def _numbers_in_pickle(content: bytes, draw: random.Random) -> bytes:
    """One whole number (BININT, BININT1, BININT2) replaced by another one, of up to 255 bytes."""
    places = [m.start() for m in re.finditer(rb"[KMJ]", content)]
    if not places:
        return content
    at = draw.choice(places)
    width = {b"K": 1, b"M": 2, b"J": 4}[content[at : at + 1]]
    number = draw.choice([n for n in NUMBERS if type(n) is int])
    packed = number.to_bytes((number.bit_length() + 8) // 8, "little", signed=True)
    return content[:at] + b"\x8a" + bytes([len(packed)]) + packed + content[at + 1 + width :]


def text(data: bytes, draw: random.Random) -> bytes:
    """Numbers and words of a text (or of the head of a file) replaced."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        places = list(re.finditer(rb"[-+.\w]+", data[:4000]))
        if not places:
            return data
        found = draw.choice(places)
        plain = str(draw.choice(NUMBERS)).encode()
        words = (draw.choice(places)[0], draw.choice(TEXTS).encode(), b"", b"((((" * 2000, b"</" + found[0])
        other = draw.choice((plain, plain, *words))
        data = data[: found.start()] + other + data[found.end() :]
    return data


def json_file(data: bytes, draw: random.Random) -> bytes:
    """A file of JSON."""
    return changed_json(json.loads(data), draw)


STRUCTURED = {
    ".apmgsrn": model, ".part": part, ".state": checkpoint, ".tar": archive, ".safetensors": safetensors, ".json": json_file,
    ".vti": text, ".nrrd": text, ".nhdr": text, ".csv": text, ".npy": text,
}  # fmt: skip


def mutated(data: bytes, ending: str, draw: random.Random) -> tuple[bytes, bool]:
    """(the bytes of a file changed, whether the change was blind: then a checksum tells it where there is one)."""
    change = STRUCTURED.get(ending)
    if change is None or draw.random() < 0.25:
        return blind(data, draw), True
    return change(data, draw), False
