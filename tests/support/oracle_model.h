// Opens a model on disk for a test, and reads the expected values beside it.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/model_config.h"
#include "format/json.h"
#include "gtest/gtest.h"
#include "storage/local_storage.h"
#include "tests/support/shared.h"

namespace linchpin {

// A store that may read and write everywhere.
inline std::unique_ptr<LocalStorage> WholeDisk() {
  auto storage =
      LocalStorage::Create({.read_roots = {"/"}, .write_roots = {"/"}, .allow_symlinks = true});
  EXPECT_TRUE(storage.ok()) << storage.status();
  return std::move(storage).value();
}

// `json` is expected.json, or null where there is none.
struct OracleModel {
  std::unique_ptr<LocalStorage> storage;
  std::unique_ptr<Checkpoint> checkpoint;
  ModelConfig config;
  Json expected;

  std::vector<int32_t> token_ids() const { return expected["token_ids"]; }
};

// `config_name` picks the dialect: config.json or config.v5.json.
inline OracleModel OpenModel(const std::filesystem::path& directory,
                             const std::string& config_name = "config.json") {
  OracleModel model;
  model.storage = WholeDisk();
  auto checkpoint = Checkpoint::Open(*model.storage, directory.string());
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
  model.checkpoint = std::make_unique<Checkpoint>(std::move(checkpoint).value());
  auto config = ModelConfig::Parse(config_name, ReadFileText(directory / config_name));
  EXPECT_TRUE(config.ok()) << config.status();
  model.config = std::move(config).value();
  if (std::filesystem::exists(directory / "expected.json")) {
    model.expected = Json::parse(ReadFileText(directory / "expected.json"));
  }
  return model;
}

}  // namespace linchpin
