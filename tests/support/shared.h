// Where tests find the shared models, oracles and texts.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "gtest/gtest.h"

namespace linchpin {

// LINCHPIN_SHARED, by default ../shared beside the repository, joined with `relative`.
std::filesystem::path SharedPath(std::string_view relative);

// The whole of a file; fails the test if it cannot be read.
std::string ReadFileText(const std::filesystem::path& path);

}  // namespace linchpin

// At the start of a test or of SetUp: skips it where the shared folder is
// absent, and fails it under CI, where nothing may be skipped.
#define LINCHPIN_NEEDS_SHARED()                                                        \
  do {                                                                                 \
    if (!std::filesystem::exists(linchpin::SharedPath("README.md"))) {                 \
      if (std::getenv("CI") != nullptr) {                                              \
        FAIL() << linchpin::SharedPath("") << " is absent; set LINCHPIN_SHARED";       \
      } else {                                                                         \
        GTEST_SKIP() << linchpin::SharedPath("") << " is absent; set LINCHPIN_SHARED"; \
      }                                                                                \
    }                                                                                  \
  } while (false)
