#include "artifact/artifact_writer.h"

#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/tiny_checkpoint.h"
#include "tests/support/written_artifact.h"

namespace linchpin {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const char kUp0[] = "model.layers.0.mlp.up_proj.weight";
const char kDown1[] = "model.layers.1.mlp.down_proj.weight";

std::vector<std::string> NamesBelow(const MemoryStorage& storage, const std::string& directory) {
  std::vector<std::string> names;
  const absl::StatusOr<std::vector<FileEntry>> entries = storage.List(directory);
  if (!entries.ok()) return {};
  for (const FileEntry& entry : *entries) names.push_back(entry.name);
  return names;
}

// Compresses `tiny`; the output's files by name.
std::map<std::string, std::string> FilesOf(const TinyCheckpoint& tiny,
                                           const QuantizeOptions& options,
                                           const std::vector<PinnedWeight>& weights = {},
                                           const RunContext& context = {}) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in", tiny);
  const absl::Status status = WriteArtifact(storage, "in", "out", options, weights, context);
  EXPECT_TRUE(status.ok()) << status;
  std::map<std::string, std::string> files;
  for (const std::string& name : NamesBelow(storage, "out")) {
    files[name] = ToText(storage.Get("out/" + name));
  }
  return files;
}

TEST(WriteArtifactTest, AWholeModelDirectoryComesOut) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in", {.shards = 2});
  ASSERT_TRUE(WriteArtifact(storage, "in", "out", {}, {}).ok());
  EXPECT_THAT(NamesBelow(storage, "out"),
              ElementsAre("LICENSE", "config.json", "linchpin.json",
                          "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                          "model.safetensors.index.json", "tokenizer.json"));
  for (const char* name : {"LICENSE", "tokenizer.json"}) {
    EXPECT_EQ(ToText(storage.Get(std::string("out/") + name)),
              ToText(storage.Get(std::string("in/") + name)));
  }
  // The output is a checkpoint like any other: its index and shards agree.
  const absl::StatusOr<Checkpoint> output = Checkpoint::Open(storage, "out");
  ASSERT_TRUE(output.ok()) << output.status();
  EXPECT_TRUE(output->has_index());
  const absl::StatusOr<ShardIndex> index =
      ParseShardIndex("index", ToText(storage.Get("out/model.safetensors.index.json")));
  ASSERT_TRUE(index.ok());
  EXPECT_EQ(index->total_size, output->total_bytes());
  EXPECT_EQ(index->weight_map.size(), output->tensors().size());
}

// An output that notes how many pieces, neither meeting nor touching, any of its files
// consisted of at most.
class PiecesOutput : public OutputDirectory {
 public:
  explicit PiecesOutput(std::unique_ptr<OutputDirectory> output) : output_(std::move(output)) {}
  absl::StatusOr<std::unique_ptr<WritableFile>> CreateFile(std::string_view name,
                                                           uint64_t size) override {
    ASSIGN_OR_RETURN(auto file, output_->CreateFile(name, size));
    return std::make_unique<File>(std::move(file), most_);
  }
  absl::Status Commit() override { return output_->Commit(); }
  size_t most() const { return most_; }

 private:
  class File : public WritableFile {
   public:
    File(std::unique_ptr<WritableFile> file, size_t& most) : file_(std::move(file)), most_(most) {}
    absl::Status WriteAt(uint64_t offset, absl::Span<const std::byte> bytes) override {
      std::map<uint64_t, uint64_t> joined;  // begin -> end
      pieces_.insert({offset, offset + bytes.size()});
      for (const auto& [begin, end] : pieces_) {
        if (joined.empty() || joined.rbegin()->second < begin) joined[begin] = end;
        joined.rbegin()->second = std::max(joined.rbegin()->second, end);
      }
      pieces_ = std::move(joined);
      most_ = std::max(most_, pieces_.size());
      return file_->WriteAt(offset, bytes);
    }
    absl::Status ReadAt(uint64_t offset, absl::Span<std::byte> out) const override {
      return file_->ReadAt(offset, out);
    }

   private:
    const std::unique_ptr<WritableFile> file_;
    size_t& most_;
    std::map<uint64_t, uint64_t> pieces_;
  };
  const std::unique_ptr<OutputDirectory> output_;
  size_t most_ = 0;
};

TEST(WriteArtifactTest, EveryRegionOfAFileIsWrittenFrontToBack) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in", {.layers = 12});
  const absl::StatusOr<Checkpoint> in = Checkpoint::Open(storage, "in");
  ASSERT_TRUE(in.ok()) << in.status();
  for (const Scheme scheme : {Scheme::kW4A16, Scheme::kW8A8, Scheme::kFp8}) {
    const absl::StatusOr<Plan> plan =
        MakePlan(*in, {.scheme = scheme, .scale = ScaleRule::kMinMax}, {});
    ASSERT_TRUE(plan.ok()) << plan.status();
    PiecesOutput output(*storage.CreateDirectory("out", false));
    ASSERT_TRUE(WriteArtifact(*in, *plan, output, {}).ok());
    EXPECT_LE(output.most(), 4U) << "the header, and the tensors of each element type";
  }
}

