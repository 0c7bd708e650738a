"""Holds the tree against the rules of the house; one line per finding, exit 1 if there is one.

Include paths are root-relative, so link lines alone do not stop a wrong include.  This does:
  order      a folder of server/ includes and links only folders that stand before it in
             server/CMakeLists.txt, and every folder stands there
  library    LibTorch, gRPC with the generated messages, and prometheus-cpp each in their folder
  sides      client/ and server/ see proto/, not each other
  unbuilt    every *_test.cc, *_bench.cc and *_fuzz.cc is named in a CMakeLists.txt above it
  header     a header opens with a comment that says what it is for, and has #pragma once
  name       no file, folder or class named after nothing (util, common, helper, manager, impl)
  empty      no empty folder

Usage: check_structure.py [ROOT]
"""

import os
import pathlib
import re
import sys

# Trees that hold sources, and what lies in them without being a part of them.
TREES = ("client", "deploy", "helm", "proto", "server", "tests")
IGNORED = {"__pycache__", "build", "node_modules"}
# Folders of server/ that are no code.
NOT_CODE = {"docs"}

# Include prefixes -> the places that may use them, as path prefixes.
LIBRARIES = (
    (("torch/", "ATen/", "c10/", "caffe2/"), "LibTorch",
     ("server/forward/", "tests/unit/forward/", "tests/bench/")),
    (("grpcpp/", "grpc/", "grpc++/", "google/", "linchpin/v1/"), "gRPC and generated messages",
     ("server/service/", "server/main.cc", "client/", "tests/unit/service/", "tests/unit/client/",
      "tests/integration/", "tests/e2e/", "tests/bench/", "tests/support/", "tests/fuzz/",
      "tests/hostile/")),
    (("prometheus/",), "prometheus-cpp", ("server/metrics/", "tests/unit/metrics/")),
)

FORBIDDEN_WORDS = {"util", "utils", "common", "commons", "helper", "helpers", "manager",
                   "managers", "impl"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)
CLASS = re.compile(r"^\s*(?:template\s*<.*>\s*)?(?:class|struct|union|enum(?:\s+class)?)\s+"
                   r"(?:\[\[\w+\]\]\s*)?(\w+)", re.MULTILINE)
BUILT_SUFFIXES = ("_test.cc", "_bench.cc", "_fuzz.cc")


def folder_order(root):
    """The folders of server/ in the order of its add_subdirectory lines."""
    text = without_cmake_comments((root / "server/CMakeLists.txt").read_text())
    return re.findall(r"add_subdirectory\(\s*(\w+)", text)


def without_cmake_comments(text):
    return re.sub(r"#.*", "", text)


def walk(root):
    """Yields (directory relative to root, its folders, its files, ignored folders), sorted."""
    for tree in TREES:
        for directory, folders, files in os.walk(root / tree):
            ignored = [f for f in folders if f in IGNORED or f.startswith(".")]
            folders[:] = sorted(set(folders) - set(ignored))
            yield pathlib.Path(directory).relative_to(root), folders, sorted(files), ignored


def source_files(root):
    for directory, _, files, _ in walk(root):
        for name in files:
            if name.endswith((".h", ".cc")):
                yield directory / name


def check_folders(root, order):
    present = {p.name for p in (root / "server").iterdir()
               if p.is_dir() and p.name not in IGNORED | NOT_CODE and not p.name.startswith(".")}
    for name in sorted(present - set(order)):
        yield f"server/{name}: order: the folder has no add_subdirectory in server/CMakeLists.txt"
    for name in sorted(set(order) - present):
        yield f"server/CMakeLists.txt: order: no folder {name}"
    for name in sorted({n for n in order if order.count(n) > 1}):
        yield f"server/CMakeLists.txt: order: {name} stands there twice"


def check_includes(root, path, order):
    """Rules `order`, `library` and `sides` for one source file."""
    place = path.as_posix()
    for include in INCLUDE.findall((root / path).read_text()):
        if include.startswith(("../", "./")) or "/../" in include:
            yield f"{place}: order: includes {include}: paths start at the root, not here"
        yield from check_sides(root, path, include, order)
        yield from check_order(root, path, include, order)
        for prefixes, library, allowed in LIBRARIES:
            if include.startswith(prefixes) and not place.startswith(allowed):
                yield f"{place}: library: includes {include}: {library} belongs to {allowed[0]}"


