"""Prints which tests of some JUnit reports took longest, and what each file or program of tests took.

Usage: timings.py REPORT.xml...
"""

import collections
import pathlib
import sys
import xml.etree.ElementTree

SLOWEST = 30


def cases(report):
    """Yields (file or program, test, seconds)."""
    for case in xml.etree.ElementTree.parse(report).getroot().iter("testcase"):
        place = case.get("classname", "").split(".test_")[-1].split(".")[0]
        yield f"{report.stem}: {place}", case.get("name"), float(case.get("time", 0))


def main(arguments):
    found = [case for argument in arguments for case in cases(pathlib.Path(argument))]
    by_place = collections.Counter()
    for place, _, seconds in found:
        by_place[place] += seconds
    print("slowest tests, in seconds")
    for place, name, seconds in sorted(found, key=lambda case: -case[2])[:SLOWEST]:
        print(f"{seconds:7.1f}  {place}: {name[:100]}")
    print("slowest files and programs, in seconds")
    for place, seconds in by_place.most_common(SLOWEST):
        print(f"{seconds:7.1f}  {place}")


if __name__ == "__main__":
    main(sys.argv[1:])
