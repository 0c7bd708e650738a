// Every reason of the table, provoked through a real channel: a reason that has
// no way to be provoked here fails.
#include <sys/resource.h>

#include <condition_variable>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <stop_token>
#include <string>
#include <utility>

#include "base/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "linchpin/v1/errors.pb.h"
#include "tests/support/fake_engine.h"
#include "tests/support/patience.h"
#include "tests/support/running_server.h"
#include "tests/support/tiny_checkpoint.h"

namespace linchpin {
namespace {

namespace fs = std::filesystem;

// A server with the real engine, and a model below its root.
class RealServer {
 public:
  explicit RealServer(RunningServerOptions options = {}, Engine engine = PipelineEngine())
      : engine_(std::move(engine)), server_(engine_, WithRoom(options)) {
    PutTinyCheckpoint(files_, "/model");
  }

  // Files of the model, by their name: put over what is there.
  void Put(const std::string& name, std::string_view text) {
    files_.Put("/model/" + name, ToBytes(text));
  }
  void PutModel(const TinyCheckpoint& tiny) { PutTinyCheckpoint(files_, "/model", tiny); }
  void Remove(const std::string& name) { files_.Remove("/model/" + name); }

  // Writes the model; its path.
  std::string Model() {
    const auto files = files_.List("/model");
    for (const FileEntry& file : *files) {
      const fs::path path = fs::path(server_.root()) / "model" / file.name;
      fs::create_directories(path.parent_path());
      std::ofstream(path, std::ios::binary) << ToText(files_.Get("/model/" + file.name));
    }
    return server_.root() + "/model";
  }

  grpc::Status Detect(const v1::DetectSuperWeightsRequest& request) {
    grpc::ClientContext context;
    auto reader = server_.stub()->DetectSuperWeights(&context, request);
    for (v1::DetectSuperWeightsResponse message; reader->Read(&message);) {
    }
    return reader->Finish();
  }
  grpc::Status Detect() { return Detect(From(Model())); }
  grpc::Status Compress(const std::string& destination = "out") {
    v1::CompressModelRequest request;
    request.set_source(Model());
    request.set_destination(server_.root() + "/" + destination);
    grpc::ClientContext context;
    auto reader = server_.stub()->CompressModel(&context, request);
    for (v1::CompressModelResponse message; reader->Read(&message);) {
    }
    return reader->Finish();
  }
  static v1::DetectSuperWeightsRequest From(const std::string& source) {
    v1::DetectSuperWeightsRequest request;
    request.set_source(source);
    return request;
  }
  RunningServer& server() { return server_; }

 private:
  static RunningServerOptions WithRoom(RunningServerOptions options) {
    if (options.memory == RunningServerOptions{}.memory) options.memory = uint64_t{8} << 30;
    return options;
  }

  const Engine engine_;
  RunningServer server_;
  MemoryStorage files_;
};

grpc::Status WithFile(const std::string& name, std::string_view text) {
  RealServer real;
  real.Put(name, text);
  return real.Detect();
}

grpc::Status WithTensor(const std::function<void(TensorFixture&)>& edit) {
  RealServer real;
  real.PutModel({.edit = edit});
  return real.Detect();
}

grpc::Status Upload(const std::vector<v1::CompressArtifactRequest>& messages) {
  RealServer real;
  grpc::ClientContext context;
  auto stream = real.server().stub()->CompressArtifact(&context);
  for (const auto& message : messages) stream->Write(message);
  stream->WritesDone();
  for (v1::CompressArtifactResponse response; stream->Read(&response);) {
  }
  return stream->Finish();
}

grpc::Status WrongDigest() {
  v1::CompressArtifactRequest options, file, end;
  options.mutable_options();
  file.mutable_file()->set_name("config.json");
  end.mutable_end()->set_sha256(std::string(64, '0'));
  return Upload({options, file, end});
}

grpc::Status TextThrough(std::string_view tokenizer) {
  RealServer real;
  real.Put("tokenizer.json", tokenizer);
  auto request = RealServer::From(real.Model());
  request.mutable_detection()->mutable_prompt()->set_text("some text");
  return real.Detect(request);
}

grpc::Status IdsBeyondTheVocabulary() {
  RealServer real;
  auto request = RealServer::From(real.Model());
  request.mutable_detection()->mutable_prompt()->add_sequences()->add_ids(1'000'000);
  return real.Detect(request);
}

// Does something once a job has begun, in the middle of it.
class AtFirstProgress : public RunObserver {
 public:
  AtFirstProgress(RunObserver& next, std::function<void()> act)
      : next_(next), act_(std::move(act)) {}
  void OnProgress(const Progress& progress) override {
    if (!std::exchange(begun_, true)) act_();
    next_.OnProgress(progress);
  }
  void OnStageDone(Stage stage, double seconds, uint64_t read, uint64_t written) override {
    next_.OnStageDone(stage, seconds, read, written);
  }
  void OnTensor(TensorAction action) override { next_.OnTensor(action); }