def check_sides(root, path, include, order):
    side, first = path.parts[0], include.split("/")[0]
    of_server = first in order or first == "server"
    # A bare name may only be a file of the side itself.
    of_server = of_server or ("/" not in include and (root / "server" / include).is_file()
                              and not (root / "client" / include).is_file())
    if side == "client" and of_server:
        yield f"{path.as_posix()}: sides: client/ includes {include} of server/"
    if side == "server" and first == "client":
        yield f"{path.as_posix()}: sides: server/ includes {include} of client/"


def check_order(root, path, include, order):
    if path.parts[0] != "server" or len(path.parts) < 3 or path.parts[1] not in order:
        return
    own, first = path.parts[1], include.split("/")[0]
    if first in order and order.index(first) > order.index(own):
        yield f"{path.as_posix()}: order: includes {include}, but {first} stands after {own}"
    if "/" not in include and (root / "server" / include).is_file():
        yield f"{path.as_posix()}: order: includes {include}, which stands above every folder"


def check_links(root, order):
    """Rule `order` for the link lines of each folder."""
    for own in order:
        cmake = root / "server" / own / "CMakeLists.txt"
        if not cmake.is_file():
            continue
        for linked in re.findall(r"linchpin::(\w+)", without_cmake_comments(cmake.read_text())):
            if linked in order and order.index(linked) > order.index(own):
                yield (f"server/{own}/CMakeLists.txt: order: links linchpin::{linked}, "
                       f"which stands after {own}")


def check_built(root, path):
    """Rule `unbuilt`: some CMakeLists.txt at or above the file names it, relative to itself."""
    for parent in list(path.parents):
        cmake = root / parent / "CMakeLists.txt"
        name = re.escape(path.relative_to(parent).as_posix())
        if cmake.is_file() and re.search(rf"(?<![\w/.-]){name}(?![\w.-])",
                                         without_cmake_comments(cmake.read_text())):
            return
    yield f"{path.as_posix()}: unbuilt: no CMakeLists.txt names it"


def check_header(root, path):
    text = (root / path).read_text()
    if not re.match(r"//.*[A-Za-z]", text):
        yield f"{path.as_posix()}: header: does not open with a comment that says what it is for"
    # Highway reads its *-inl.h headers once per instruction set, by a guard that toggles.
    toggles = path.name.endswith("-inl.h") and "HWY_TARGET_TOGGLE" in text
    if not toggles and not re.search(r"^#pragma once$", text, re.MULTILINE):
        yield f"{path.as_posix()}: header: no #pragma once"


def check_path_name(path):
    words = set(re.split(r"[._\-]+", path.name.lower()))
    for word in sorted(words & FORBIDDEN_WORDS):
        yield f"{path.as_posix()}: name: '{word}' says nothing"


def check_class_names(root, path):
    for name in CLASS.findall((root / path).read_text()):
        words = re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z0-9]*|[a-z0-9]+", name)
        for word in words:
            if word.lower() in FORBIDDEN_WORDS:
                yield f"{path.as_posix()}: name: '{word}' in {name} says nothing"


def check_tree_names(root):
    for directory, folders, files, ignored in walk(root):
        for name in folders + files:
            yield from check_path_name(directory / name)
        if not folders and not files and not ignored:
            yield f"{directory.as_posix()}: empty: a folder without files"


def findings(root):
    """Every finding in the tree at root, as `PATH: RULE: WHAT` lines."""
    root = pathlib.Path(root)
    order = folder_order(root)
    yield from check_folders(root, order)
    yield from check_links(root, order)
    yield from check_tree_names(root)
    for path in source_files(root):
        yield from check_includes(root, path, order)
        yield from check_class_names(root, path)
        if path.suffix == ".h":
            yield from check_header(root, path)
        if path.name.endswith(BUILT_SUFFIXES):
            yield from check_built(root, path)


def main(arguments):
    root = pathlib.Path(arguments[0] if arguments else ".").resolve()
    found = list(findings(root))
    for finding in found:
        print(finding)
    files = sum(1 for _ in source_files(root))
    print(f"structure: {files} source files, {len(found)} findings")
    if files == 0:
        print(f"structure: {root} holds no sources; is it the root of the project?")
    return 1 if found or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
