#include "client/call_token.h"

#include <algorithm>
#include <utility>

#include "client/errors.h"
#include "client/local_files.h"

namespace linchpin {
namespace {

using grpc::experimental::InterceptionHookPoints;

constexpr uint64_t kMaxTokenBytes = 16 << 10;

grpc::Status ReadToken(const std::string& path, std::string& token) {
  const grpc::Status status = ReadLocalFile(path, kMaxTokenBytes, token);
  if (!status.ok()) return status;
  token.erase(token.find_last_not_of(" \t\r\n") + 1);
  const bool sound = !token.empty() && std::all_of(token.begin(), token.end(), [](unsigned char c) {
    return c > 0x20 && c < 0x7f;
  });
  if (sound) return grpc::Status::OK;
  return LocalError(grpc::StatusCode::INVALID_ARGUMENT, "OPTION_INVALID", path,
                    "it does not hold one token", "give a file with a bearer token and no more");
}

class TokenSender final : public grpc::experimental::Interceptor {
 public:
  explicit TokenSender(const std::string& path) : path_(path) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::PRE_SEND_INITIAL_METADATA)) {
      std::string token;
      // Without one the server says what it thinks of that.
      if (ReadToken(path_, token).ok()) {
        methods->GetSendInitialMetadata()->emplace("authorization", "Bearer " + token);
      }
    }
    methods->Proceed();
  }

 private:
  const std::string& path_;  // the factory's, which lives as long as the channel
};

class TokenSenderFactory final : public grpc::experimental::ClientInterceptorFactoryInterface {
 public:
  explicit TokenSenderFactory(std::string path) : path_(std::move(path)) {}
  grpc::experimental::Interceptor* CreateClientInterceptor(
      grpc::experimental::ClientRpcInfo* /*info*/) override {
    return new TokenSender(path_);  // gRPC takes it
  }

 private:
  const std::string path_;
};

}  // namespace

grpc::Status CheckTokenFile(const std::string& path) {
  std::string token;
  return ReadToken(path, token);
}

std::unique_ptr<grpc::experimental::ClientInterceptorFactoryInterface> SendToken(std::string path) {
  return std::make_unique<TokenSenderFactory>(std::move(path));
}

}  // namespace linchpin
