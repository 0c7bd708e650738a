"""Adds up the JUnit reports of all test runners; the last line reads "N passed, N failed".

A test that several reports have, as it is run with each LibTorch, counts once, and passes if it passed in all.  A
report that is missing or cannot be read, and a skipped test, count as failed: what did not run did not pass.  Exit 1
if anything failed.

Usage: count_tests.py REPORT.xml...
"""

import pathlib
import sys
import xml.etree.ElementTree

NOT_PASSED = ("failure", "error", "skipped")


def outcomes(report):
    """Yields (test, None or what happened) for each test of a report."""
    try:
        root = xml.etree.ElementTree.parse(report).getroot()
    except (OSError, xml.etree.ElementTree.ParseError) as error:
        yield report.name, f"no report: {error}"
        return
    cases = list(root.iter("testcase"))
    if not cases:
        yield report.name, "no tests"
    for case in cases:
        problems = [tag for tag in NOT_PASSED if case.find(tag) is not None]
        if not problems and case.get("status") in ("fail", "notrun", "disabled"):  # as ctest writes
            problems = [case.get("status")]
        name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
        yield name, problems[0] if problems else None


def main(arguments):
    tests, failed = set(), set()
    for report in map(pathlib.Path, arguments):
        for name, problem in outcomes(report):
            tests.add(name)
            if problem:
                failed.add(name)
                print(f"{problem}: {report.stem}: {name}")
    print(f"{len(tests) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