TEST(WriteArtifactTest, TensorsAreWhatThePlanSays) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in");
  ASSERT_TRUE(WriteArtifact(storage, "in", "out", {}, {}).ok());
  const absl::StatusOr<Checkpoint> in = Checkpoint::Open(storage, "in");
  const absl::StatusOr<Checkpoint> out = Checkpoint::Open(storage, "out");
  ASSERT_TRUE(in.ok() && out.ok());
  const absl::StatusOr<Plan> plan = MakePlan(*in, {}, {});
  size_t outputs = 0;
  for (const PlanRow& row : plan->rows) {
    for (const TensorInfo& info : row.outputs) {
      ++outputs;
      const absl::StatusOr<const StoredTensor*> tensor = out->Find(info.name);
      ASSERT_TRUE(tensor.ok()) << tensor.status();
      EXPECT_EQ((*tensor)->info, info);
      EXPECT_EQ((*tensor)->begin % SizeOf(info.dtype), 0U) << "aligned";
    }
  }
  EXPECT_EQ(out->tensors().size(), outputs);
  EXPECT_FALSE(out->has_index());
  EXPECT_EQ(out->shards()[0].name, "model.safetensors");

  const absl::StatusOr<const StoredTensor*> shape = out->Find(std::string(kUp0) + "_shape");
  int64_t dimensions[2] = {};
  ASSERT_TRUE(out->ReadBytes(**shape, 0, {reinterpret_cast<std::byte*>(dimensions), 16}).ok());
  EXPECT_THAT(dimensions, ElementsAre(160, 64));
}

TEST(WriteArtifactTest, EveryWeightIsWithinAboutHalfAStep) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in", {.layers = 1});
  ASSERT_TRUE(WriteArtifact(storage, "in", "out", {.scale = ScaleRule::kMinMax}, {}).ok());
  const absl::StatusOr<Checkpoint> in = Checkpoint::Open(storage, "in");
  const absl::StatusOr<Checkpoint> out = Checkpoint::Open(storage, "out");
  ASSERT_TRUE(in.ok() && out.ok());
  const absl::StatusOr<Matrix> weights = in->ReadRows(**in->Find(kUp0), 0, 160);
  const absl::StatusOr<Matrix> scales =
      out->ReadRows(**out->Find(std::string(kUp0) + "_scale"), 0, 160);
  for (int64_t row = 0; row < 160; row += 13) {
    for (int64_t column = 0; column < 64; ++column) {
      const absl::StatusOr<float> value = ReadBack(*out, {kUp0, row, column});
      ASSERT_TRUE(value.ok());
      EXPECT_NEAR(*value, weights->View().At(row, column),
                  0.55F * scales->View().At(row, column / 32));
    }
  }
}

TEST(WriteArtifactTest, MetadataIsKeptAndSaysPt) {
  MemoryStorage storage;
  PutTinyCheckpoint(
      storage, "in",
      {.metadata = {{"lm_head.weight", "model.embed_tokens.weight"}, {"format", "np"}}});
  ASSERT_TRUE(WriteArtifact(storage, "in", "out", {}, {}).ok());
  const absl::StatusOr<Checkpoint> out = Checkpoint::Open(storage, "out");
  ASSERT_TRUE(out.ok());
  EXPECT_EQ(out->shards()[0].header.metadata,
            (std::map<std::string, std::string>{{"lm_head.weight", "model.embed_tokens.weight"},
                                                {"format", "pt"}}));
}

