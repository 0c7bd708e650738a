// The bytes of an artifact, by their digests: the same on every machine, for
// any number of threads and any instruction set.
//
// A change here is a change of what users get.  If it is meant, run the test,
// look at why the bytes changed, and put the printed digests in place.
#include <map>
#include <string>

#include "artifact/digest.h"
#include "gtest/gtest.h"
#include "tests/support/every_target.h"
#include "tests/support/written_artifact.h"

namespace linchpin {
namespace {

struct Golden {
  const char* name;
  TinyCheckpoint tiny;
  QuantizeOptions options;
  std::map<std::string, std::string> digests;
};

const char kDown1[] = "model.layers.1.mlp.down_proj.weight";

void Pin(TensorFixture& tensor) {
  if (tensor.info.name == kDown1) SetElement(tensor, 3, 77, 0.30078125F);
}

const Golden kGolden[] = {
    {"bf16, signed, group auto, tensor",
     {.edit = Pin},
     {},
     {{"config.json", "67d5deac7dd78bfe7a5bb1b9b91bb003806133bf96b80ec25adfcbb01bc432ed"},
      {"model.safetensors", "c3392070cbdd2bc8914eab5ff38c6735e09baa53fd2ed2153449296e0ecfd9df"}}},
    {"f16, minmax, per channel, none",
     {.dtype = DType::kF16, .edit = Pin},
     {.group_size = -1, .scale = ScaleRule::kMinMax, .preserve = Preserve::kNone},
     {{"config.json", "d8f7aaaa7688d5f844cb1eaf306c05ed5d24525a1521ad09be47d5c0977386f9"},
      {"model.safetensors", "8c539ed659a43a818ac9ac0921bafdb24b3c16cc53312a575e4591ad8e4f64e9"}}},
    {"f32, signed, group 32, scale, two shards",
     {.dtype = DType::kF32, .shards = 2, .edit = Pin},
     {.group_size = 32, .preserve = Preserve::kScale},
     {{"config.json", "56bfefb1d6375dc86abaf729ccb24727bf18847e51aa6f54395b0397415228fd"},
      {"model-00001-of-00002.safetensors",
       "8a79f849cbdf8a067811a381af094c7595f91450f5073c36bb398f2f7ead36dc"},
      {"model-00002-of-00002.safetensors",
       "b5e345194ff24179b0e32053e2abcdbcbccb9af2e4f62b5a1f261a93b6fd7a94"},
      {"model.safetensors.index.json",
       "6d16bff01a1f390391425572322250cf9335df52e2ee36149accfe7c22d3ba6f"}}},
};

std::map<std::string, std::string> DigestsOf(const Golden& golden, int threads) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in", golden.tiny);
  RunContext context;
  context.threads = threads;
  const absl::Status status = WriteArtifact(storage, "in", "out", golden.options,
                                            {{{kDown1, 3, 77}, 0.30078125F}}, context);
  EXPECT_TRUE(status.ok()) << status;
  std::map<std::string, std::string> digests;
  for (const auto& [name, digest] : golden.digests) {
    const MemoryStorage::Bytes bytes = storage.Get("out/" + name);
    digests[name] = bytes == nullptr ? "missing" : Sha256Hex(ToText(bytes));
  }
  return digests;
}

TEST(GoldenTest, AnyNumberOfThreads) {
  for (const Golden& golden : kGolden) {
    for (const int threads : {1, 2, 3}) {
      SCOPED_TRACE(golden.name);
      EXPECT_EQ(DigestsOf(golden, threads), golden.digests) << threads;
    }
  }
}

TEST(GoldenTest, AnyInstructionSet) {
  OnEveryTarget([](int64_t) {
    for (const Golden& golden : kGolden) {
      EXPECT_EQ(DigestsOf(golden, 2), golden.digests) << golden.name;
    }
  });
}

}  // namespace
}  // namespace linchpin
