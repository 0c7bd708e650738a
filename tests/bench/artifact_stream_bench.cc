// CompressArtifact's protocol against a bare gRPC stream of the same messages, both
// on loopback, in turn, both ends in one process:
//
//     artifact_stream_bench [MiB [ROUNDS]]
//
// The engine behind CompressArtifact does nothing but read, or write, one file, so
// that what is measured is the way of the bytes: framing, offsets, digests both
// ways, admission, the place where they lie.  Like the real engine, it tells the
// digest of what it wrote from the time of writing.
//
// The bare stream has a process of its own with everything as gRPC and glibc have
// it; "allocator alike" is the same stream with the allocator set as both of our
// programs set it.
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <memory>
#include <semaphore>
#include <string>
#include <vector>

#include "artifact/digest.h"
#include "fmt/format.h"
#include "jobs/worker_pool.h"
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

// A digest in a thread of its own, as the client takes it.
class DigestBeside {
 public:
  void Update(std::string bytes) {
    room_.acquire();
    worker_->Submit([this, held = std::make_shared<std::string>(std::move(bytes))] {
      sha_.Update({reinterpret_cast<const std::byte*>(held->data()), held->size()});
      room_.release();
    });
  }
  std::string Hex() {
    worker_.reset();
    return sha_.Hex();
  }

 private:
  Sha256 sha_;
  std::counting_semaphore<> room_{4};
  std::unique_ptr<WorkerPool> worker_ = std::make_unique<WorkerPool>(1);
};

// Reads nothing of the source; writes `bytes` of output.
Engine WritingEngine(uint64_t bytes) {
  const std::string sha256 = Sha256Hex(std::string(bytes, '\0'));
  Engine engine;
  engine.survey = [](const Storage&, const std::string&, int, const TokenLoad&) {
    return SourceSurvey{.memory_bytes = 1};
  };
  engine.compress = [bytes, sha256](const Storage&, const std::string&, const Storage& storage,
                                    const std::string& destination, const CompressOptions&,
                                    const RunContext&) -> absl::StatusOr<CompressResult> {
    ASSIGN_OR_RETURN(const auto output, storage.CreateDirectory(destination, false));
    RETURN_IF_ERROR(output->CreateFile("weights", bytes).status());
    RETURN_IF_ERROR(output->Commit());
    return CompressResult{.files = {{"weights", bytes, sha256}}};
  };
  return engine;
}

void SendFile(grpc::ClientReaderWriter<Request, Response>& stream, uint64_t bytes) {
  Request message;
  message.mutable_options();
  stream.Write(message);
  message.mutable_file()->set_name("weights");
  message.mutable_file()->set_size(bytes);
  stream.Write(message);
  DigestBeside digest;
  const std::string data(kChunk, 'w');
  for (uint64_t offset = 0; offset < bytes; offset += kChunk) {
    message.mutable_chunk()->set_offset(offset);
    message.mutable_chunk()->set_data(data);
    stream.Write(message);
    digest.Update(std::move(*message.mutable_chunk()->mutable_data()));
  }
  message.mutable_end()->set_sha256(digest.Hex());
  stream.Write(message);
  message.mutable_finish();
  stream.Write(message);
  stream.WritesDone();
}

[[noreturn]] void Fail(const std::string& why) {
  fmt::print(stderr, "{}\n", why);
  std::exit(1);
}

// One call that sends `up` bytes and takes whatever comes back.
Cost Call(v1::CompressionService::Stub& stub, uint64_t up) {
  return CostOf([&] {
    grpc::ClientContext context;
    const auto stream = stub.CompressArtifact(&context);
    SendFile(*stream, up);
    DigestBeside digest;
    for (Response message; stream->Read(&message);) {
      if (message.has_chunk()) digest.Update(std::move(*message.mutable_chunk()->mutable_data()));
      if (message.has_end() && message.end().sha256() != digest.Hex()) Fail("a wrong digest");
    }
    const grpc::Status status = stream->Finish();
    if (!status.ok()) Fail(status.error_message());
  });
}

using Costs = std::vector<Cost>;

double Median(Costs costs, double Cost::*part) {
  std::sort(costs.begin(), costs.end(),
            [&](const Cost& a, const Cost& b) { return a.*part < b.*part; });
  return costs[costs.size() / 2].*part;
}

