#include "checkpoint/checkpoint.h"

#include <string>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/local_storage.h"
#include "storage/memory_storage.h"
#include "tests/support/safetensors_file.h"
#include "tests/support/shared.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr char kTied[] = R"({"model_type": "llama", "tie_word_embeddings": true})";
constexpr char kUntied[] = R"({"model_type": "llama", "tie_word_embeddings": false})";

class CheckpointTest : public ::testing::Test {
 protected:
  void Put(const std::string& name, std::string_view text) {
    storage_.Put("model/" + name, ToBytes(text));
  }

  // Two shards of two tensors each, with their index.
  void PutSharded() {
    Put("config.json", kUntied);
    Put("a.safetensors", SafetensorsFile({MakeTensor("one", DType::kF32, {2}, {1, 2}),
                                          MakeTensor("two", DType::kBF16, {1, 2}, {3, 4})}));
    Put("b.safetensors", SafetensorsFile({MakeTensor("three", DType::kF16, {2, 1}, {5, 6})}));
    PutIndex(R"("one": "a.safetensors", "two": "a.safetensors", "three": "b.safetensors")");
  }
  void PutIndex(std::string_view weight_map) {
    Put("model.safetensors.index.json",
        R"({"metadata": {"total_size": 1}, "weight_map": {)" + std::string(weight_map) + "}}");
  }

  absl::StatusOr<Checkpoint> Open(std::string_view path = "model") {
    return Checkpoint::Open(storage_, path);
  }
  void ExpectRefused(Reason reason, std::vector<std::string> words,
                     std::string_view path = "model") {
    const auto checkpoint = Open(path);
    ASSERT_FALSE(checkpoint.ok());
    EXPECT_EQ(ReasonOf(checkpoint.status()), reason) << checkpoint.status();
    for (const std::string& word : words) {
      EXPECT_THAT(std::string(checkpoint.status().message()), HasSubstr(word));
    }
  }

  MemoryStorage storage_;
};

TEST_F(CheckpointTest, OpensASingleFileInADirectory) {
  Put("config.json", kUntied);
  Put("model.safetensors", SafetensorsFile({MakeTensor("w", DType::kF32, {2, 2}, {1, 2, 3, 4})}));
  Put("tokenizer.json", "{}");
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_FALSE(checkpoint->has_index());
  EXPECT_EQ(checkpoint->config_text(), kUntied);
  EXPECT_EQ(checkpoint->path(), "model");
  ASSERT_EQ(checkpoint->tensors().size(), 1u);
  EXPECT_EQ(checkpoint->total_bytes(), 16u);
  ASSERT_EQ(checkpoint->other_files().size(), 1u);
  EXPECT_EQ(checkpoint->other_files()[0].name, "tokenizer.json");
}

TEST_F(CheckpointTest, OpensShardsThroughTheirIndex) {
  PutSharded();
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->has_index());
  ASSERT_EQ(checkpoint->shards().size(), 2u);
  EXPECT_EQ(checkpoint->shards()[1].name, "b.safetensors");
  ASSERT_EQ(checkpoint->tensors().size(), 3u);
  const auto three = checkpoint->Find("three");
  ASSERT_TRUE(three.ok());
  EXPECT_EQ((*three)->shard, 1);
  const auto rows = checkpoint->ReadRows(**three, 1, 1);
  ASSERT_TRUE(rows.ok()) << rows.status();
  EXPECT_THAT(rows->data, ElementsAre(6.0f));
}

TEST_F(CheckpointTest, OpensAFileWithAConfigBesideIt) {
  Put("config.json", kUntied);
  Put("weights.safetensors", SafetensorsFile({MakeTensor("w", DType::kF32, {1}, {1})}));
  Put("holiday.jpg", "not of the model");
  const auto checkpoint = Open("model/weights.safetensors");
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->Has("w"));
  EXPECT_TRUE(checkpoint->other_files().empty());
}

TEST_F(CheckpointTest, LeavesWeightsThatItDoesNotConsistOfOutOfTheOtherFiles) {
  PutSharded();
  for (const char* name : {"consolidated.safetensors", "pytorch_model.bin", "original/x.pth",
                           "m.gguf", "onnx/model.onnx", "training_args.bin"}) {
    Put(name, "x");
  }
  Put("sub/notes.txt", "x");
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  ASSERT_EQ(checkpoint->other_files().size(), 1u);
  EXPECT_EQ(checkpoint->other_files()[0].name, "sub/notes.txt");
}

