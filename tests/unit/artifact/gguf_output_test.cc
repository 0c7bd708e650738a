// GGUF and dense outputs, and the adapter beside them.
#include <cmath>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "artifact/artifact_writer.h"
#include "artifact/lora_adapter.h"
#include "artifact/shard_files.h"
#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/gguf_file.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

using ::testing::Contains;
using ::testing::Field;
using ::testing::HasSubstr;

constexpr const char* kDown = "model.layers.0.mlp.down_proj.weight";
constexpr const char* kQuery = "model.layers.0.self_attn.q_proj.weight";

class GgufOutputTest : public ::testing::Test {
 protected:
  void SetUp() override {
    storage_.Put("m.gguf", ToBytes(GgufFile(TinyGgufPairs(), TinyGgufTensors())));
    auto checkpoint = Checkpoint::Open(storage_, "m.gguf");
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    source_.emplace(*std::move(checkpoint));
    auto pattern = GgufTemplate::Open(*source_);
    ASSERT_TRUE(pattern.ok()) << pattern.status();
    pattern_.emplace(*std::move(pattern));
  }

  absl::StatusOr<ArtifactRecord> Write(const QuantizeOptions& options,
                                       const std::vector<PinnedWeight>& super_weights = {}) {
    ASSIGN_OR_RETURN(const Plan plan,
                     MakePlan(*source_, options, super_weights, nullptr, &*pattern_));
    ASSIGN_OR_RETURN(const auto output, storage_.CreateDirectory("out", true));
    ASSIGN_OR_RETURN(ArtifactRecord record,
                     WriteArtifact(*source_, plan, *output, {}, nullptr, &*pattern_));
    RETURN_IF_ERROR(output->Commit());
    return record;
  }

  static std::vector<float> Values(const Checkpoint& checkpoint, std::string_view name) {
    const StoredTensor& tensor = **checkpoint.Find(name);
    const int64_t rows = tensor.info.shape.size() < 2 ? 1 : tensor.info.shape[0];
    return checkpoint.ReadRows(tensor, 0, rows)->data;
  }

  float SourceAt(int64_t row, int64_t column) const {
    return Values(*source_, kDown)[static_cast<size_t>(row * 32 + column)];
  }

  MemoryStorage storage_;
  std::optional<Checkpoint> source_;
  std::optional<GgufTemplate> pattern_;
};

QuantizeOptions Options(Format format, Scheme scheme, Preserve preserve = Preserve::kNone) {
  QuantizeOptions options;
  options.format = format;
  options.scheme = scheme;
  options.preserve = preserve;
  return options;
}

TEST_F(GgufOutputTest, TheFileIsTheSourceWithOtherTypes) {
  const auto record = Write(Options(Format::kGguf, Scheme::kQ8_0));
  ASSERT_TRUE(record.ok()) << record.status();
  const auto output = Checkpoint::Open(storage_, "out/model.gguf");
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(output->config_text(), source_->config_text());
  for (const StoredTensor& tensor : source_->tensors()) {
    const std::vector<float> before = Values(*source_, tensor.info.name);
    const std::vector<float> after = Values(*output, tensor.info.name);
    ASSERT_EQ(before.size(), after.size());
    for (size_t i = 0; i < before.size(); ++i) {
      EXPECT_NEAR(after[i], before[i], 0.006 * std::fabs(before.back())) << tensor.info.name;
    }
  }
}

TEST_F(GgufOutputTest, ThePairsSayHowItIsQuantizedNow) {
  ASSERT_TRUE(Write(Options(Format::kGguf, Scheme::kQ4_1)).ok());
  const auto output = Checkpoint::Open(storage_, "out/model.gguf");
  const auto pattern = GgufTemplate::Open(*output);
  ASSERT_TRUE(pattern.ok());
  const std::string three = std::string("\x04\0\0\0", 4) + std::string("\x03\0\0\0", 4);
  EXPECT_THAT(pattern->pairs(),
              Contains(::testing::AllOf(Field(&GgufKeyValue::key, "general.file_type"),
                                        Field(&GgufKeyValue::value, three))));
}