TEST(WriteArtifactTest, TheSameBytesForAnyNumberOfThreads) {
  const std::vector<PinnedWeight> weights = {{{kDown1, 3, 77}, 0.5F}};
  const auto one = FilesOf({.shards = 3}, {}, weights);
  EXPECT_EQ(one.size(), 8U);
  for (const int threads : {2, 3, 16}) {
    EXPECT_EQ(FilesOf({.shards = 3}, {}, weights, {.threads = threads}), one);
  }
}

// Down to the last digit of the errors in the manifest.
TEST(WriteArtifactTest, TheSameBytesForAnySlab) {
  QuantizeOptions asymmetric{.asymmetric = true, .scale = ScaleRule::kMinMax};
  QuantizeOptions clipped{.format = Format::kDense, .scheme = Scheme::kBlocks};
  clipped.blocks = {.run = 1000, .z = 2};
  const TinyCheckpoint tiny{.hidden = 128, .intermediate = 320};
  for (const QuantizeOptions& options : {QuantizeOptions{}, asymmetric, clipped}) {
    const auto whole = FilesOf(tiny, options);
    for (const int64_t slab : {1, 5000, 9000, 20000}) {
      EXPECT_EQ(FilesOf(tiny, options, {}, {.slab_bytes = slab}), whole) << slab;
    }
  }
}

TEST(WriteArtifactTest, RecordsSayWhatWasLost) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in", {.layers = 1});
  const absl::StatusOr<Checkpoint> in = Checkpoint::Open(storage, "in");
  const absl::StatusOr<Plan> plan = MakePlan(*in, {}, {});
  const auto output = storage.CreateDirectory("out", false);
  const absl::StatusOr<ArtifactRecord> record = WriteArtifact(*in, *plan, **output, {});
  ASSERT_TRUE(record.ok());
  ASSERT_EQ(record->tensors.size(), plan->rows.size());
  for (size_t i = 0; i < record->tensors.size(); ++i) {
    const TensorRecord& tensor = record->tensors[i];
    EXPECT_EQ(tensor.name, plan->rows[i].source.info.name);
    EXPECT_EQ(tensor.bytes_in, plan->rows[i].bytes_in());
    EXPECT_EQ(tensor.bytes_out, plan->rows[i].bytes_out());
    EXPECT_EQ(tensor.action, plan->rows[i].quantized ? "quantized" : "copied");
    EXPECT_EQ(tensor.max_error > 0, plan->rows[i].quantized);
    EXPECT_LE(tensor.rms_error, tensor.max_error);
    EXPECT_EQ(tensor.sha256.size(), 64U);
  }
  // A copied tensor's digest is that of its source.
  EXPECT_EQ(record->tensors[0].sha256, Sha256Hex(TinyTensors({.layers = 1})[0].bytes));
}

TEST(WriteArtifactTest, ANonFiniteWeightIsNamed) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::tuple<std::string, float, std::string> cases[] = {
      {kUp0, nan, "the weight at [5, 33] is NaN"},
      {kUp0, -std::numeric_limits<float>::infinity(), "the weight at [5, 33] is infinite"},
      {"model.embed_tokens.weight", nan, "the weight at [5, 33] is NaN"}};
  for (const auto& [name, value, text] : cases) {
    TinyCheckpoint tiny{.shards = 2};
    tiny.edit = [&name = name, value = value](TensorFixture& tensor) {
      if (tensor.info.name == name) SetElement(tensor, 5, 33, value);
      // A later one must not be named, whatever the threads do.
      if (tensor.info.name == kDown1) SetElement(tensor, 0, 0, value);
    };
    MemoryStorage storage;
    PutTinyCheckpoint(storage, "in", tiny);
    for (const int threads : {1, 3}) {
      RunContext context;
      context.threads = threads;
      const absl::Status status = WriteArtifact(storage, "in", "out", {}, {}, context);
      EXPECT_EQ(ReasonOf(status), Reason::kNotFinite);
      EXPECT_THAT(std::string(status.message()), HasSubstr("model-00001-of-00002.safetensors"));
      EXPECT_THAT(std::string(status.message()), HasSubstr(name));
      EXPECT_THAT(std::string(status.message()), HasSubstr(text));
      EXPECT_THAT(NamesBelow(storage, "out"), IsEmpty());
    }
  }
}

