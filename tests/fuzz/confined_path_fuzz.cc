// The input is a path below a storage's root, or, where it begins with '/', any.
//
// Beside the root lies a file that must not be read, and within it links that lead there:
// what is opened lies within, whatever the path.
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "base/status.h"
#include "storage/confined_path.h"
#include "storage/local_storage.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"
#include "tests/support/temporary_directory.h"

namespace {

using linchpin::LocalStorage;
namespace fs = std::filesystem;

constexpr std::string_view kInside = "inside";

struct Tree {
  linchpin::TemporaryDirectory directory;
  std::string root;
  std::unique_ptr<LocalStorage> strict, linked;

  Tree() : root(directory / "root") {
    for (const char* name : {"root/f", "root/a/f", "root/a/b/f"}) directory.Write(name, kInside);
    for (const char* name : {"f", "rootf", "a/f", "b/f"}) directory.Write(name, "outside");
    fs::create_symlink("..", root + "/up");
    fs::create_symlink("../f", root + "/out");
    fs::create_symlink(directory / "f", root + "/absolute");
    fs::create_symlink("/", root + "/top");
    fs::create_symlink("a/b", root + "/in");
    strict = *LocalStorage::Create({.read_roots = {root}});
    linked = *LocalStorage::Create({.read_roots = {root}, .allow_symlinks = true});
  }
};

// What begins as an absolute path is one, and means the same when it is read again.
void CheckNormal(std::string_view path) {
  const auto normal = linchpin::NormalPath(path);
  if (!normal.ok()) return;
  const std::string shown = *normal + "/";
  INVARIANT(shown.front() == '/' && shown.find("/../") == std::string::npos);
  INVARIANT(*normal == "/" || shown.find("//") == std::string::npos);
  INVARIANT(*linchpin::NormalPath(*normal) == *normal);
}

void CheckOpened(const LocalStorage& storage, const std::string& path) {
  if (const auto text = linchpin::ReadText(storage, path, 1 << 20); text.ok()) {
    INVARIANT(*text == kInside);
  }
  if (const auto entries = storage.List(path); entries.ok()) {
    for (const linchpin::FileEntry& entry : *entries) {
      INVARIANT(entry.size == kInside.size() && entry.name.ends_with('f'));
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tree& tree = *new Tree;
  const std::string input(TextOf(data, size));
  for (const std::string& path : {input, tree.root + "/" + input, tree.root + input}) {
    CheckNormal(path);
    CheckOpened(*tree.strict, path);
    CheckOpened(*tree.linked, path);
  }
  return 0;
}