 private:
  RunObserver& next_;
  const std::function<void()> act_;
  bool begun_ = false;
};

// The weights grow, as those of a copy that still runs would.
grpc::Status ChangedWhileRead() {
  Engine engine = PipelineEngine();
  engine.compress = [real = engine.compress](const Storage& from, const std::string& source,
                                             const Storage& to, const std::string& destination,
                                             const CompressOptions& options,
                                             const RunContext& context) {
    AtFirstProgress growing(*context.observer, [&] {
      std::ofstream(source + "/model.safetensors", std::ios::app) << "more";
    });
    RunContext watched = context;
    watched.observer = &growing;
    return real(from, source, to, destination, options, watched);
  };
  RealServer real({}, engine);
  return real.Compress();
}

// Where a detection of the real engine stands, in its middle, until it is stopped.
class Halt {
 public:
  Engine engine() {
    Engine engine = PipelineEngine();
    engine.detect = [this, real = engine.detect](const Storage& storage, const std::string& source,
                                                 const DetectRequest& request,
                                                 const RunContext& context) {
      AtFirstProgress standing(*context.observer, [&] { Stand(context.stop); });
      RunContext watched = context;
      watched.observer = &standing;
      return real(storage, source, request, watched);
    };
    return engine;
  }
  // False when patience is over.
  bool WaitForOne() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [this] { return stands_; });
  }

 private:
  void Stand(const std::stop_token& stop) {
    std::unique_lock lock(mutex_);
    stands_ = true;
    changed_.notify_all();
    changed_.wait(lock, stop, [] { return false; });
  }

  std::mutex mutex_;
  std::condition_variable_any changed_;
  bool stands_ = false;
};

// As on a full disk: the file system takes no file of that size.
grpc::Status StoreThatTakesNoMore() {
  RealServer real;
  real.Model();
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const auto handler = signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  v1::CreateDemoModelRequest request;
  request.set_destination(real.server().root() + "/demo");
  v1::CreateDemoModelResponse response;
  grpc::ClientContext context;
  const grpc::Status status = real.server().stub()->CreateDemoModel(&context, request, &response);
  setrlimit(RLIMIT_FSIZE, &before);
  signal(SIGXFSZ, handler);
  EXPECT_FALSE(fs::exists(request.destination()));
  return status;
}

grpc::Status WithPolicy(const std::string& grant) {
  const TemporaryDirectory directory;
  GateSettings gate;
  gate.policy = directory.Write("policy.json", R"({"identities": {"local": )" + grant + "}}");
  RealServer real({.gate = gate});
  return real.Detect();
}

grpc::Status WithoutIdentity() {
  const TemporaryDirectory directory;
  GateSettings gate;
  gate.policy = directory.Write("policy.json", R"({"identities": {"*": {}}})");
  RealServer real({.listen = "127.0.0.1:0", .gate = gate});
  return real.Detect();
}

grpc::Status OfAFullServer() {
  Halt halt;
  RealServer real({.slots = 1}, halt.engine());
  grpc::ClientContext context;
  auto held = real.server().stub()->DetectSuperWeights(&context, RealServer::From(real.Model()));
  EXPECT_TRUE(halt.WaitForOne());
  const grpc::Status status = real.Detect();
  context.TryCancel();
  return status;
}

grpc::Status OfAServerGoingDown() {
  RealServer real;
  real.server().jobs().Drain();
  return real.Detect();
}