TEST(WriteArtifactTest, ANonFiniteWeightThatWasAskedToStayIsCopied) {
  TinyCheckpoint tiny;
  tiny.edit = [](TensorFixture& tensor) {
    if (tensor.info.name == kUp0 || tensor.info.name == "model.embed_tokens.weight") {
      SetElement(tensor, 5, 33, std::numeric_limits<float>::quiet_NaN());
    }
  };
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in", tiny);
  QuantizeOptions options;
  options.ignore = {"*.0.mlp.up_proj", "*.0.mlp.gate_proj", "model.embed_tokens"};
  const absl::Status status = WriteArtifact(storage, "in", "out", options, {});
  ASSERT_TRUE(status.ok()) << status;
  const auto source = Checkpoint::Open(storage, "in");
  const auto written = Checkpoint::Open(storage, "out");
  ASSERT_TRUE(source.ok() && written.ok());
  for (const char* name : {kUp0, "model.embed_tokens.weight"}) {
    const StoredTensor& before = **source->Find(name);
    const StoredTensor& after = **written->Find(name);
    std::vector<std::byte> mine(StoredSize(after));
    std::vector<std::byte> theirs(StoredSize(before));
    ASSERT_TRUE(written->ReadBytes(after, 0, absl::MakeSpan(mine)).ok());
    ASSERT_TRUE(source->ReadBytes(before, 0, absl::MakeSpan(theirs)).ok());
    EXPECT_EQ(mine, theirs) << name;
  }
}

// Requests a stop after some calls, and counts what it hears.
class Stopper : public RunObserver {
 public:
  explicit Stopper(int after) : after_(after) {}
  void OnProgress(const Progress& progress) override {
    EXPECT_LE(progress.done, progress.total);
    if (++calls_ == after_) stop.request_stop();
  }
  void OnStageDone(Stage stage, double, uint64_t read, uint64_t written) override {
    stages.push_back(fmt::format("{} {} {}", StageName(stage), read > 0, written > 0));
  }
  void OnTensor(TensorAction action) override { ++tensors[static_cast<int>(action)]; }

  std::stop_source stop;
  std::vector<std::string> stages;
  int tensors[kTensorActionCount] = {};

 private:
  const int after_;
  int calls_ = 0;
};

TEST(WriteArtifactTest, CancelledItLeavesNothing) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in");
  for (const int after : {1, 5, 20, 22}) {
    Stopper stopper(after);
    const RunContext context{stopper.stop.get_token(), &stopper, 2};
    const absl::Status status = WriteArtifact(storage, "in", "out", {}, {}, context);
    EXPECT_EQ(ReasonOf(status), Reason::kCancelled) << after;
    EXPECT_THAT(NamesBelow(storage, "out"), IsEmpty());
  }
}

TEST(WriteArtifactTest, TellsItsObserver) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in");
  Stopper stopper(-1);
  const RunContext context{stopper.stop.get_token(), &stopper, 2};
  ASSERT_TRUE(WriteArtifact(storage, "in", "out", {}, {{{kDown1, 3, 77}, 0.5F}}, context).ok());
  EXPECT_THAT(stopper.stages, ElementsAre("quantize true true", "artifact true true"));
  EXPECT_THAT(stopper.tensors, ElementsAre(13, 1, 6, 0));
}

TEST(WriteArtifactTest, ASingleFileOfAnyNameBecomesModelSafetensors) {
  MemoryStorage storage;
  PutTinyCheckpoint(storage, "in");
  storage.Put("in/weights.safetensors", storage.Get("in/model.safetensors"));
  storage.Remove("in/model.safetensors");
  ASSERT_TRUE(WriteArtifact(storage, "in/weights.safetensors", "out", {}, {}).ok());
  EXPECT_THAT(NamesBelow(storage, "out"), ::testing::Contains("model.safetensors"));
}

}  // namespace
}  // namespace linchpin
