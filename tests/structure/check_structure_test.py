"""Tests of check_structure.py on made-up trees: each rule broken once must be found, and only it."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

import check_structure

HEADER = "// Does one thing.\n#pragma once\n"

# A small tree that keeps every rule.
GOOD = {
    "server/CMakeLists.txt": "# add_subdirectory(ghost)\nadd_subdirectory(base)\n"
                             "add_subdirectory(forward)\nif(X)\n  add_subdirectory(metrics)\n"
                             "  add_subdirectory(service)\nendif()\n",
    "server/main.cc": '#include <grpcpp/grpcpp.h>\n#include "options.h"\n'
                      '#include "service/server.h"\nint main() {}\n',
    "server/options.h": HEADER,
    "server/base/CMakeLists.txt": "linchpin_library(base SOURCES a.cc)\n",
    "server/base/a.h": HEADER + "class Simple {};\nclass Implicit;\nstruct Utility {};\n",
    "server/base/a.cc": '#include "base/a.h"\n\n#include <vector>\n',
    "server/forward/CMakeLists.txt": "linchpin_library(forward PUBLIC linchpin::base)\n",
    "server/forward/f.cc": '#include <torch/torch.h>\n#include "base/a.h"\n',
    "server/metrics/m.cc": '#include <prometheus/counter.h>\n',
    "server/service/server.h": HEADER + '#include "linchpin/v1/compression.grpc.pb.h"\n',
    "server/docs/adr/0001-a.md": "# A\n",
    "client/main.cc": '#include <grpcpp/grpcpp.h>\n#include "client/call.h"\n'
                      '#include "linchpin/v1/compression.pb.h"\n',
    "client/call.h": HEADER,
    "tests/unit/base/CMakeLists.txt": "linchpin_test(a_test SOURCES a_test.cc)\n",
    "tests/unit/base/a_test.cc": '#include "base/a.h"\n',
    "tests/bench/CMakeLists.txt": "add_executable(b sub/b_bench.cc)\n",
    "tests/bench/sub/b_bench.cc": "#include <torch/torch.h>\n",
}


class CheckStructureTest(unittest.TestCase):
    def setUp(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addCleanup(self._directory.cleanup)
        self.root = pathlib.Path(self._directory.name)
        for path, text in GOOD.items():
            self.write(path, text)

    def write(self, path, text=""):
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def found(self):
        return list(check_structure.findings(self.root))

    def expect(self, path, rule, *words):
        """Exactly one finding: of this rule, at this path, with these words."""
        found = self.found()
        self.assertEqual(len(found), 1, found)
        self.assertTrue(found[0].startswith(f"{path}: {rule}: "), found[0])
        for word in words:
            self.assertIn(word, found[0])

    def test_good_tree_has_no_findings(self):
        self.assertEqual(self.found(), [])

    def test_order_is_read_from_cmake_and_comments_are_not(self):
        self.assertEqual(check_structure.folder_order(self.root),
                         ["base", "forward", "metrics", "service"])

    def test_upward_include(self):
        self.write("server/base/a.cc", '#include "forward/f.h"\n')
        self.expect("server/base/a.cc", "order", "forward/f.h")

    def test_upward_include_in_angle_brackets_and_with_spaces(self):
        self.write("server/base/a.cc", "  #  include <forward/f.h>\n")
        self.expect("server/base/a.cc", "order", "forward/f.h")

    def test_commented_out_include_is_no_include(self):
        self.write("server/base/a.cc", '// #include "forward/f.h"\n')
        self.assertEqual(self.found(), [])

    def test_include_of_a_file_beside_main(self):
        self.write("server/forward/f.cc", '#include "options.h"\n')
        self.expect("server/forward/f.cc", "order", "options.h")

    def test_relative_include(self):
        self.write("server/forward/f.cc", '#include "../base/a.h"\n')
        self.expect("server/forward/f.cc", "order", "../base/a.h")

    def test_upward_link(self):
        self.write("server/base/CMakeLists.txt",
                   "linchpin_library(base SOURCES a.cc PRIVATE linchpin::metrics)\n")
        self.expect("server/base/CMakeLists.txt", "order", "linchpin::metrics")

    def test_folder_that_is_not_in_the_order(self):
        self.write("server/extra/x.cc")
        self.expect("server/extra", "order")

    def test_order_names_a_folder_that_does_not_exist(self):
        self.write("server/CMakeLists.txt", GOOD["server/CMakeLists.txt"] +
                   "add_subdirectory(gone)\n")
        self.expect("server/CMakeLists.txt", "order", "gone")

    def test_order_names_a_folder_twice(self):
        self.write("server/CMakeLists.txt", GOOD["server/CMakeLists.txt"] +
                   "add_subdirectory(base)\n")
        self.expect("server/CMakeLists.txt", "order", "base", "twice")

    def test_libraries_outside_their_folder(self):
        for include in ("torch/torch.h", "ATen/ATen.h", "c10/core/Device.h",
                        "grpcpp/grpcpp.h", "grpc/grpc.h", "google/protobuf/message.h",
                        "linchpin/v1/compression.pb.h", "prometheus/counter.h"):
            with self.subTest(include):
                self.write("server/base/a.cc", f"#include <{include}>\n")
                self.expect("server/base/a.cc", "library", include)

    def test_libraries_are_not_shared_between_their_folders(self):
        self.write("server/service/s.cc", "#include <prometheus/counter.h>\n")
        self.expect("server/service/s.cc", "library", "server/metrics/")

    def test_grpc_in_main_but_not_beside_it(self):
        self.write("server/options.h", HEADER + "#include <grpcpp/grpcpp.h>\n")
        self.expect("server/options.h", "library")

    def test_libtorch_in_the_client(self):
        self.write("client/main.cc", "#include <torch/torch.h>\n")
        self.expect("client/main.cc", "library")

    def test_library_in_the_unit_test_of_another_folder(self):
        self.write("tests/unit/base/a_test.cc", "#include <torch/torch.h>\n")
        self.expect("tests/unit/base/a_test.cc", "library")

    def test_client_includes_server(self):
        for include in ("base/a.h", "server/base/a.h", "options.h"):
            with self.subTest(include):
                self.write("client/main.cc", f'#include "{include}"\n')
                self.expect("client/main.cc", "sides", include)

    def test_client_may_have_a_file_named_like_one_beside_main(self):
        self.write("client/options.h", HEADER)
        self.write("client/main.cc", '#include "options.h"\n')
        self.assertEqual(self.found(), [])

    def test_server_includes_client(self):
        self.write("server/service/server.h", HEADER + '#include "client/call.h"\n')
        self.expect("server/service/server.h", "sides", "client/call.h")

    def test_files_that_nobody_builds(self):
        for name in ("new_test.cc", "new_bench.cc", "new_fuzz.cc"):
            with self.subTest(name):
                self.write(f"tests/unit/base/{name}")
                self.expect(f"tests/unit/base/{name}", "unbuilt")
                (self.root / "tests/unit/base" / name).unlink()

    def test_file_named_in_a_comment_only(self):
        self.write("tests/unit/base/CMakeLists.txt", "# linchpin_test(a SOURCES a_test.cc)\n")
        self.expect("tests/unit/base/a_test.cc", "unbuilt")

    def test_file_named_by_another_folder_only(self):
        self.write("tests/unit/forward/a_test.cc")
        self.expect("tests/unit/forward/a_test.cc", "unbuilt")

    def test_name_that_only_ends_like_a_built_one(self):
        self.write("tests/unit/base/CMakeLists.txt", "linchpin_test(a SOURCES data_test.cc)\n")
        self.expect("tests/unit/base/a_test.cc", "unbuilt")

    def test_header_without_opening_comment(self):
        for text in ("#pragma once\n// Late.\n", "//\n#pragma once\n", "\n" + HEADER):
            with self.subTest(text):
                self.write("server/base/a.h", text)
                self.expect("server/base/a.h", "header", "comment")

    def test_header_may_open_with_a_quoted_name(self):
        self.write("server/base/a.h", "// `config.json` as data.\n#pragma once\n")
        self.assertEqual(self.found(), [])

    def test_a_header_that_is_read_once_per_instruction_set_needs_no_pragma_once(self):
        toggling = "// Does one thing.\n#if defined(X) == defined(HWY_TARGET_TOGGLE)\n"
        self.write("server/base/a-inl.h", toggling)
        self.assertEqual(self.found(), [])
        self.write("server/base/b-inl.h", "// Does one thing.\n")
        self.expect("server/base/b-inl.h", "header", "#pragma once")

    def test_header_without_pragma_once(self):
        self.write("server/base/a.h", "// Does one thing. #pragma once\n")
        self.expect("server/base/a.h", "header", "#pragma once")

    def test_header_rules_hold_in_tests_and_client(self):
        self.write("client/call.h", "int x;\n#pragma once\n")
        self.expect("client/call.h", "header")

    def test_file_names_that_say_nothing(self):
        for name in ("util.py", "string_utils.py", "common.cc", "test_helper.py", "job_manager.cc",
                     "x_impl.cc", "_helpers.tpl"):
            with self.subTest(name):
                self.write(f"server/base/{name}")
                self.expect(f"server/base/{name}", "name")
                (self.root / "server/base" / name).unlink()

    def test_folder_name_that_says_nothing(self):
        self.write("tests/common/x.py")
        self.expect("tests/common", "name")

    def test_class_names_that_say_nothing(self):
        for text in ("class JobManager {", "struct ReaderImpl;", "class StringUtil : X {",
                     "enum class CommonKind {", "  class TestHelper {", "template <T> class XImpl {"):
            with self.subTest(text):
                self.write("server/base/a.h", HEADER + text + "\n")
                self.expect("server/base/a.h", "name")

    def test_words_that_merely_contain_one(self):
        self.write("server/base/implicit_commonality.h", HEADER + "class Simplify {};\n")
        self.assertEqual(self.found(), [])

    def test_empty_folder(self):
        (self.root / "tests/unit/nothing").mkdir()
        self.expect("tests/unit/nothing", "empty")

    def test_what_a_build_leaves_behind_is_ignored(self):
        self.write("tests/build/util.cc", "#include <torch/torch.h>\n")
        self.write("tests/e2e/__pycache__/common.pyc")
        (self.root / "server/.cache").mkdir()
        self.assertEqual(self.found(), [])


class MainTest(unittest.TestCase):
    def run_main(self, root):
        script = pathlib.Path(__file__).with_name("check_structure.py")
        return subprocess.run([sys.executable, str(script), str(root)], capture_output=True,
                              text=True, check=False)

    def test_exit_status_follows_the_findings(self):
        with tempfile.TemporaryDirectory() as directory:
            root = pathlib.Path(directory)
            (root / "server/base").mkdir(parents=True)
            (root / "server/CMakeLists.txt").write_text("add_subdirectory(base)\n")
            (root / "server/base/a.cc").write_text("")
            self.assertEqual(self.run_main(root).returncode, 0)
            (root / "server/base/a.cc").write_text("#include <torch/torch.h>\n")
            result = self.run_main(root)
            self.assertEqual(result.returncode, 1)
            self.assertIn("server/base/a.cc: library: ", result.stdout)

    def test_a_tree_without_sources_is_a_mistake(self):
        with tempfile.TemporaryDirectory() as directory:
            (pathlib.Path(directory) / "server").mkdir()
            (pathlib.Path(directory) / "server/CMakeLists.txt").write_text("")
            self.assertEqual(self.run_main(directory).returncode, 1)


if __name__ == "__main__":
    unittest.main()
