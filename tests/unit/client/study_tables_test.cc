#include "client/study_tables.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linchpin {
namespace {

using testing::HasSubstr;

constexpr const char kStudy[] = R"({"windows": 1, "tokens": 9,
  "rows": [{"name": "original", "pruned": 0, "perplexity": 25.125, "perplexity_ratio": 1, "kl": 0},
           {"name": "super_weights_pruned", "pruned": 2, "perplexity": null,
            "perplexity_ratio": 61662.4, "kl": 11.25}],
  "scales": [{"scale": 0.25, "perplexity": 99.5, "perplexity_ratio": 3.96, "kl": 1.5}],
  "layers": [{"layer": 11, "down_proj_input": 3064.8, "down_proj_output": 24881.6,
              "residual": 24926.2, "residual_without": -38.9}],
  "super_activations": [], "frequent_tokens": []})";

TEST(StudyText, ShowsWhatThePaperDraws) {
  const std::string text = StudyText(std::string(R"({"study": )") + kStudy + "}");
  EXPECT_THAT(text, HasSubstr("original                   0       25.12    x1.00  0\n"));
  EXPECT_THAT(text, HasSubstr("super_weights_pruned       2           -  x61,662  11.25\n"));
  EXPECT_THAT(text, HasSubstr("0.25"));
  EXPECT_THAT(text, HasSubstr("2.488e+04"));
  EXPECT_THAT(text, testing::Not(HasSubstr("probability")));
}

TEST(StudyText, IsFoundInAManifestToo) {
  const std::string manifest = std::string(R"({"detection": {"study": )") + kStudy + "}}";
  EXPECT_EQ(StudyText(manifest), StudyText(std::string(R"({"study": )") + kStudy + "}"));
}

TEST(StudyText, IsEmptyWithoutOne) {
  for (const char* document : {"", "{}", "[]", "{", R"({"study": null})", R"({"study": 3})",
                               R"({"detection": null})", R"({"detection": {"study": null}})"}) {
    EXPECT_EQ(StudyText(document), "") << document;
  }
}

// Documents come from a server.
TEST(StudyText, TakesAnyDocument) {
  EXPECT_EQ(StudyText(R"({"study": {"rows": 3, "scales": [1], "layers": [{"layer": "x"}]}})")
                .find("original"),
            std::string::npos);
}

}  // namespace
}  // namespace linchpin