void Report(const char* way, uint64_t bytes, const Costs& bare, const Costs& alike,
            const Costs& ours) {
  const double mib = static_cast<double>(bytes >> 20);
  for (const auto& [name, part] : {std::pair("wall", &Cost::wall), {"CPU", &Cost::cpu}}) {
    const auto rate = [&, part = part](const Costs& costs) { return mib / Median(costs, part); };
    fmt::print(
        "{:8} per {:4} second: bare {:5.0f} MiB, allocator alike {:5.0f} MiB, CompressArtifact "
        "{:5.0f} MiB, {:.0f} % of bare\n",
        way, name, rate(bare), rate(alike), rate(ours), 100 * rate(ours) / rate(bare));
  }
}

// What no arrangement can save: each byte is digested once at each end.
void ReportDigest(uint64_t bytes) {
  const std::string data(kChunk, 'w');
  Sha256 sha;
  const Cost cost = CostOf([&] {
    for (uint64_t done = 0; done < bytes; done += kChunk) {
      sha.Update({reinterpret_cast<const std::byte*>(data.data()), data.size()});
    }
  });
  fmt::print("SHA-256  per CPU  second: {:5.0f} MiB\n",
             static_cast<double>(bytes >> 20) / cost.cpu);
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

// A bare server and its caller.
class BarePair {
 public:
  BarePair() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&service_);
    server_ = builder.BuildAndStart();
    stub_ = StubFor(fmt::format("127.0.0.1:{}", port));
  }
  Cost Upload(uint64_t bytes) { return BareUpload(*stub_, bytes); }
  Cost Download(uint64_t bytes) { return BareDownload(*stub_, bytes); }

 private:
  BareStream service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<v1::CompressionService::Stub> stub_;
};

// The same in a process of its own, which is asked through pipes.  Made before gRPC
// starts a thread.
class BareProcess {
 public:
  explicit BareProcess(uint64_t bytes) {
    int ask[2];
    int answer[2];
    if (pipe(ask) != 0 || pipe(answer) != 0) Fail("no pipe");
    if (fork() == 0) {
      close(ask[1]);
      Serve(bytes, ask[0], answer[1]);
    }
    close(ask[0]);
    ask_ = ask[1];
    answer_ = answer[0];
  }
  Cost Measure(char way) const {
    Cost cost;
    if (write(ask_, &way, 1) != 1 || read(answer_, &cost, sizeof cost) != sizeof cost) {
      Fail("the bare stream is gone");
    }
    return cost;
  }

 private:
  [[noreturn]] static void Serve(uint64_t bytes, int ask, int answer) {
    BarePair bare;
    for (char way = 0; read(ask, &way, 1) == 1;) {
      const Cost cost = way == 'u' ? bare.Upload(bytes) : bare.Download(bytes);
      if (write(answer, &cost, sizeof cost) != sizeof cost) break;
    }
    std::_Exit(0);
  }

  int ask_ = -1;
  int answer_ = -1;
};

// As main.cc of both programs does.
void SetAllocator() {
  constexpr int kKeptFreeBytes = 32 << 20;
  mallopt(M_ARENA_MAX, 4);
  mallopt(M_TRIM_THRESHOLD, kKeptFreeBytes);
  mallopt(M_MMAP_THRESHOLD, kKeptFreeBytes);
}

void Run(uint64_t bytes, int rounds) {
  const BareProcess bare(bytes);
  SetAllocator();
  BarePair alike;
  const RunningServerOptions options{
      .memory = 4 * bytes, .max_artifact_bytes = 2 * bytes, .listen = "127.0.0.1:0"};
  const Engine small = WritingEngine(0);
  RunningServer taking(small, options);
  const auto upload = StubFor(taking.address());

  // The output may be as large as what was sent, so what a download needs is not announced.
  const Engine large = WritingEngine(bytes);
  RunningServer giving(large, options);
  const auto download = StubFor(giving.address());

  Costs bare_up, alike_up, our_up, bare_down, alike_down, our_down;
  for (int i = 0; i < rounds; ++i) {
    bare_up.push_back(bare.Measure('u'));
    alike_up.push_back(alike.Upload(bytes));
    our_up.push_back(Call(*upload, bytes));
    bare_down.push_back(bare.Measure('d'));
    alike_down.push_back(alike.Download(bytes));
    our_down.push_back(Call(*download, 0));
  }
  Report("upload", bytes, bare_up, alike_up, our_up);
  Report("download", bytes, bare_down, alike_down, our_down);
  ReportDigest(bytes);
}

}  // namespace
}  // namespace linchpin

int main(int argc, char** argv) {
  spdlog::set_level(spdlog::level::off);
  const uint64_t mib = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 512;
  linchpin::Run(mib << 20, argc > 2 ? std::atoi(argv[2]) : 5);
  return 0;
}
