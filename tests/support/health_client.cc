#include "tests/support/health_client.h"

#include <chrono>

#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/support/byte_buffer.h"
#include "tests/support/patience.h"

namespace linchpin {
namespace {

grpc::ByteBuffer Bytes(const std::string& text) {
  const grpc::Slice slice(text);
  return grpc::ByteBuffer(&slice, 1);
}

std::string Text(const grpc::ByteBuffer& bytes) {
  std::vector<grpc::Slice> slices;
  std::string text;
  if (!bytes.Dump(&slices).ok()) return text;
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

// One request, one response, whatever the kind of the method.
grpc::Status Exchange(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                      const std::string& request, std::string& response) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + kPatience);
  grpc::CompletionQueue queue;
  grpc::GenericStub stub(channel);
  const auto call = stub.PrepareCall(&context, method, &queue);
  const auto await = [&] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  grpc::ByteBuffer answer;
  grpc::Status status;
  call->StartCall(nullptr);
  if (await()) {
    call->WriteLast(Bytes(request), grpc::WriteOptions(), nullptr);
    if (await()) {
      call->Read(&answer, nullptr);
      if (await()) response = Text(answer);
    }
  }
  call->Finish(&status, nullptr);
  await();
  queue.Shutdown();
  void* tag = nullptr;
  for (bool ok = false; queue.Next(&tag, &ok);) {
  }
  return status;
}

}  // namespace

Health CheckHealth(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  std::string request;  // HealthCheckRequest{service}: field 1, a string
  if (!service.empty()) request = "\x0a" + std::string(1, char(service.size())) + service;
  std::string response;  // HealthCheckResponse{status}: field 1, a varint
  const grpc::Status status = Exchange(channel, "/grpc.health.v1.Health/Check", request, response);
  if (status.error_code() == grpc::StatusCode::NOT_FOUND) return Health::kUnknown;
  if (!status.ok()) return Health::kUnreachable;
  return response.size() == 2 ? static_cast<Health>(response[1]) : Health::kUnknown;
}

std::string ListServices(const std::shared_ptr<grpc::Channel>& channel) {
  std::string response;
  Exchange(channel, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
           std::string("\x3a\x01*", 3), response);  // list_services: field 7, a string
  return response;
}

}  // namespace linchpin
