"""Our JSON reader against Python's, on random documents, sound ones and such as are nearly sound.

What we refuse though Python reads it, on purpose: NaN and Infinity, which are no JSON; numbers beyond a
double's range; a key twice in one object; half of a surrogate pair; more than 64 levels.  Whole numbers beyond
64 bits are read as the nearest double, which Python keeps whole.  All else is read alike, to the last bit.

LINCHPIN_SEEDS sets how many lots of documents (default 8); each is made from its number alone.
"""

import json
import os
import random
import string
import struct
import subprocess

import pytest

from support.build import tool

SEEDS = int(os.environ.get("LINCHPIN_SEEDS", "8"))
DEEPEST = 64


class Refused(ValueError):
    """By our rules, not by JSON's."""


def ours(documents):
    """What each becomes: a text, or the reason of a refusal that begins with "!"."""
    result = subprocess.run([tool("read_json")], input=b"".join(d + b"\0" for d in documents),
                            capture_output=True, check=True)
    return result.stdout.decode().split("\n")[:-1]


def once(pairs):
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise Refused("a key twice")
    return dict(pairs)


def finite(text):
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise Refused("beyond a double")
    return value


def whole(text):
    value = int(text)
    return value if -(1 << 63) <= value < 1 << 64 else finite(text)


def no_constant(text):
    raise Refused(text)


def theirs(document):
    """The value that Python reads, by our rules; a ValueError where there is none."""
    value = json.loads(document.decode(), object_pairs_hook=once, parse_float=finite,
                       parse_int=whole, parse_constant=no_constant)
    # Half of a surrogate pair cannot be written as UTF-8.
    json.dumps(value, ensure_ascii=False).encode()
    if depth(value) > DEEPEST:
        raise Refused("too deep")
    return value


def depth(value):
    if not isinstance(value, (dict, list)):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(map(depth, inner), default=0)


def bits(value):
    """The value with every double as its bits: -0.0 is not 0.0, and 1 is not 1.0."""
    if isinstance(value, float):
        return "double", struct.pack("<d", value)
    if isinstance(value, list):
        return [bits(each) for each in value]
    if isinstance(value, dict):
        return [(key, bits(each)) for key, each in value.items()]
    return type(value).__name__, value


def number(rng):
    kind = rng.randrange(7)
    if kind == 0:
        return str(rng.choice([0, 1, -1, -0, 2**63, 2**63 - 1, -2**63, -2**63 - 1, 2**64 - 1, 2**64,
                               10**30]))
    if kind == 1:
        return repr(struct.unpack("<d", rng.randbytes(8))[0])  # now and then nan or inf
    if kind == 2:
        return rng.choice(["-0", "-0.0", "0e0", "1E5", "1e+5", "1e-5", "1e400", "-1e400", "5e-324",
                           "2e-324", "1.7976931348623157e308", "1.7976931348623159e308", "0.1e1",
                           "9007199254740993", "123456789012345678901234567890.5"])
    if kind == 3:
        return rng.choice(["01", "+1", "1.", ".5", "1e", "1e+", "--1", "0x1", "1_0", "NaN", "Infinity",
                           "-Infinity", "nan", "inf", "1f"])
    digits = "".join(rng.choices(string.digits, k=rng.randint(1, 25))).lstrip("0") or "0"
    return ("-" if rng.random() < 0.3 else "") + digits + (
        "." + "".join(rng.choices(string.digits, k=rng.randint(1, 25))) if kind > 4 else "") + (
        rng.choice("eE") + rng.choice(["", "+", "-"]) + str(rng.randint(0, 330)) if kind == 6 else "")


