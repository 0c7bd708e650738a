// Who is let in, through a real channel: tokens, certificates, policies.
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "gmock/gmock.h"
#include "grpcpp/generic/generic_stub.h"
#include "gtest/gtest.h"
#include "service/rpc_metrics.h"
#include "tests/support/certificates.h"
#include "tests/support/fake_engine.h"
#include "tests/support/health_client.h"
#include "tests/support/patience.h"
#include "tests/support/running_server.h"
#include "tests/support/signed_tokens.h"

namespace linchpin {
namespace {

using grpc::StatusCode;

class IdentityTest : public testing::Test {
 protected:
  GateSettings WithTokens(const std::string& policy = {}) {
    GateSettings settings;
    settings.token_keys = directory_.Write("keys.json", issuer_.KeySet());
    settings.token_rules = {.issuer = "issuer", .audience = "linchpin"};
    if (!policy.empty()) settings.policy = directory_.Write("policy.json", policy);
    return settings;
  }
  // A context with a deadline and, for a `subject`, its token.
  std::unique_ptr<grpc::ClientContext> Context(const std::string& subject = {}) {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() + kPatience);
    if (!subject.empty()) {
      context->AddMetadata("authorization", "Bearer " + issuer_.TokenFor(subject));
    }
    return context;
  }
  grpc::Status Capabilities(const RunningServer& server, grpc::ClientContext& context) {
    v1::GetCapabilitiesResponse response;
    return server.stub()->GetCapabilities(&context, {}, &response);
  }
  grpc::Status Detect(const RunningServer& server, const std::string& source,
                      const std::string& subject) {
    const auto context = Context(subject);
    v1::DetectSuperWeightsRequest request;
    request.set_source(source);
    auto reader = server.stub()->DetectSuperWeights(context.get(), request);
    for (v1::DetectSuperWeightsResponse message; reader->Read(&message);) {
    }
    return reader->Finish();
  }