TEST_F(CheckpointTest, OpensItsFilesByNameAndNoOthers) {
  PutSharded();
  Put("LICENSE", "text");
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_TRUE(checkpoint->OpenFile("LICENSE").ok());
  EXPECT_TRUE(checkpoint->OpenFile("b.safetensors").ok());
  EXPECT_EQ(ReasonOf(checkpoint->OpenFile("../secret").status()), Reason::kSourceNotFound);
}

TEST_F(CheckpointTest, ReadsRowsOfEveryFloatType) {
  Put("config.json", kUntied);
  const std::vector<float> values = {1, -2, 0.5, 4, 5, 6};
  Put("model.safetensors", SafetensorsFile({MakeTensor("f32", DType::kF32, {3, 2}, values),
                                            MakeTensor("f16", DType::kF16, {3, 2}, values),
                                            MakeTensor("bf16", DType::kBF16, {3, 2}, values),
                                            MakeTensor("vector", DType::kF32, {6}, values)}));
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  for (const char* name : {"f32", "f16", "bf16"}) {
    const auto rows = checkpoint->ReadRows(**checkpoint->Find(name), 1, 2);
    ASSERT_TRUE(rows.ok()) << rows.status();
    EXPECT_EQ(rows->rows, 2);
    EXPECT_EQ(rows->columns, 2);
    EXPECT_THAT(rows->data, ElementsAre(0.5f, 4, 5, 6)) << name;
  }
  const auto vector = checkpoint->ReadRows(**checkpoint->Find("vector"), 0, 1);
  ASSERT_TRUE(vector.ok());
  EXPECT_EQ(vector->columns, 6);
}

TEST_F(CheckpointTest, ReadsMoreThanOneChunk) {
  Put("config.json", kUntied);
  constexpr int64_t kColumns = 700'000;  // chunks are of 262,144 elements
  std::vector<float> values(kColumns);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 251);
  Put("model.safetensors", SafetensorsFile({MakeTensor("w", DType::kBF16, {1, kColumns}, values)}));
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok());
  const auto rows = checkpoint->ReadRows(**checkpoint->Find("w"), 0, 1);
  ASSERT_TRUE(rows.ok());
  EXPECT_EQ(rows->data, values);
}

TEST_F(CheckpointTest, RefusesRowsAndTypesThatItCannotRead) {
  Put("config.json", kUntied);
  Put("model.safetensors", SafetensorsFile({MakeCountingTensor("ids", DType::kI64, {2}),
                                            MakeTensor("w", DType::kF32, {2, 1}, {1, 2})}));
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok());
  const auto ids = checkpoint->ReadRows(**checkpoint->Find("ids"), 0, 1);
  EXPECT_EQ(ReasonOf(ids.status()), Reason::kDtypeUnsupported);
  EXPECT_THAT(std::string(ids.status().message()),
              testing::AllOf(HasSubstr("model/model.safetensors"), HasSubstr("ids")));
  const StoredTensor& w = **checkpoint->Find("w");
  EXPECT_EQ(ReasonOf(checkpoint->ReadRows(w, 1, 2).status()), Reason::kTensorShapeInvalid);
  EXPECT_EQ(ReasonOf(checkpoint->ReadRows(w, -1, 1).status()), Reason::kTensorShapeInvalid);
  EXPECT_EQ(ReasonOf(checkpoint->ReadRows(w, INT64_MAX, 1).status()), Reason::kTensorShapeInvalid);
  EXPECT_TRUE(checkpoint->ReadRows(w, 2, 0).ok());
  std::vector<float> too_few(1);
  EXPECT_EQ(ReasonOf(checkpoint->ReadRows(w, 0, 2, absl::MakeSpan(too_few))), Reason::kInternal);
  std::vector<std::byte> bytes(9);
  EXPECT_EQ(ReasonOf(checkpoint->ReadBytes(w, 0, absl::MakeSpan(bytes))), Reason::kInternal);
}

