"""Texts made to hurt a tokenizer."""

import functools
import random
import unicodedata

# A blank by PCRE2, not by Unicode since 6.3.
MONGOLIAN_SEPARATOR = "\u180e"


def awkward_texts(specials):
    """Blanks, line ends, scripts, emoji, digits, unknown characters and special tokens, mixed."""
    rng = random.Random(7)
    parts = ["Hello", "the", "don't", "WE'LL", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", "\x0b",
             "0", "42", "1234567", "3.14", "½", "٣", "é", "e\u0301", "ß", "ſ", "漢字", "カナ",
             "한국어", "Привет", "עברית", "हिन्दी", "🙂", "👩‍👩‍👧", "\u00a0", "\u2003", "\u3000",
             "\u200b", "\ufeff", "\ufffd", "\U0010ffff", "\x01", "\x7f", "_", "--", "...", "'", "\"",
             "<", ">", "\u2581", "<0x0A>", "{}[]", "http://a.b/c?d=e&f", *specials]
    texts = ["", " ", "\n", "a", " a", "a ", "\u2581", "'s", "s's 's  's"]
    texts += ["".join(rng.choices(parts, k=rng.randint(1, 30))) for _ in range(400)]
    texts += ["".join(chr(rng.choice([rng.randint(1, 0x17f), rng.randint(0x2000, 0x303f),
                                      rng.randint(0x1f300, 0x1f6ff)])) for _ in range(80))
              for _ in range(50)]
    return texts


@functools.cache
def assigned():
    """Characters by general category, of those that every Unicode knows since 14."""
    by_category = {}
    for code in range(1, 0x110000):
        category = unicodedata.category(chr(code))
        if category not in ("Cn", "Cs") and chr(code) != MONGOLIAN_SEPARATOR:
            by_category.setdefault(category, []).append(chr(code))
    return by_category


def pool(rng):
    """Few characters, of categories that stand together nowhere else, and of plain text."""
    categories = sorted(assigned())
    own = [rng.choice(assigned()[rng.choice(categories)]) for _ in range(rng.randint(1, 10))]
    near = [chr(ord(rng.choice(own)) ^ rng.randint(1, 15)) for _ in range(3)]
    plain = rng.sample("abcdefg ABC  012345 .,'-\n\r\t_", rng.randint(3, 10))
    return [each for each in own + near + plain
            if each in assigned().get(unicodedata.category(each), ())]


def random_texts(rng, count):
    """Of a few pools of characters, with runs."""
    pools = [pool(rng) for _ in range(6)]
    texts = []
    for _ in range(count):
        characters = rng.choice(pools)
        texts.append("".join(rng.choice(characters) * rng.choice([1, 1, 1, 1, 2, 5])
                             for _ in range(rng.randint(1, 60))))
    return texts
