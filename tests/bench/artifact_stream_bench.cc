// CompressArtifact's protocol against a bare gRPC stream of the same messages, both
// on loopback, in turn, in one process:
//
//     artifact_stream_bench [MiB [ROUNDS]]
//
// The engine behind CompressArtifact does nothing but read, or write, one file, so
// that what is measured is the way of the bytes: framing, offsets, digests both
// ways, admission, the place where they lie.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "artifact/digest.h"
#include "fmt/format.h"
#include "spdlog/spdlog.h"
#include "tests/support/running_server.h"

namespace linchpin {
namespace {

using Request = v1::CompressArtifactRequest;
using Response = v1::CompressArtifactResponse;
constexpr size_t kChunk = size_t{1} << 20;

// Both ends together.
struct Cost {
  double wall = 0;
  double cpu = 0;
};

double CpuSeconds() {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) { return time.tv_sec + time.tv_usec / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Cost CostOf(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  const double cpu = CpuSeconds();
  work();
  return {std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
          CpuSeconds() - cpu};
}

// Takes whatever comes, then sends as many chunks as the first message's file has.
class BareStream final : public v1::CompressionService::CallbackService {
  class Reactor final : public grpc::ServerBidiReactor<Request, Response> {
   public:
    Reactor() { StartRead(&request_); }
    void OnReadDone(bool ok) override {
      if (ok && request_.has_file()) left_ = request_.file().size() / kChunk;
      if (ok && !request_.has_finish()) return StartRead(&request_);
      response_.mutable_chunk()->mutable_data()->assign(kChunk, 'w');
      OnWriteDone(true);
    }
    void OnWriteDone(bool ok) override {
      if (!ok || left_ == 0) return Finish(grpc::Status::OK);
      --left_;
      StartWrite(&response_);
    }
    void OnDone() override { delete this; }

   private:
    Request request_;
    Response response_;
    uint64_t left_ = 0;
  };
  grpc::ServerBidiReactor<Request, Response>* CompressArtifact(
      grpc::CallbackServerContext* /*context*/) override {
    return new Reactor;
  }
};

// Reads nothing of the source; writes `bytes` of output.
Engine WritingEngine(uint64_t bytes) {
  Engine engine;
  engine.survey = [](const Storage&, const std::string&, int, const TokenLoad&) {
    return SourceSurvey{.memory_bytes = 1};
  };
  engine.compress = [bytes](const Storage&, const std::string&, const Storage& storage,
                            const std::string& destination, const CompressOptions&,
                            const RunContext&) -> absl::StatusOr<CompressResult> {
    ASSIGN_OR_RETURN(const auto output, storage.CreateDirectory(destination, false));
    RETURN_IF_ERROR(output->CreateFile("weights", bytes).status());
    RETURN_IF_ERROR(output->Commit());
    return CompressResult{};
  };
  return engine;
}

void SendFile(grpc::ClientReaderWriter<Request, Response>& stream, uint64_t bytes, bool digest) {
  Request message;
  message.mutable_options();
  stream.Write(message);
  message.mutable_file()->set_name("weights");
  message.mutable_file()->set_size(bytes);
  stream.Write(message);
  Sha256 sha;
  const std::string data(kChunk, 'w');
  for (uint64_t offset = 0; offset < bytes; offset += kChunk) {
    message.mutable_chunk()->set_offset(offset);
    message.mutable_chunk()->set_data(data);
    if (digest) sha.Update({reinterpret_cast<const std::byte*>(data.data()), data.size()});
    stream.Write(message);
  }
  message.mutable_end()->set_sha256(sha.Hex());
  stream.Write(message);
  message.mutable_finish();
  stream.Write(message);
  stream.WritesDone();
}

// One call that sends `up` bytes and takes whatever comes back.
Cost Call(v1::CompressionService::Stub& stub, uint64_t up, bool digest) {
  return CostOf([&] {
    grpc::ClientContext context;
    const auto stream = stub.CompressArtifact(&context);
    SendFile(*stream, up, digest);
    Sha256 sha;
    for (Response message; stream->Read(&message);) {
      if (!digest || !message.has_chunk()) continue;
      const std::string& data = message.chunk().data();
      sha.Update({reinterpret_cast<const std::byte*>(data.data()), data.size()});
    }
    const grpc::Status status = stream->Finish();
    if (!status.ok()) {
      fmt::print(stderr, "{}\n", status.error_message());
      std::exit(1);
    }
  });
}

using Costs = std::vector<Cost>;

double Median(Costs costs, double Cost::*part) {
  std::sort(costs.begin(), costs.end(),
            [&](const Cost& a, const Cost& b) { return a.*part < b.*part; });
  return costs[costs.size() / 2].*part;
}

void Report(const char* way, uint64_t bytes, const Costs& bare, const Costs& ours) {
  const double mib = static_cast<double>(bytes >> 20);
  for (const auto& [name, part] : {std::pair("wall", &Cost::wall), {"CPU", &Cost::cpu}}) {
    fmt::print("{:8} per {:4} second: bare {:5.0f} MiB, CompressArtifact {:5.0f} MiB, {:.0f} %\n",
               way, name, mib / Median(bare, part), mib / Median(ours, part),
               100 * Median(bare, part) / Median(ours, part));
  }
}

std::unique_ptr<v1::CompressionService::Stub> StubFor(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return v1::CompressionService::NewStub(
      grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
}

// The bare server sends what its caller announces, so a download announces and sends nothing.
Cost BareDownload(v1::CompressionService::Stub& stub, uint64_t bytes) {
  return CostOf([&] {
    grpc::ClientContext context;
    const auto stream = stub.CompressArtifact(&context);
    Request message;
    message.mutable_file()->set_size(bytes);
    stream->Write(message);
    message.mutable_finish();
    stream->Write(message);
    for (Response response; stream->Read(&response);) {
    }
    stream->Finish();
  });
}

Cost BareUpload(v1::CompressionService::Stub& stub, uint64_t bytes) {
  return CostOf([&] {
    grpc::ClientContext context;
    const auto stream = stub.CompressArtifact(&context);
    Request message;
    const std::string data(kChunk, 'w');
    for (uint64_t offset = 0; offset < bytes; offset += kChunk) {
      message.mutable_chunk()->set_offset(offset);
      message.mutable_chunk()->set_data(data);
      stream->Write(message);
    }
    message.mutable_finish();
    stream->Write(message);
    for (Response response; stream->Read(&response);) {
    }
    stream->Finish();
  });
}

void Run(uint64_t bytes, int rounds) {
  BareStream bare;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&bare);
  const auto server = builder.BuildAndStart();
  const auto bare_stub = StubFor(fmt::format("127.0.0.1:{}", port));

  const RunningServerOptions options{
      .memory = 4 * bytes, .max_artifact_bytes = 2 * bytes, .listen = "127.0.0.1:0"};
  const Engine small = WritingEngine(0);
  RunningServer taking(small, options);
  const auto upload = StubFor(taking.address());

  // The output may be as large as what was sent, so what a download needs is not announced.
  const Engine large = WritingEngine(bytes);
  RunningServer giving(large, options);
  const auto download = StubFor(giving.address());

  Costs bare_up, our_up, bare_down, our_down;
  for (int i = 0; i < rounds; ++i) {
    bare_up.push_back(BareUpload(*bare_stub, bytes));
    our_up.push_back(Call(*upload, bytes, true));
    bare_down.push_back(BareDownload(*bare_stub, bytes));
    our_down.push_back(Call(*download, 0, true));
  }
  Report("upload", bytes, bare_up, our_up);
  Report("download", bytes, bare_down, our_down);
}

}  // namespace
}  // namespace linchpin

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::off);
  const uint64_t mib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 512;
  linchpin::Run(mib << 20, argc > 2 ? std::atoi(argv[2]) : 5);
  return 0;
}