TEST_F(CheckpointTest, EightBitWeightsNeedTheirScales) {
  Put("config.json", kUntied);
  Put("model.safetensors", SafetensorsFile({MakeCountingTensor("w", DType::kF8E4M3, {2, 4})}));
  const auto bare = Open();
  ASSERT_TRUE(bare.ok());
  const absl::Status status = bare->ReadRows(**bare->Find("w"), 0, 1).status();
  EXPECT_EQ(ReasonOf(status), Reason::kDtypeUnsupported);
  EXPECT_THAT(std::string(status.message()), HasSubstr("without scales"));
  Put("model.safetensors", SafetensorsFile({MakeCountingTensor("w", DType::kF8E4M3, {2, 4}),
                                            MakeTensor("w_scale", DType::kF32, {2, 1}, {2, 512})}));
  const auto scaled = Open();
  ASSERT_TRUE(scaled.ok());
  const auto row = scaled->ReadRows(**scaled->Find("w"), 1, 1);
  ASSERT_TRUE(row.ok()) << row.status();
  EXPECT_EQ(row->data.size(), 4U);
  for (const int64_t rows : {3, 5}) {
    Put("model.safetensors",
        SafetensorsFile({MakeCountingTensor("w", DType::kF8E4M3, {2, 4}),
                         MakeTensor("w_scale", DType::kF32, {rows, 1},
                                    std::vector<float>(static_cast<size_t>(rows), 1.0F))}));
    EXPECT_EQ(ReasonOf(Open().status()), Reason::kTensorShapeInvalid);
  }
}

TEST_F(CheckpointTest, FindsTiedEmbeddingsInBothDirections) {
  for (const auto& [stored, alias] : {std::pair("lm_head.weight", "model.embed_tokens.weight"),
                                      std::pair("model.embed_tokens.weight", "lm_head.weight")}) {
    Put("model.safetensors", SafetensorsFile({MakeTensor(stored, DType::kF32, {1}, {1})}));
    Put("config.json", kTied);
    const auto tied = Open();
    ASSERT_TRUE(tied.ok());
    const auto found = tied->Find(alias);
    ASSERT_TRUE(found.ok()) << found.status();
    EXPECT_EQ((*found)->info.name, stored);
    EXPECT_EQ(tied->tensors().size(), 1u);

    Put("config.json", kUntied);
    const auto untied = Open();
    ASSERT_TRUE(untied.ok());
    EXPECT_EQ(ReasonOf(untied->Find(alias).status()), Reason::kTensorMissing);
  }
}

TEST_F(CheckpointTest, FindsAliasesOfTheMetadata) {
  Put("config.json", kUntied);
  Put("model.safetensors",
      SafetensorsFile(
          {MakeTensor("stored", DType::kF32, {1}, {1}), MakeTensor("own", DType::kF32, {1}, {2})},
          {{"format", "pt"}, {"alias", "stored"}, {"own", "stored"}}));
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok());
  ASSERT_TRUE(checkpoint->Has("alias"));
  EXPECT_EQ((*checkpoint->Find("alias"))->info.name, "stored");
  EXPECT_EQ((*checkpoint->Find("own"))->info.name, "own");
  EXPECT_FALSE(checkpoint->Has("format"));
}

TEST_F(CheckpointTest, MissingTensorNamesTheCheckpointAndTheTensor) {
  PutSharded();
  const auto checkpoint = Open();
  ASSERT_TRUE(checkpoint.ok());
  const absl::Status status = checkpoint->Find("four").status();
  EXPECT_EQ(ReasonOf(status), Reason::kTensorMissing);
  EXPECT_THAT(std::string(status.message()), testing::AllOf(HasSubstr("model"), HasSubstr("four")));
}

TEST_F(CheckpointTest, RefusesADirectoryThatIsNoModel) {
  ExpectRefused(Reason::kSourceNotFound, {"model"});
  Put("readme.txt", "x");
  ExpectRefused(Reason::kNotACheckpoint, {"config.json"});
  Put("config.json", kUntied);
  ExpectRefused(Reason::kNotACheckpoint, {"model.safetensors", "model.safetensors.index.json"});
  Put("pytorch_model.bin", "x");
  ExpectRefused(Reason::kNotACheckpoint, {"pytorch_model.bin", "convert"});
  Put("other.safetensors", "x");
  ExpectRefused(Reason::kNotACheckpoint, {"other.safetensors", "rename"});
  ExpectRefused(Reason::kNotACheckpoint, {"neither a directory nor"}, "model/readme.txt");
}

TEST_F(CheckpointTest, RefusesABrokenConfig) {
  Put("model.safetensors", SafetensorsFile({}));
  Put("config.json", "{");
  ExpectRefused(Reason::kConfigInvalid, {"model/config.json"});
  Put("config.json", "[]");
  ExpectRefused(Reason::kConfigInvalid, {"model/config.json"});
}

TEST_F(CheckpointTest, RefusesATensorThatTheIndexDoesNotName) {
  PutSharded();
  PutIndex(R"("one": "a.safetensors", "three": "b.safetensors")");
  ExpectRefused(Reason::kIndexInvalid, {"index.json", "two", "a.safetensors"});
}

