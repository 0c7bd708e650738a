#include "checkpoint/gguf_template.h"

#include <cstring>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/memory_storage.h"
#include "tests/support/gguf_file.h"
#include "tests/support/safetensors_file.h"

namespace linchpin {
namespace {

using ::testing::Contains;
using ::testing::Field;

class GgufTemplateTest : public ::testing::Test {
 protected:
  void Write(const std::vector<std::string>& pairs, const std::vector<GgufFixture>& tensors) {
    storage_.Put("m.gguf", ToBytes(GgufFile(pairs, tensors)));
    auto checkpoint = Checkpoint::Open(storage_, "m.gguf");
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    checkpoint_.emplace(*std::move(checkpoint));
    auto opened = GgufTemplate::Open(*checkpoint_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    template_.emplace(*std::move(opened));
  }
  const GgufSlot& Slot(std::string_view name) const {
    for (const GgufSlot& slot : template_->slots()) {
      if (slot.tensor.name == name) return slot;
    }
    ADD_FAILURE() << name;
    return template_->slots().front();
  }

  // What the file has for an F32 slot, and what the model's tensors give for it.
  void ExpectSameBytes(const GgufSlot& slot) const {
    std::vector<float> stored((slot.tensor.end - slot.tensor.begin) / sizeof(float));
    ASSERT_TRUE(template_
                    ->ReadBytes(slot, 0,
                                {reinterpret_cast<std::byte*>(stored.data()),
                                 stored.size() * sizeof(float)})
                    .ok());
    std::vector<float> written;
    for (const StoredTensor& part : slot.parts) {
      const std::vector<int64_t>& shape = part.info.shape;
      const int64_t rows = shape.size() < 2 ? 1 : shape[0];
      std::vector<float> values(static_cast<size_t>(*ElementCount(shape)));
      // A few rows at a time, across the borders of heads.
      const int64_t columns = static_cast<int64_t>(values.size()) / rows;
      for (int64_t first = 0; first < rows; first += 3) {
        const int64_t count = std::min<int64_t>(3, rows - first);
        ASSERT_TRUE(
            ReadRowsForGguf(*checkpoint_, part,
                            part.encoding.value_or(RowEncoding{slot.tensor.type}), first, count,
                            absl::MakeSpan(values).subspan(static_cast<size_t>(first * columns),
                                                           static_cast<size_t>(count * columns)))
                .ok());
      }
      written.insert(written.end(), values.begin(), values.end());
    }
    EXPECT_EQ(written, stored) << slot.tensor.name;
  }

  MemoryStorage storage_;
  std::optional<Checkpoint> checkpoint_;
  std::optional<GgufTemplate> template_;
};

TEST_F(GgufTemplateTest, EverySlotOfLlamaIsWrittenFromTheModelAsItStands) {
  Write(TinyGgufPairs(), TinyGgufTensors());
  ASSERT_EQ(template_->slots().size(), TinyGgufTensors().size());
  for (const GgufSlot& slot : template_->slots()) {
    ASSERT_EQ(slot.parts.size(), 1U) << slot.tensor.name;
    ExpectSameBytes(slot);
  }
  EXPECT_EQ(Slot("blk.0.attn_q.weight").parts[0].encoding->heads, 2);
  EXPECT_EQ(Slot("blk.0.ffn_down.weight").parts[0].info.name,
            "model.layers.0.mlp.down_proj.weight");
}

TEST_F(GgufTemplateTest, WhatWasAddedToNormsIsAddedAgain) {
  Write(TinyGgufPairs("gemma"), TinyGgufTensors());
  EXPECT_EQ(Slot("output_norm.weight").parts[0].encoding->added, 1);
  for (const GgufSlot& slot : template_->slots()) ExpectSameBytes(slot);
}

TEST_F(GgufTemplateTest, ABiasOfARotatedProjectionIsPairedToo) {
  std::vector<GgufFixture> tensors = TinyGgufTensors();
  tensors.push_back(MakeGgufTensor("blk.0.attn_q.bias", {8}, {0, 1, 2, 3, 4, 5, 6, 7}));
  tensors.push_back(MakeGgufTensor("blk.0.attn_k.bias", {4}, {0, 1, 2, 3}));
  tensors.push_back(MakeGgufTensor("blk.0.attn_v.bias", {4}, {0, 1, 2, 3}));
  Write(TinyGgufPairs(), tensors);
  for (const GgufSlot& slot : template_->slots()) ExpectSameBytes(slot);
}

TEST_F(GgufTemplateTest, FactorsOfTheRotationBelongToNoTensor) {
  std::vector<GgufFixture> tensors = TinyGgufTensors();
  tensors.insert(tensors.begin(), MakeGgufTensor("rope_freqs.weight", {2}, {1, 1}));
  Write(TinyGgufPairs(), tensors);
  EXPECT_TRUE(Slot("rope_freqs.weight").parts.empty());
  EXPECT_EQ(Slot("token_embd.weight").parts.size(), 1U);
}

TEST_F(GgufTemplateTest, PairsAreThoseOfTheFileInItsOrder) {
  Write(TinyGgufPairs(), TinyGgufTensors());
  EXPECT_EQ(template_->pairs().size(), TinyGgufPairs().size());
  EXPECT_EQ(template_->pairs()[0].key, "general.architecture");
  EXPECT_THAT(template_->pairs(), Contains(Field(&GgufKeyValue::key, "llama.block_count")));
}

}  // namespace
}  // namespace linchpin
