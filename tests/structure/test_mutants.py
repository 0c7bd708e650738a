"""tests/mutants: every mutant can still be made, and names tests that there are."""

import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
MUTANTS = tomllib.loads((ROOT / "tests/mutants/mutants.toml").read_text(encoding="utf-8"))["mutant"]


def test_there_are_many_and_none_twice():
    names = [mutant["name"] for mutant in MUTANTS]
    assert len(names) > 50 and len(set(names)) == len(names)
    changes = [(mutant["file"], mutant["old"], mutant["new"]) for mutant in MUTANTS]
    assert len(set(changes)) == len(changes)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant["name"])
def test_a_mutant_can_be_made_and_its_killer_is_there(mutant):
    text = (ROOT / mutant["file"]).read_text(encoding="utf-8")
    assert text.count(mutant["old"]) == 1 and mutant["new"] != mutant["old"]
    place, _, name = mutant["killer"].partition("::")
    if place.startswith("tests/"):
        assert f"def {name.partition('[')[0]}" in (ROOT / place).read_text(encoding="utf-8")
        return
    program = mutant["killer"].split()[0]
    lists = [path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/CMakeLists.txt")]
    assert any(re.search(rf"linchpin_test\({program}\b", text) for text in lists)