TEST_F(CheckpointTest, RefusesATensorThatItsShardDoesNotHold) {
  PutSharded();
  PutIndex(R"("one": "a.safetensors", "two": "a.safetensors", "three": "b.safetensors",
              "four": "b.safetensors")");
  ExpectRefused(Reason::kIndexInvalid, {"index.json", "four", "b.safetensors"});
}

TEST_F(CheckpointTest, RefusesATensorInAnotherShardThanTheIndexSays) {
  PutSharded();
  PutIndex(R"("one": "a.safetensors", "two": "b.safetensors", "three": "b.safetensors")");
  ExpectRefused(Reason::kIndexInvalid, {"two", "a.safetensors", "b.safetensors"});
}

TEST_F(CheckpointTest, RefusesATensorInTwoShards) {
  PutSharded();
  Put("b.safetensors", SafetensorsFile({MakeTensor("one", DType::kF32, {1}, {1})}));
  ExpectRefused(Reason::kIndexInvalid, {"one", "a.safetensors", "b.safetensors"});
}

TEST_F(CheckpointTest, RefusesAMissingShard) {
  PutSharded();
  storage_.Remove("model/b.safetensors");
  ExpectRefused(Reason::kIndexInvalid, {"index.json", "b.safetensors"});
}

TEST_F(CheckpointTest, NamesTheShardWhoseHeaderIsMalformed) {
  PutSharded();
  Put("b.safetensors", "short");
  ExpectRefused(Reason::kHeaderInvalid, {"model/b.safetensors"});
}

TEST(CheckpointOnDisk, ReportsAChangedShard) {
  TemporaryDirectory directory;
  directory.Write("config.json", kUntied);
  const std::string content = SafetensorsFile({MakeTensor("w", DType::kF32, {1, 2}, {1, 2})});
  directory.Write("model.safetensors", content);
  const auto storage = LocalStorage::Create({.read_roots = {directory.path().string()}});
  ASSERT_TRUE(storage.ok());
  const auto checkpoint = Checkpoint::Open(**storage, directory.path().string());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  EXPECT_TRUE(checkpoint->CheckUnchanged().ok());
  std::filesystem::resize_file(directory / "model.safetensors", content.size() - 4);
  EXPECT_EQ(ReasonOf(checkpoint->CheckUnchanged()), Reason::kSourceChanged);
  const absl::Status status = checkpoint->ReadRows(**checkpoint->Find("w"), 0, 1).status();
  EXPECT_EQ(ReasonOf(status), Reason::kSourceChanged);
  EXPECT_THAT(std::string(status.message()), HasSubstr("tensor w"));
}

// Every checkpoint at hand opens, those with shards and those of llm-compressor included.
TEST(SharedCheckpoints, AllOpen) {
  LINCHPIN_NEEDS_SHARED();
  const std::string root = SharedPath("").string();
  const auto storage = LocalStorage::Create({.read_roots = {root}});
  ASSERT_TRUE(storage.ok()) << storage.status();
  int opened = 0;
  for (const char* folder : {"oracles/families", "oracles/planted", "oracles/llm-compressor",
                             "models/stories260k", "models"}) {
    for (const auto& entry : std::filesystem::directory_iterator(SharedPath(folder))) {
      if (!std::filesystem::exists(entry.path() / "config.json")) continue;
      const auto checkpoint = Checkpoint::Open(**storage, entry.path().string());
      EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
      opened += checkpoint.ok();
    }
  }
  EXPECT_GE(opened, 38);
}

TEST(SharedCheckpoints, TinystoriesIsTiedThroughItsMetadata) {
  LINCHPIN_NEEDS_SHARED();
  const std::string path = SharedPath("models/tinystories-656k").string();
  const auto storage = LocalStorage::Create({.read_roots = {path}});
  ASSERT_TRUE(storage.ok());
  const auto checkpoint = Checkpoint::Open(**storage, path);
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
  const auto embedding = checkpoint->Find("model.embed_tokens.weight");
  ASSERT_TRUE(embedding.ok());
  EXPECT_EQ((*embedding)->info.name, "lm_head.weight");
  const auto down = checkpoint->Find("model.layers.0.mlp.down_proj.weight");
  ASSERT_TRUE(down.ok());
  const auto row = checkpoint->ReadRows(**down, 88, 1);
  ASSERT_TRUE(row.ok());
  EXPECT_NEAR(row->data[165], -2.859, 0.0005);
}

}  // namespace
}  // namespace linchpin
