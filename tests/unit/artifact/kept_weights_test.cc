#include "artifact/kept_weights.h"

#include <string>
#include <utility>

#include "artifact/artifact_writer.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

const char kDown1[] = "model.layers.1.mlp.down_proj.weight";

class PreservedWeights : public ::testing::TestWithParam<DType> {};

TEST_P(PreservedWeights, ComeBackBitForBit) {
  const float value = GetParam() == DType::kF32 ? 0.300001F : 0.30078125F;
  TinyCheckpoint tiny{.dtype = GetParam()};
  tiny.edit = [value](TensorFixture& tensor) {
    if (tensor.info.name == kDown1) SetElement(tensor, 3, 77, value);
  };
  const std::pair<Preserve, std::string> cases[] = {
      {Preserve::kTensor, "tensor"}, {Preserve::kScale, "scale"}, {Preserve::kNone, "none"}};
  for (const auto& [preserve, how] : cases) {
    MemoryStorage storage;
    PutTinyCheckpoint(storage, "in", tiny);
    const absl::StatusOr<Checkpoint> in = Checkpoint::Open(storage, "in");
    const QuantizeOptions options{.scale = ScaleRule::kMinMax, .preserve = preserve};
    const absl::StatusOr<Plan> plan = MakePlan(*in, options, {{{kDown1, 3, 77}, value}});
    ASSERT_TRUE(plan.ok()) << plan.status();
    const auto output = storage.CreateDirectory("out", false);
    ASSERT_TRUE(output.ok());
    const absl::StatusOr<ArtifactRecord> record = WriteArtifact(*in, *plan, **output, {});
    ASSERT_TRUE(record.ok()) << record.status();
    ASSERT_EQ(record->kept.size(), 1U);
    EXPECT_EQ(record->kept[0].how, how);
    EXPECT_EQ(record->kept[0].exact, preserve != Preserve::kNone) << how;
    EXPECT_EQ(record->kept[0].stored_value == value, preserve != Preserve::kNone);
    // Read from the committed files it is the same.
    ASSERT_TRUE((*output)->Commit().ok());
    const absl::StatusOr<Checkpoint> out = Checkpoint::Open(storage, "out");
    ASSERT_TRUE(out.ok());
    EXPECT_EQ(*ReadBack(*out, {kDown1, 3, 77}), record->kept[0].stored_value);
  }
}

INSTANTIATE_TEST_SUITE_P(DTypes, PreservedWeights,
                         ::testing::Values(DType::kBF16, DType::kF16, DType::kF32));

}  // namespace
}  // namespace linchpin