grpc::Status OfAGoneCaller() {
  Halt halt;
  RealServer real({}, halt.engine());
  grpc::ClientContext context;
  auto reader = real.server().stub()->DetectSuperWeights(&context, RealServer::From(real.Model()));
  EXPECT_TRUE(halt.WaitForOne());
  context.TryCancel();
  const grpc::Status status = reader->Finish();
  EXPECT_TRUE(real.server().jobs().WaitIdle(kPatience));
  EXPECT_EQ(real.server().Metric("linchpin_jobs_total", "kind=\"detect\",result=\"cancelled\""), 1);
  return status;
}

// What no input leads to: an exception of a library, say.  That of a LibTorch which is
// not there is provoked in tests/e2e/test_libtorch.py.
grpc::Status OfAFaultyServer() {
  FakeEngine fake;
  RealServer real({}, fake.engine());
  fake.ThrowOnce();
  return real.Detect();
}

// VerifyArtifact tells of it in its result; what fails is seen in the metrics.
grpc::Status OfAChangedOutput() {
  RealServer real;
  EXPECT_TRUE(real.Compress().ok());
  const auto verify = [&] {
    v1::VerifyArtifactRequest request;
    request.set_directory(real.server().root() + "/out");
    grpc::ClientContext context;
    auto reader = real.server().stub()->VerifyArtifact(&context, request);
    v1::VerifyArtifactResponse last;
    for (v1::VerifyArtifactResponse message; reader->Read(&message);) last = message;
    EXPECT_TRUE(reader->Finish().ok());
    return last.result();
  };
  EXPECT_TRUE(verify().matches());
  EXPECT_EQ(real.server().Metric("linchpin_integrity_failures_total", "verify_mismatch"), 0);
  // The last byte is of the last tensor.
  const std::string weights = real.server().root() + "/out/model.safetensors";
  std::fstream file(weights, std::ios::binary | std::ios::in | std::ios::out | std::ios::ate);
  file.seekg(-1, std::ios::end);
  const int last = file.get();
  file.seekp(-1, std::ios::end).put(static_cast<char>(last ^ 1));
  file.close();
  const v1::VerificationResult changed = verify();
  EXPECT_FALSE(changed.matches());
  EXPECT_THAT(changed.mismatches(),
              testing::ElementsAre(testing::StartsWith("model.safetensors: SHA-256 "),
                                   testing::StartsWith("model.norm.weight: SHA-256 ")));
  EXPECT_EQ(real.server().Metric("linchpin_integrity_failures_total", "verify_mismatch"), 1);
  return {grpc::StatusCode::DATA_LOSS, "told in the result"};
}

// How each is provoked, and whether ErrorInfo can go with it: not from the gate,
// nor to who has gone, nor in a result.
struct Provocation {
  std::function<grpc::Status()> call;
  bool has_info = true;
};

