"""tests/count_tests.py: what did not run did not pass."""

import pathlib
import subprocess
import sys

SCRIPT = pathlib.Path(__file__).resolve().parents[1] / "count_tests.py"
CTEST = """<testsuite name="Linux">
  <testcase name="A.One" classname="A.One" status="run"/>
  <testcase name="A.Two" classname="A.Two" status="{status}">{inner}</testcase>
</testsuite>"""
PYTEST = """<testsuites><testsuite><testcase classname="t" name="a"/>
  <testcase classname="t" name="b">{inner}</testcase></testsuite></testsuites>"""


def count(tmp_path, **reports):
    for name, text in reports.items():
        (tmp_path / f"{name}.xml").write_text(text)
    result = subprocess.run([sys.executable, "-B", str(SCRIPT),
                             *[str(tmp_path / f"{name}.xml") for name in reports]],
                            capture_output=True, text=True, check=False)
    return result.returncode, result.stdout.splitlines()


def test_adds_reports_up(tmp_path):
    code, lines = count(tmp_path, ctest=CTEST.format(status="run", inner=""),
                        pytest=PYTEST.format(inner=""))
    assert (code, lines) == (0, ["4 passed, 0 failed"])


def test_counts_every_kind_of_failure(tmp_path):
    for inner in ("<failure/>", "<error/>", "<skipped/>"):
        code, lines = count(tmp_path, pytest=PYTEST.format(inner=inner))
        assert code == 1
        assert lines[0].endswith(": pytest: t.b")
        assert lines[-1] == "1 passed, 1 failed"
    for status in ("fail", "notrun", "disabled"):
        code, lines = count(tmp_path, ctest=CTEST.format(status=status, inner=""))
        assert (code, lines[-1]) == (1, "1 passed, 1 failed")


def test_missing_broken_and_empty_reports_are_failures(tmp_path):
    code, lines = count(tmp_path, broken="<testsuite", empty="<testsuite/>")
    assert (code, lines[-1]) == (1, "0 passed, 2 failed")
    result = subprocess.run([sys.executable, "-B", str(SCRIPT), str(tmp_path / "none.xml")],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == "0 passed, 1 failed"


def test_nothing_at_all_is_a_failure():
    result = subprocess.run([sys.executable, "-B", str(SCRIPT)], capture_output=True, text=True,
                            check=False)
    assert (result.returncode, result.stdout) == (1, "0 passed, 0 failed\n")


def test_a_test_of_several_reports_counts_once_and_passes_in_all_or_not(tmp_path):
    passed, failed = (CTEST.format(status=status, inner="") for status in ("run", "fail"))
    assert count(tmp_path, one=passed, two=passed) == (0, ["2 passed, 0 failed"])
    for reports in ({"one": passed, "two": failed}, {"one": failed, "two": passed}):
        code, lines = count(tmp_path, **reports)
        assert (code, lines[-1]) == (1, "1 passed, 1 failed")
