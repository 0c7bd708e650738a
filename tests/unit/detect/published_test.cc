#include "detect/published.h"

#include <string>

#include "gtest/gtest.h"

namespace linchpin {
namespace {

ModelConfig ShapeOf(int64_t layers, int64_t hidden, int64_t intermediate) {
  ModelConfig config;
  config.layers = layers;
  config.hidden = hidden;
  config.intermediate = intermediate;
  return config;
}

const ModelConfig kSmol = ShapeOf(30, 576, 1536);
constexpr char kNoName[] = "{}";

std::string NameOf(const PublishedModel* model) { return model ? std::string(model->name) : ""; }

TEST(PublishedTest, AModelIsKnownByItsNameAndItsShape) {
  const std::string name = "HuggingFaceTB/SmolLM2-135M-Instruct";
  EXPECT_EQ(NameOf(IdentifyModel(kSmol, kNoName, "/models/SmolLM2-135M-Instruct")), name);
  EXPECT_EQ(NameOf(IdentifyModel(kSmol, kNoName, "/models/smollm2-135m-instruct/")), name);
  EXPECT_EQ(NameOf(IdentifyModel(kSmol, kNoName, "/x/SmolLM2-135M-Instruct/a.safetensors")), name);
  EXPECT_EQ(NameOf(IdentifyModel(
                kSmol, R"({"_name_or_path": "HuggingFaceTB/SmolLM2-135M-Instruct"})", "/in")),
            name);
}

TEST(PublishedTest, AnotherShapeOrNameIsAnotherModel) {
  EXPECT_EQ(IdentifyModel(ShapeOf(30, 576, 1537), kNoName, "/m/SmolLM2-135M-Instruct"), nullptr);
  EXPECT_EQ(IdentifyModel(kSmol, kNoName, "/m/SmolLM2-135M-Instruct-v2"), nullptr);
  EXPECT_EQ(IdentifyModel(kSmol, R"({"_name_or_path": 3})", "/"), nullptr);
  EXPECT_EQ(IdentifyModel(kSmol, "no json", ""), nullptr);
}

Detection Finding(int layer, int64_t row, int64_t column) {
  Detection detection;
  detection.super_weights.push_back({.position = {"w", row, column}, .layer = layer});
  return detection;
}

TEST(PublishedTest, ComparesBothWays) {
  const PublishedModel* model = IdentifyModel(kSmol, kNoName, "SmolLM2-135M-Instruct");
  ASSERT_NE(model, nullptr);
  Detection detection = Finding(11, 507, 1229);
  detection.super_weights.push_back({.position = {"w", 507, 3}, .layer = 11});
  ComparePublished(model, detection);
  EXPECT_TRUE(detection.super_weights[0].published);
  EXPECT_FALSE(detection.super_weights[1].published);
  EXPECT_EQ(detection.published.model, std::string(model->name));
  ASSERT_EQ(detection.published.missing.size(), 1U);
  EXPECT_EQ(detection.published.missing[0].column, 1487);
}

TEST(PublishedTest, AnUnknownColumnMatchesAny) {
  const PublishedModel* model = IdentifyModel(ShapeOf(32, 960, 2560), kNoName, "SmolLM2-360M");
  ASSERT_NE(model, nullptr);
  Detection detection = Finding(3, 87, 12);
  ComparePublished(model, detection);
  EXPECT_TRUE(detection.super_weights[0].published);
  EXPECT_TRUE(detection.published.missing.empty());
}

TEST(PublishedTest, OfAnUnknownModelNothingIsSaid) {
  Detection detection = Finding(1, 2, 3);
  ComparePublished(nullptr, detection);
  EXPECT_FALSE(detection.published.model.has_value());
  EXPECT_FALSE(detection.super_weights[0].published);
}

// Every coordinate lies within the shape of its model.
TEST(PublishedTest, TheDirectoryIsConsistent) {
  EXPECT_EQ(PublishedModels().size(), 15U);
  for (const PublishedModel& model : PublishedModels()) {
    EXPECT_FALSE(model.weights.empty()) << model.name;
    for (const PublishedWeight& weight : model.weights) {
      EXPECT_LT(weight.layer, model.layers) << model.name;
      EXPECT_LT(weight.row, model.hidden) << model.name;
      EXPECT_LT(weight.column.value_or(0), model.intermediate) << model.name;
    }
  }
}

}  // namespace
}  // namespace linchpin