const std::map<Reason, Provocation>& Provocations() {
  static const auto& provocations = *new std::map<Reason, Provocation>{
      {Reason::kFormatRefused, {[] { return WithFile("model.safetensors", "PK\x03\x04 a zip"); }}},
      {Reason::kHeaderInvalid,
       {[] { return WithFile("model.safetensors", RawSafetensors("{not json", "")); }}},
      {Reason::kTensorRangeInvalid, {[] {
         return WithFile(
             "model.safetensors",
             RawSafetensors(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}})", "short"));
       }}},
      {Reason::kIndexInvalid, {[] {
         RealServer real;
         real.Remove("model.safetensors");
         real.Put("model.safetensors.index.json",
                  R"({"weight_map": {"a": "../model.safetensors"}})");
         return real.Detect();
       }}},
      {Reason::kConfigInvalid, {[] { return WithFile("config.json", "{"); }}},
      {Reason::kTokenizerInvalid, {[] { return TextThrough("{"); }}},
      {Reason::kNotACheckpoint, {[] {
         RealServer real;
         real.Remove("model.safetensors");
         return real.Detect();
       }}},
      {Reason::kTensorMissing, {[] {
         return WithTensor([](TensorFixture& tensor) {
           if (tensor.info.name == "model.layers.1.mlp.down_proj.weight") tensor.info.name = "x";
         });
       }}},
      {Reason::kTensorShapeInvalid, {[] {
         return WithTensor([](TensorFixture& tensor) {
           if (tensor.info.name != "model.layers.1.mlp.down_proj.weight") return;
           std::swap(tensor.info.shape[0], tensor.info.shape[1]);
         });
       }}},
      {Reason::kDtypeUnsupported, {[] {
         return WithTensor([](TensorFixture& tensor) {
           if (tensor.info.name == "model.layers.1.mlp.down_proj.weight") {
             tensor.info.dtype = DType::kI16;
           }
         });
       }}},
      {Reason::kNotFinite, {[] {
         return WithTensor([](TensorFixture& tensor) {
           if (tensor.info.name == "model.layers.1.mlp.down_proj.weight") {
             SetElement(tensor, 3, 5, std::numeric_limits<float>::quiet_NaN());
           }
         });
       }}},
      {Reason::kOptionInvalid, {[] { return RealServer().Detect(RealServer::From("relative")); }}},
      {Reason::kTokensInvalid, {IdsBeyondTheVocabulary}},
      {Reason::kStreamInvalid, {[] { return Upload({}); }}},
      {Reason::kDigestMismatch, {WrongDigest}},
      {Reason::kFamilyUnsupported,
       {[] { return WithFile("config.json", R"({"model_type": "bloom"})"); }}},
      {Reason::kFeatureUnsupported,
       {[] { return TextThrough(R"({"model": {"type": "WordPiece", "vocab": {}}})"); }}},
      {Reason::kSourceNotFound, {[] {
         RealServer real;
         return real.Detect(RealServer::From(real.server().root() + "/absent"));
       }}},
      {Reason::kSourceChanged, {ChangedWhileRead}},
      {Reason::kPathNotAllowed, {[] { return RealServer().Detect(RealServer::From("/etc")); }}},
      {Reason::kOutputExists, {[] {
         RealServer real;
         fs::create_directory(real.server().root() + "/there");
         return real.Compress("there");
       }}},
      {Reason::kStorageFailed, {StoreThatTakesNoMore}},
      {Reason::kUnauthenticated, {WithoutIdentity, /*has_info=*/false}},
      {Reason::kPolicyRefused, {[] { return WithPolicy(R"({"max_job_bytes": 10})"); }}},
      {Reason::kExceedsServerLimit, {[] { return RealServer({.memory = 1000}).Detect(); }}},
      {Reason::kBusy, {OfAFullServer}},
      {Reason::kDraining, {OfAServerGoingDown}},
      {Reason::kCancelled, {OfAGoneCaller, /*has_info=*/false}},
      {Reason::kVerifyMismatch, {OfAChangedOutput, /*has_info=*/false}},
      {Reason::kInternal, {OfAFaultyServer}},
  };
  return provocations;
}

class ReasonsTest : public testing::TestWithParam<ReasonInfo> {};

TEST_P(ReasonsTest, ReachesTheCaller) {
  const ReasonInfo& info = GetParam();
  const auto found = Provocations().find(info.reason);
  ASSERT_NE(found, Provocations().end()) << "nothing here provokes " << info.name;
  const grpc::Status status = found->second.call();
  EXPECT_EQ(static_cast<int>(status.error_code()), static_cast<int>(info.code))
      << status.error_message();
  if (!found->second.has_info) return;
  const RichError rich = RichErrorOf(status);
  EXPECT_EQ(rich.info.reason(), info.name) << status.error_message();
  EXPECT_EQ(rich.info.domain(), "linchpin");
  const bool passes = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                      status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
  EXPECT_EQ(rich.retry.has_value(), passes);
  EXPECT_THAT(status.error_message(), testing::HasSubstr(": "));
}

INSTANTIATE_TEST_SUITE_P(All, ReasonsTest, testing::ValuesIn(AllReasons()),
                         [](const auto& info) { return std::string(info.param.name); });

// errors.proto is the documentation of the table.
TEST(Reasons, AreThoseOfTheApi) {
  const auto* documented = v1::ErrorReason_descriptor();
  EXPECT_EQ(documented->value_count(), static_cast<int>(AllReasons().size()) + 1);
  for (const ReasonInfo& info : AllReasons()) {
    EXPECT_NE(documented->FindValueByName("ERROR_REASON_" + std::string(info.name)), nullptr)
        << info.name;
  }
}

}  // namespace
}  // namespace linchpin
