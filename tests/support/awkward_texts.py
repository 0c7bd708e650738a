"""Texts made to hurt a tokenizer."""

import random


def awkward_texts(specials):
    """Blanks, line ends, scripts, emoji, digits, unknown characters and special tokens, mixed."""
    rng = random.Random(7)
    # U+180E is left out: a blank by PCRE2, not by Unicode since 6.3.
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
