#include "artifact/manifest_claims.h"

#include <string>

#include "base/status.h"
#include "format/json.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

using ::testing::HasSubstr;

const char kDigest[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

Json Sound() {
  Json json;
  json["manifest_version"] = 1;
  json["output"]["files"] =
      Json::array({{{"name", "model.safetensors"}, {"size", 10}, {"sha256", kDigest}}});
  json["tensors"] = Json::array({{{"name", "w"},
                                  {"action", "quantized"},
                                  {"outputs", Json::array({"w_packed", "w_scale"})},
                                  {"sha256", kDigest}}});
  json["super_weights"] = Json::array({{{"tensor", "w"},
                                        {"row", 1},
                                        {"column", 2},
                                        {"value", 0.1},
                                        {"stored_value", -3},
                                        {"kept", "scale"},
                                        {"exact", false}}});
  return json;
}

TEST(ManifestClaimsTest, ReadsWhatCanBeChecked) {
  const absl::StatusOr<ManifestClaims> claims = ReadManifestClaims("m", Sound().dump());
  ASSERT_TRUE(claims.ok()) << claims.status();
  EXPECT_EQ(claims->files[0], (FileRecord{"model.safetensors", 10, kDigest}));
  EXPECT_TRUE(claims->tensors[0].quantized);
  EXPECT_EQ(claims->tensors[0].outputs, (std::vector<std::string>{"w_packed", "w_scale"}));
  EXPECT_EQ(claims->kept[0], (KeptWeight{{{"w", 1, 2}, 0.1F}, -3, "scale", false}));
}

// Replaces the value at `pointer`; expects CONFIG_INVALID that names `field`.
void ExpectRefused(const std::string& pointer, const Json& value, const std::string& field) {
  Json json = Sound();
  json[Json::json_pointer(pointer)] = value;
  const absl::Status status = ReadManifestClaims("linchpin.json", json.dump()).status();
  EXPECT_EQ(ReasonOf(status), Reason::kConfigInvalid) << pointer << " " << value;
  EXPECT_THAT(std::string(status.message()), HasSubstr("linchpin.json: " + field));
}

TEST(ManifestClaimsTest, NamesTheFieldThatIsWrong) {
  ExpectRefused("/manifest_version", 2, "manifest_version: this build reads version 1");
  ExpectRefused("/manifest_version", "1", "manifest_version");
  ExpectRefused("/output", Json::array(), "output: not an object");
  ExpectRefused("/output/files", Json::object(), "output.files: not an array");
  ExpectRefused("/output/files/0", 3, "output.files[0]: not an object");
  ExpectRefused("/output/files/0/name", "", "output.files[0].name");
  ExpectRefused("/output/files/0/name", Json::array(), "output.files[0].name");
  ExpectRefused("/output/files/0/size", -1, "output.files[0].size");
  ExpectRefused("/output/files/0/size", 1.5, "output.files[0].size");
  ExpectRefused("/output/files/0/sha256", "abc", "output.files[0].sha256");
  ExpectRefused("/output/files/0/sha256", std::string(64, 'G'), "output.files[0].sha256");
  ExpectRefused("/tensors/0/action", "eaten", "tensors[0].action");
  ExpectRefused("/tensors", nullptr, "tensors");
  ExpectRefused("/super_weights/0/row", 18446744073709551615U, "super_weights[0].row: too large");
  ExpectRefused("/super_weights/0/column", -1, "super_weights[0].column");
  ExpectRefused("/super_weights/0/value", 1e300, "super_weights[0].value");
  ExpectRefused("/super_weights/0/value", nullptr, "super_weights[0].value");
  ExpectRefused("/super_weights/0/exact", 1, "super_weights[0].exact");
}

TEST(ManifestClaimsTest, NamesTheFieldThatIsMissing) {
  for (const char* key : {"manifest_version", "output", "tensors", "super_weights"}) {
    Json json = Sound();
    json.erase(key);
    const absl::Status status = ReadManifestClaims("m", json.dump()).status();
    EXPECT_EQ(ReasonOf(status), Reason::kConfigInvalid);
    EXPECT_THAT(std::string(status.message()), HasSubstr(std::string(key) + ": missing"));
  }
}

TEST(ManifestClaimsTest, RefusesNamesThatStandThereTwice) {
  Json json = Sound();
  json["output"]["files"].push_back(json["output"]["files"][0]);
  EXPECT_THAT(std::string(ReadManifestClaims("m", json.dump()).status().message()),
              HasSubstr("'model.safetensors' stands there twice"));
  json = Sound();
  json["tensors"].push_back(json["tensors"][0]);
  EXPECT_EQ(ReasonOf(ReadManifestClaims("m", json.dump()).status()), Reason::kConfigInvalid);
}

TEST(ManifestClaimsTest, RefusesWhatIsNoJson) {
  for (const std::string text :
       {"", "null", "[]", "3", "{", "\xff\xfe", "{\"a\":1,\"a\":2}", "{}x"}) {
    EXPECT_EQ(ReasonOf(ReadManifestClaims("m", text).status()), Reason::kConfigInvalid) << text;
  }
  EXPECT_EQ(ReasonOf(ReadManifestClaims("m", std::string(100000, '[')).status()),
            Reason::kConfigInvalid);
}

}  // namespace
}  // namespace linchpin
