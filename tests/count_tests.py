"""Adds up the JUnit reports of all test runners; the last line reads "N passed, N failed".

A report that is missing or cannot be read, and a skipped test, count as failed: what did not run did
not pass.  Exit 1 if anything failed.

Usage: count_tests.py REPORT.xml...
"""

import pathlib
import sys
import xml.etree.ElementTree

NOT_PASSED = ("failure", "error", "skipped")


def outcomes(report):
    """Yields (name, None or what happened) for each test of a report."""
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
        yield f"{report.stem}: {name}", problems[0] if problems else None


def main(arguments):
    results = [result for argument in arguments for result in outcomes(pathlib.Path(argument))]
    failed = [result for result in results if result[1]]
    for name, problem in failed:
        print(f"{problem}: {name}")
    print(f"{len(results) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
