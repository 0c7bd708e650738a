"""Tests of size_report.py."""

import pathlib
import tempfile
import unittest

import size_report

SOURCE = """\
namespace linchpin {
namespace {

int Short(int x) { return x; }

std::string Long(int a,
                 int b) {
  if (a) {
    b = 1;
  }
  return {};
}

struct Row {
  int x;
};

}  // namespace

absl::Status Thing::Run() {
  return Ok();
}

}  // namespace linchpin
"""


class SizeReportTest(unittest.TestCase):
    def test_functions_are_measured_from_brace_to_brace(self):
        self.assertEqual(list(size_report.functions(SOURCE)), [("Long", 6), ("Thing::Run", 3)])

    def test_report_names_what_is_over_the_aim(self):
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            (root / "server/base").mkdir(parents=True)
            (root / "tests").mkdir()
            body = "  int x;\n" * 50
            (root / "server/base/a.cc").write_text("int Big() {\n" + body + "}\n" + "\n" * 200)
            (root / "server/base/b.h").write_text("\n" * 160)
            (root / "tests/a_test.cc").write_text("\n" * 206)
            text = "\n".join(size_report.report(root))
        self.assertRegex(text, r"headers: 1, largest 160, 1 over the aim of 100")
        self.assertRegex(text, r" 160  server/base/b.h   look again")
        self.assertRegex(text, r"sources: 1, largest 252, 1 over the aim of 200")
        self.assertRegex(text, r" 252  server/base/a.cc\n")
        self.assertRegex(text, r" 52  server/base/a.cc Big   look again")
        self.assertIn("ratio 0.50", text)


if __name__ == "__main__":
    unittest.main()