  TemporaryDirectory directory_;
  TokenIssuer issuer_{"ES256"};
  FakeEngine fake_;
};

// The status of a method of any service, called with an empty message.
grpc::Status CallAnything(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
                          grpc::ClientContext& context) {
  grpc::GenericStub stub(channel);
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareCall(&context, method, &queue);
  const auto wait = [&] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  call->StartCall(nullptr);
  wait();
  const grpc::Slice empty(nullptr, 0);
  call->WriteLast(grpc::ByteBuffer(&empty, 1), {}, nullptr);
  wait();
  grpc::ByteBuffer answer;
  do {
    call->Read(&answer, nullptr);
  } while (wait());
  grpc::Status status;
  call->Finish(&status, nullptr);
  wait();
  return status;
}

TEST_F(IdentityTest, NoMethodAnswersWithoutATokenBesideWhatIsOpen) {
  RunningServer server(fake_.engine(), {.listen = "127.0.0.1:0", .gate = WithTokens()});
  const auto methods = ServedMethods();
  ASSERT_GT(methods.size(), 8U);
  for (const RpcMethod& method : methods) {
    const auto context = Context();
    if (method.service == "grpc.health.v1.Health") continue;
    const grpc::Status status =
        CallAnything(server.channel(), "/" + method.service + "/" + method.method, *context);
    EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED) << method.service << method.method;
    if (method.service.starts_with("linchpin.")) {
      EXPECT_EQ(RichErrorOf(status).info.reason(), "UNAUTHENTICATED") << method.method;
    }
  }
  EXPECT_EQ(CallAnything(server.channel(), "/no.such.Service/Method", *Context()).error_code(),
            StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(CheckHealth(server.channel(), ""), Health::kServing);
  EXPECT_EQ(server.Metric("linchpin_security_rejections_total", "unauthenticated"),
            methods.size() - 2 + 1);
}

TEST_F(IdentityTest, ATokenLetsInOverLoopbackAndSockets) {
  for (const char* listen : {"127.0.0.1:0", ""}) {
    RunningServer server(fake_.engine(), {.listen = listen, .gate = WithTokens()});
    const grpc::Status status = Capabilities(server, *Context("somebody"));
    EXPECT_TRUE(status.ok()) << listen << ": " << status.error_message();
    const auto wrong = Context();
    wrong->AddMetadata("authorization", "Bearer " + TokenIssuer("ES256").TokenFor("somebody"));
    EXPECT_EQ(Capabilities(server, *wrong).error_code(), StatusCode::UNAUTHENTICATED) << listen;
  }
}

TEST_F(IdentityTest, TheOwnerOfTheSocketNeedsNoToken) {
  RunningServer server(fake_.engine(), {.gate = WithTokens()});
  EXPECT_TRUE(Capabilities(server, *Context()).ok());
}

TEST_F(IdentityTest, ThePolicyBoundsMethodsPathsAndSizes) {
  RunningServer server(fake_.engine(), {.gate = WithTokens(R"({"identities": {
      "token:reader": {"rpcs": ["DetectSuperWeights"], "sources": ["/allowed"],
                       "max_job_bytes": 1000}, "token:nothing": {"rpcs": []}}})")});
  EXPECT_EQ(Capabilities(server, *Context("reader")).error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(Capabilities(server, *Context("nothing")).error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_EQ(Capabilities(server, *Context("stranger")).error_code(), StatusCode::PERMISSION_DENIED);
  for (const RpcMethod& method : ServedMethods()) {
    if (!method.service.starts_with("linchpin.")) continue;
    const grpc::Status status = CallAnything(
        server.channel(), "/" + method.service + "/" + method.method, *Context("nothing"));
    EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED) << method.method;
    EXPECT_EQ(RichErrorOf(status).info.reason(), "POLICY_REFUSED") << method.method;
  }
  EXPECT_TRUE(Detect(server, "/allowed/model", "reader").ok());
  for (const char* source : {"/secret/model", "/allowed/../secret", "/allowed-not/model"}) {
    const grpc::Status status = Detect(server, source, "reader");
    EXPECT_EQ(RichErrorOf(status).info.reason(), "PATH_NOT_ALLOWED") << source;
    EXPECT_THAT(status.error_message(), testing::Not(testing::HasSubstr("secret")));
  }
  fake_.set_source_bytes(1001);
  const RichError large = RichErrorOf(Detect(server, "/allowed/model", "reader"));
  EXPECT_EQ(large.info.reason(), "POLICY_REFUSED");
  EXPECT_EQ(large.info.metadata().at("limit_bytes"), "1000");
}

TEST_F(IdentityTest, TheDonorOfAGgufFileIsBoundByThePolicyAsTheSourceIs) {
  RunningServer server(fake_.engine(), {.gate = WithTokens(R"({"identities": {
      "token:reader": {"rpcs": ["PlanCompression"], "sources": ["/allowed"]}}})")});
  const auto plan = [&](const std::string& donor) {
    const auto context = Context("reader");
    v1::PlanCompressionRequest request;
    v1::PlanCompressionResponse response;
    request.set_source("/allowed/model");
    request.mutable_quantization()->set_format(v1::OUTPUT_FORMAT_GGUF);
    request.mutable_quantization()->set_scheme(v1::SCHEME_Q4_1);
    request.mutable_quantization()->set_gguf_donor(donor);
    return server.stub()->PlanCompression(context.get(), request, &response);
  };
  EXPECT_TRUE(plan("/allowed/donor.gguf").ok());
  EXPECT_EQ(RichErrorOf(plan("/secret/donor.gguf")).info.reason(), "PATH_NOT_ALLOWED");
}

TEST_F(IdentityTest, AnUploadIsHeldToTheSizeThatThePolicyGives) {
  RunningServer server(fake_.engine(), {.gate = WithTokens(R"({"identities": {
      "token:small": {"max_job_bytes": 10}}})")});
  const auto context = Context("small");
  auto stream = server.stub()->CompressArtifact(context.get());
  v1::CompressArtifactRequest options, file;
  options.mutable_options();
  file.mutable_file()->set_name("model.safetensors");
  file.mutable_file()->set_size(11);
  stream->Write(options);
  stream->Write(file);
  EXPECT_EQ(RichErrorOf(stream->Finish()).info.reason(), "POLICY_REFUSED");
}

class CertificateTest : public IdentityTest {
 protected:
  RunningServerOptions Options(const GateSettings& gate) {
    server_pair_ = MakeCertificate(authority_);
    directory_.Write("tls.crt", server_pair_.certificate);
    directory_.Write("tls.key", server_pair_.key);
    return {.listen = "127.0.0.1:0",
            .tls = {.certificate = directory_ / "tls.crt",
                    .key = directory_ / "tls.key",
                    .client_ca = directory_.Write("ca.crt", authority_.certificate),
                    .reload_seconds = 1},
            .gate = gate};
  }
  // Another certificate for the same key, at once: a reader between two writes
  // would meet a pair that is none.
  void ReplaceCertificate(const TestCertificate& authority) {
    const std::string next =
        directory_.Write("next.crt", MakeCertificate(authority, "", server_pair_.key).certificate);
    std::filesystem::rename(next, directory_ / "tls.crt");
  }
  // A call over a connection of its own.
  grpc::Status Call(const RunningServer& server, const TestCertificate& client,
                    const std::string& roots) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto stub = v1::CompressionService::NewStub(
        grpc::CreateCustomChannel(server.address(),
                                  grpc::SslCredentials({.pem_root_certs = roots,
                                                        .pem_private_key = client.key,
                                                        .pem_cert_chain = client.certificate}),
                                  arguments));
    v1::GetCapabilitiesResponse response;
    return stub->GetCapabilities(Context().get(), {}, &response);
  }

  TestCertificate authority_ = MakeAuthority("authority");
  TestCertificate server_pair_;
};

TEST_F(CertificateTest, OnlyListedNamesAreLetIn) {
  GateSettings gate;
  gate.certificate_names = {"spiffe://cluster/pipeline", "pipeline.example.org"};
  RunningServer server(fake_.engine(), Options(gate));
  const auto code = [&](const std::string& names) {
    return Call(server, MakeCertificate(authority_, names), authority_.certificate).error_code();
  };
  EXPECT_EQ(code("URI:spiffe://cluster/pipeline"), StatusCode::OK);
  EXPECT_EQ(code("DNS:other,DNS:pipeline.example.org"), StatusCode::OK);
  EXPECT_EQ(code("URI:spiffe://cluster/pipeline2"), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(code("DNS:x.pipeline.example.org"), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(code(""), StatusCode::UNAUTHENTICATED);
}

// New connections meet the new certificate; calls that run do not notice.
TEST_F(CertificateTest, IsReplacedUnderLoad) {
  RunningServer server(fake_.engine(), Options({}));
  const TestCertificate client = MakeCertificate(authority_);
  const TestCertificate next = MakeAuthority("next");
  const std::string both = authority_.certificate + next.certificate;
  std::atomic<int> served = 0, failed = 0;
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 2; ++i) {
      callers.emplace_back([&](const std::stop_token& stop) {
        while (!stop.stop_requested()) ++(Call(server, client, both).ok() ? served : failed);
      });
    }
    EXPECT_TRUE(Comes([&] { return served >= 3; }));
    ReplaceCertificate(next);
    EXPECT_TRUE(Comes([&] { return Call(server, client, next.certificate).ok(); }));
    const int before = served;
    EXPECT_TRUE(Comes([&] { return served >= before + 3; }));
  }
  EXPECT_EQ(failed, 0);
  EXPECT_FALSE(Call(server, client, authority_.certificate).ok());
}

}  // namespace
}  // namespace linchpin
