"""Changes the sources in one place after another and sees whether the tests notice.

    build/venv/bin/python tests/mutants/run.py                 every mutant of mutants.toml
    build/venv/bin/python tests/mutants/run.py NAME...         those alone
    build/venv/bin/python tests/mutants/run.py --table         the list as tests/README.md has it

A mutant is a row of mutants.toml: a file, the text that is replaced there, what replaces it, and the test that must
then fail.  It is made in a copy of what is committed, build/mutants, so that the tree itself is never changed.  The
killer runs first without a mutant, where it must pass.  Exit 1 if a mutant lives.
"""

import argparse
import os
import pathlib
import subprocess
import sys
import time
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
COPY = ROOT / "build/mutants"
BUILD = COPY / "build/release"
LIMIT = 600  # seconds that a killer may take
ENVIRONMENT = {"LINCHPIN_SHARED": str(ROOT.parent / "shared"), **os.environ, "CI": "true"}
PROGRAMS = ["linchpin", "linchpin-server", "tokenize", "dump_checkpoint", "encode_blocks", "read_json", "run_on_inputs"]


def mutants():
    return tomllib.loads((HERE / "mutants.toml").read_text(encoding="utf-8"))["mutant"]


def run(*command, log, limit=3600):
    """The exit code of a command, None where it ran past its limit."""
    with open(log, "w", encoding="utf-8") as file:
        try:
            return subprocess.run(list(map(str, command)), cwd=COPY, stdin=subprocess.DEVNULL, stdout=file,
                                  stderr=subprocess.STDOUT, timeout=limit, check=False, env=ENVIRONMENT).returncode
        except subprocess.TimeoutExpired:
            return None


def git(*arguments):
    return subprocess.run(["git", *map(str, arguments)], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def prepare():
    """A copy of what is committed, with what the tests need from build/."""
    if COPY.exists():
        git("-C", COPY, "checkout", "--quiet", "--force", "--detach", git("rev-parse", "HEAD"))
    else:
        git("worktree", "prune")
        git("worktree", "add", "--quiet", "--detach", COPY, "HEAD")
    (COPY / "build").mkdir(exist_ok=True)
    for name in ("venv", "vllm-venv", "npm", "models"):
        place = COPY / "build" / name
        if not place.is_symlink():
            place.symlink_to(ROOT / "build" / name)
    code = run("cmake", "--preset", "check", log=COPY / "build/configure.log")
    assert code == 0, COPY / "build/configure.log"


def build(killer):
    """Builds what a killer runs; False where it does not compile."""
    targets = PROGRAMS if killer.startswith("tests/") else [killer.split()[0]]
    return run("cmake", "--build", BUILD, "-j", 2, "--target", *targets, log=COPY / "build/build.log") == 0


def passes(killer):
    """A killer is a pytest node id, or a GoogleTest program with a filter."""
    if killer.startswith("tests/"):
        command = [ROOT / "build/venv/bin/python", "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", killer]
    else:
        program, pattern = killer.split()
        command = [BUILD / "tests" / program, f"--gtest_filter={pattern}"]
    code = run(*command, log=COPY / "build/killer.log", limit=LIMIT)
    assert code != 5, f"{killer}: no such test"
    if "/" not in killer.split()[0]:
        assert "Running 0 tests" not in (COPY / "build/killer.log").read_text(errors="replace"), killer
    return code == 0


def outcome(mutant):
    """What becomes of a mutant: "killed", or what is wrong."""
    file = COPY / mutant["file"]
    original = file.read_text(encoding="utf-8")
    if original.count(mutant["old"]) != 1:
        return "not found once"
    try:
        file.write_text(original.replace(mutant["old"], mutant["new"]), encoding="utf-8")
        if not build(mutant["killer"]):
            return "does not compile"
        return "lives" if passes(mutant["killer"]) else "killed"
    finally:
        file.write_text(original, encoding="utf-8")


def table():
    print("| mutant | place | killer |\n|---|---|---|")
    for mutant in mutants():
        print(f"| {mutant['name']} | `{mutant['file']}` | `{mutant['killer']}` |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("names", nargs="*")
    arguments.add_argument("--table", action="store_true")
    arguments = arguments.parse_args()
    if arguments.table:
        return table()
    chosen = [each for each in mutants() if not arguments.names or each["name"] in arguments.names]
    prepare()
    sound = {}
    lived = []
    for mutant in chosen:
        killer = mutant["killer"]
        started = time.monotonic()
        if killer not in sound:
            sound[killer] = build(killer) and passes(killer)
        result = outcome(mutant) if sound[killer] else "its killer fails without it"
        print(f"{result}: {mutant['name']} ({time.monotonic() - started:.0f} s)", flush=True)
        if result != "killed":
            lived.append(mutant["name"])
    print(f"{len(chosen) - len(lived)} of {len(chosen)} killed")
    return 1 if lived else 0


if __name__ == "__main__":
    sys.exit(main())
