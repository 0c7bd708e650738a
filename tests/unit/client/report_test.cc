#include "client/report.h"

#include <fstream>
#include <iterator>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/errors.h"
#include "tests/support/temporary_directory.h"

namespace linchpin {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr std::string_view kDetection = R"({
  "verdict": "single",
  "super_weights": [{"tensor": "model.layers.1.mlp.down_proj.weight", "row": 1, "column": 37,
                     "value": 2.5, "input": 370.02783, "output": 925.0557, "class": "critical"}],
  "layers": [{"layer": 0, "down_proj_input": {"value": -0.5}, "down_proj_output": {"value": 0.1},
              "residual": {"value": 16.1, "median_abs": 0.6}},
             {"layer": 1, "down_proj_input": {"value": 370}, "down_proj_output": {"value": 925},
              "residual": {"value": 925, "median_abs": 0.7}}],
  "proof": {"alone": [{"perplexity_ratio": 143.2, "kl": 3.2}]},
  "study": null,
  "notes": ["experts that no token reached: none"]})";

class Report : public testing::Test {
 protected:
  std::string Write(std::string_view name, std::string_view text) {
    return directory_.Write(name, text);
  }
  std::string Page() {
    std::ifstream stream(out_);
    return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  }

  TemporaryDirectory directory_;
  std::string out_ = directory_ / "page.html";
};

TEST_F(Report, ShowsADetection) {
  ASSERT_TRUE(WriteReport({Write("found.json", kDetection)}, out_).ok());
  const std::string page = Page();
  EXPECT_THAT(page, HasSubstr("<td>model.layers.1.mlp.down_proj.weight[1, 37]</td><td>2.5</td>"));
  EXPECT_THAT(page, HasSubstr("<td>143.2</td><td>3.2</td><td>critical</td>"));
  EXPECT_THAT(page, HasSubstr("input, layer 1: 370"));
  EXPECT_THAT(page, HasSubstr("<li>experts that no token reached: none</li>"));
}

TEST_F(Report, ShowsAManifestByItsDirectory) {
  Write("linchpin.json",
        std::string(R"({"manifest_version": 1, "detection": )") + std::string(kDetection) + R"(,
    "options": {"scheme": "w4a16", "scale": "importance", "preserve": "tensor"},
    "super_weights": [{"tensor": "t", "row": 1, "column": 37, "value": 2.5, "stored_value": 2.5,
                       "kept": "tensor", "exact": true}],
    "tensors": [{"name": "small", "rms_error": 0.001}, {"name": "large", "rms_error": 0.1},
                {"name": "copied", "rms_error": 0.0}],
    "output": {"bytes_in": 400, "bytes_out": 100}})");
  ASSERT_TRUE(WriteReport({directory_.path().string()}, out_).ok());
  const std::string page = Page();
  EXPECT_THAT(page, HasSubstr("<td>400 B</td><td>100 B</td><td>4.00</td>"));
  EXPECT_THAT(page, HasSubstr("<td>tensor</td><td>yes</td>"));
  EXPECT_LT(page.find("<td>large</td>"), page.find("<td>small</td>"));
  EXPECT_THAT(page, Not(HasSubstr("<td>copied</td>")));
}

TEST_F(Report, ComparesSeveral) {
  const std::string one = Write("one.json", kDetection), two = Write("two.json", kDetection);
  ASSERT_TRUE(WriteReport({one, two}, out_).ok());
  EXPECT_THAT(Page(), HasSubstr("<h2>" + one + "</h2>"));
  EXPECT_THAT(Page(), HasSubstr("<h2>" + two + "</h2>"));
}

TEST_F(Report, DrawsAStudy) {
  std::string text(kDetection);
  text.replace(text.find("null"), 4,
               R"({"layers": [{"layer": 0, "residual": 1, "residual_without": 1},
    {"layer": 1, "residual": 925, "residual_without": 26}],
    "scales": [{"scale": 0, "perplexity": 600}, {"scale": 1, "perplexity": 12}],
    "frequent_tokens": [{"id": 5, "count": 3, "probability": 0.1, "probability_without": 0.2}],
    "rows": [{"name": "original", "pruned": 0, "loss": 2.5, "perplexity": 12.2, "kl": 0}]})");
  ASSERT_TRUE(WriteReport({Write("study.json", text)}, out_).ok());
  EXPECT_THAT(Page(), HasSubstr("without, layer 1: 26"));
  EXPECT_THAT(Page(), HasSubstr("perplexity, scale 0: 600"));
  EXPECT_THAT(Page(), HasSubstr("<td>5</td><td>3</td><td>0.1</td><td>0.2</td><td>x2.00</td>"));
  EXPECT_THAT(Page(), HasSubstr("<td>original</td><td>0</td><td>2.5000</td>"));
}

TEST_F(Report, SurvivesFieldsOfAnotherKind) {
  for (const std::string_view text :
       {R"({"verdict": 1, "super_weights": {}, "layers": "x", "proof": [], "study": 3})",
        R"({"verdict": "none", "layers": [1, null, {"layer": "a", "residual": []}]})",
        R"({"manifest_version": 1})",
        R"({"manifest_version": 1, "detection": [], "tensors": 7})"}) {
    EXPECT_TRUE(WriteReport({Write("odd.json", text)}, out_).ok()) << text;
  }
}

TEST_F(Report, EscapesWhatAModelCalledItself) {
  std::string text(kDetection);
  text.replace(text.find("model.layers"), 12, "<script>");
  ASSERT_TRUE(WriteReport({Write("evil.json", text)}, out_).ok());
  EXPECT_THAT(Page(), Not(HasSubstr("<script>")));
}

TEST_F(Report, RefusesWhatIsNeitherByName) {
  for (const std::string_view text : {"", "not JSON", "[]", "{}", R"({"model_type": "llama"})"}) {
    const grpc::Status status = WriteReport({Write("other.json", text)}, out_);
    EXPECT_EQ(ReasonOf(status), "CONFIG_INVALID") << text;
    EXPECT_THAT(status.error_message(), HasSubstr("other.json"));
  }
  EXPECT_FALSE(WriteReport({directory_ / "absent.json"}, out_).ok());
  EXPECT_FALSE(std::filesystem::exists(out_));
}

TEST_F(Report, NeverReplacesWhatItIsMadeFrom) {
  const std::string file = Write("linchpin.json", R"({"manifest_version": 1})");
  EXPECT_EQ(ReasonOf(WriteReport({directory_.path().string()}, file)), "OPTION_INVALID");
  EXPECT_EQ(std::filesystem::file_size(file), 23U);
}

}  // namespace
}  // namespace linchpin