def text(rng):
    parts = []
    for _ in range(rng.choice([0, 1, 2, 5, 20])):
        code = rng.choice([rng.randint(0x20, 0x7e), rng.randint(0, 0x24f), rng.randint(0, 0xffff),
                           rng.randint(0x10000, 0x10ffff)])
        character = chr(code)
        how = rng.random()
        if how < 0.3 and code > 0xffff:
            high, low = 0xd800 + (code - 0x10000 >> 10), 0xdc00 + (code & 0x3ff)
            parts.append(f"\\u{high:04x}" + (f"\\u{low:04X}" if how < 0.27 else ""))
        elif how < 0.3 or code < 0x20 or 0xd800 <= code < 0xe000 or character in "\"\\":
            parts.append(f"\\u{code & 0xffff:04x}" if how < 0.97 else character)
        else:
            parts.append(character)
        if how > 0.93:
            parts.append(rng.choice(["\\n", "\\t", "\\/", "\\\"", "\\\\", "\\b", "\\f", "\\r", "\\x", "\\'",
                                     "\\u12", "\t", "\x7f", "\u2028"]))
    return '"' + "".join(parts) + '"'


def blank(rng):
    return "".join(rng.choices(" \t\r\n", k=rng.choice([0, 0, 0, 1, 3])))


def value(rng, levels):
    kind = rng.randrange(8 if levels else 5)
    if kind < 2:
        return number(rng)
    if kind < 4:
        return text(rng)
    if kind == 4:
        return rng.choice(["true", "false", "null", "null", "True", "nul"][:4 + 2 * (rng.random() < 0.1)])
    items = []
    for _ in range(rng.choice([0, 1, 2, 4])):
        item = blank(rng) + value(rng, levels - 1) + blank(rng)
        if kind > 5:
            key = rng.choice([text(rng), '"a"', '"\\u0061"', '"b"'])
            item = blank(rng) + key + blank(rng) + ":" + item
        items.append(item)
    if not items:
        items = [blank(rng)]
    return ("{%s}" if kind > 5 else "[%s]") % ",".join(items)


def document(rng):
    """Bytes: a document, or one with a character of it changed, or a deep one."""
    if rng.random() < 0.03:
        levels = rng.randint(DEEPEST - 2, DEEPEST + 2)
        made = '{"a":[' * (levels // 2) + "[" * (levels % 2) + "]" * (levels % 2) + "]}" * (levels // 2)
    else:
        made = blank(rng) + value(rng, rng.randrange(5)) + blank(rng)
    made = made.encode("utf-8", "surrogatepass")
    if made and rng.random() < 0.25:
        at = rng.randrange(len(made))
        new = rng.choice([b"", rng.randbytes(1), rng.choice(made[:20]).to_bytes(1, "big"), b",", b"}",
                          b"]", b'"', b"\xef\xbb\xbf", b"//", b"\xc0\x80"])
        made = made[:at] + new + made[at + rng.randint(0, 1):]
    return made.replace(b"\0", b"")


@pytest.mark.parametrize("seed", range(SEEDS))
def test_documents_are_read_as_python_reads_them(seed):
    rng = random.Random(seed)
    documents = [document(rng) for _ in range(3000)]
    read = 0
    for made, said in zip(documents, ours(documents), strict=True):
        try:
            expected = theirs(made)
        except ValueError as error:  # malformed, not UTF-8 or refused
            assert said.startswith("!"), (made, error, said)
            continue
        assert not said.startswith("!"), (made, said)
        assert bits(theirs(said.encode())) == bits(expected), (made, said)
        read += 1
    assert len(documents) / 4 < read < len(documents) * 3 / 4, "of both kinds there are many"


@pytest.mark.parametrize("made", [
    b"NaN", b"[Infinity]", b'{"a":-Infinity}', b"1e999", b'{"a":1,"a":2}', b'"\\ud800"',
    b'"\\udc00\\ud800"', b"[" * 65 + b"]" * 65])
def test_what_python_reads_and_we_refuse(made):
    json.loads(made)
    (said,) = ours([made])
    assert said.startswith("!document: ")


def test_whole_numbers_beyond_64_bits_become_doubles():
    big = [2**63, 2**64 - 1, -2**63, 2**64, -2**63 - 1, 10**30]
    (said,) = ours([json.dumps(big).encode()])
    assert json.loads(said) == big[:3] + [float(each) for each in big[3:]]
    assert [type(each) for each in json.loads(said)] == [int] * 3 + [float] * 3