TEST_F(GgufOutputTest, TheAdapterGivesWhatTheBlocksMiss) {
  const float value = SourceAt(3, 5);
  const auto record =
      Write(Options(Format::kGguf, Scheme::kQ4_0, Preserve::kLora), {{{kDown, 3, 5}, value}});
  ASSERT_TRUE(record.ok()) << record.status();
  ASSERT_EQ(record->kept.size(), 1U);
  EXPECT_EQ(record->kept[0].how, "lora");
  EXPECT_EQ(record->kept[0].stored_value, value);
  EXPECT_TRUE(record->kept[0].exact);
  EXPECT_THAT(record->files, Contains(Field(&FileRecord::name, "super-weights-lora.gguf")));
  const auto output = Checkpoint::Open(storage_, "out/model.gguf");
  ASSERT_TRUE(output.ok()) << output.status();
  const auto added = ReadAdapter(storage_, "out", *output, {kDown, 3, 5});
  ASSERT_TRUE(added.ok()) << added.status();
  const auto base = ReadBack(*output, {kDown, 3, 5});
  ASSERT_TRUE(base.ok()) << base.status();
  EXPECT_EQ(*base + *added, value);
  EXPECT_EQ(*ReadAdapter(storage_, "out", *output, {kDown, 3, 6}), 0);
  EXPECT_EQ(ReasonOf(ReadAdapter(storage_, "out", *output, {kQuery, 0, 0}).status()),
            Reason::kTensorMissing);
}

TEST_F(GgufOutputTest, TheAdapterOfCompressedTensorsIsPefts) {
  const float value = SourceAt(3, 5);
  const auto record = Write(Options(Format::kCompressedTensors, Scheme::kW4A16, Preserve::kLora),
                            {{{kDown, 3, 5}, value}});
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_EQ(record->kept[0].stored_value, value);
  const auto output = Checkpoint::Open(storage_, "out");
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_EQ(*ReadBack(*output, {kDown, 3, 5}), 0) << "left out, as a symmetric code can";
  EXPECT_EQ(*ReadAdapter(storage_, "out", *output, {kDown, 3, 5}), value);
}

TEST_F(GgufOutputTest, DenseGivesWhatAReaderOfTheSchemeGets) {
  for (const Scheme scheme :
       {Scheme::kW4A16, Scheme::kW8A16, Scheme::kW8A8, Scheme::kFp8, Scheme::kQ4_0, Scheme::kQ5_1,
        Scheme::kF16, Scheme::kBlocks, Scheme::kPruned, Scheme::kPruned2Of4}) {
    const auto record = Write(Options(Format::kDense, scheme));
    ASSERT_TRUE(record.ok()) << NameOf(scheme) << record.status();
    const auto output = Checkpoint::Open(storage_, "out");
    ASSERT_TRUE(output.ok()) << output.status();
    EXPECT_THAT(output->config_text(), HasSubstr("LlamaForCausalLM"));
    for (size_t i = 0; i < record->tensors.size(); ++i) {
      const TensorRecord& tensor = record->tensors[i];
      const std::vector<float> before = Values(*source_, tensor.name);
      const std::vector<float> after = Values(*output, tensor.name);
      double worst = 0;
      for (size_t j = 0; j < before.size(); ++j) {
        worst = std::max<double>(worst, std::fabs(before[j] - after[j]));
      }
      EXPECT_NEAR(worst, tensor.max_error, 1e-4 * tensor.max_error + 1e-3) << tensor.name;
    }
  }
}

TEST_F(GgufOutputTest, DenseRestoresTheSuperWeight) {
  const float value = SourceAt(3, 5);
  for (const Scheme scheme :
       {Scheme::kW4A16, Scheme::kQ4_0, Scheme::kBlocks, Scheme::kPruned, Scheme::kPruned2Of4}) {
    const auto record =
        Write(Options(Format::kDense, scheme, Preserve::kRestore), {{{kDown, 3, 5}, value}});
    ASSERT_TRUE(record.ok()) << record.status();
    EXPECT_EQ(record->kept[0].how, "restore");
    EXPECT_EQ(record->kept[0].stored_value, value);
  }
}

TEST_F(GgufOutputTest, CompressedTensorsOfAGgufFileSayWhenTheyHaveNoTokenizer) {
  const auto record = Write(Options(Format::kCompressedTensors, Scheme::kW4A16));
  ASSERT_TRUE(record.ok()) << record.status();
  EXPECT_THAT(record->notes, Contains(HasSubstr("tokenizer")));
  EXPECT_TRUE(storage_.Open("out/config.json").ok());
  EXPECT_FALSE(storage_.Open("out/tokenizer.json").ok());
}

}  // namespace
}  // namespace linchpin
