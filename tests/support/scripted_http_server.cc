#include "tests/support/scripted_http_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "fmt/format.h"

namespace linchpin {
namespace {

std::shared_ptr<void> TlsContext(const TestCertificate& identity) {
  SSL_CTX* const context = SSL_CTX_new(TLS_server_method());
  BIO* const certificate = BIO_new_mem_buf(identity.certificate.data(), -1);
  BIO* const key = BIO_new_mem_buf(identity.key.data(), -1);
  X509* const parsed = PEM_read_bio_X509(certificate, nullptr, nullptr, nullptr);
  EVP_PKEY* const parsed_key = PEM_read_bio_PrivateKey(key, nullptr, nullptr, nullptr);
  SSL_CTX_use_certificate(context, parsed);
  SSL_CTX_use_PrivateKey(context, parsed_key);
  X509_free(parsed);
  EVP_PKEY_free(parsed_key);
  BIO_free(certificate);
  BIO_free(key);
  return {context, [](void* owned) { SSL_CTX_free(static_cast<SSL_CTX*>(owned)); }};
}

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// Takes a request with its body from `text`; false if it is not all there yet.
bool TakeRequest(std::string& text, ScriptedRequest& request) {
  const size_t end = text.find("\r\n\r\n");
  if (end == std::string::npos) return false;
  size_t at = text.find(' ');
  request.method = text.substr(0, at);
  request.target = text.substr(at + 1, text.find(' ', at + 1) - at - 1);
  for (at = text.find("\r\n"); at < end;) {
    const size_t next = text.find("\r\n", at + 2);
    const std::string line = text.substr(at + 2, next - at - 2);
    const size_t colon = line.find(':');
    if (colon != std::string::npos) {
      request.headers[Lower(line.substr(0, colon))] =
          line.substr(std::min(line.find_first_not_of(' ', colon + 1), line.size()));
    }
    at = next;
  }
  const auto length = request.headers.find("content-length");
  const size_t body = length == request.headers.end() ? 0 : std::stoul(length->second);
  if (text.size() < end + 4 + body) return false;
  request.body = text.substr(end + 4, body);
  text.erase(0, end + 4 + body);
  return true;
}

}  // namespace

// One connection, plain or under TLS.
class ScriptedHttpServer::Stream {
 public:
  Stream(int socket, SSL_CTX* tls) : socket_(socket) {
    const timeval patience{0, 50'000};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (tls == nullptr) return;
    ssl_ = SSL_new(tls);
    SSL_set_fd(ssl_, socket_);
  }
  ~Stream() {
    if (ssl_ != nullptr) SSL_free(ssl_);
    close(socket_);
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  bool Accept(const std::atomic<bool>& ending) {
    while (ssl_ != nullptr && !ending) {
      const int result = SSL_accept(ssl_);
      if (result == 1) return true;
      if (SSL_get_error(ssl_, result) != SSL_ERROR_WANT_READ) return false;
    }
    return !ending;
  }
  // Appends what comes within a moment; false when the other side is gone.
  bool Read(std::string& text) {
    char buffer[1 << 16];
    const long count = ssl_ != nullptr ? SSL_read(ssl_, buffer, sizeof(buffer))
                                       : recv(socket_, buffer, sizeof(buffer), 0);
    if (count > 0) return text.append(buffer, static_cast<size_t>(count)), true;
    if (ssl_ != nullptr) {
      return SSL_get_error(ssl_, static_cast<int>(count)) == SSL_ERROR_WANT_READ;
    }
    return count < 0 && (errno == EAGAIN || errno == EINTR);
  }
  bool Write(std::string_view bytes) {
    while (!bytes.empty()) {
      const long count = ssl_ != nullptr
                             ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                             : send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(count));
    }
    return true;
  }
  // Closing will send RST in place of FIN.
  void ResetAtClose() {
    const linger now{1, 0};
    setsockopt(socket_, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
  }

 private:
  const int socket_;
  SSL* ssl_ = nullptr;
};

ScriptedReply Answer(int status, const std::string& body, const std::vector<std::string>& headers) {
  ScriptedReply reply;
  reply.bytes = fmt::format("HTTP/1.1 {} X\r\nContent-Length: {}\r\n", status, body.size());
  for (const std::string& header : headers) reply.bytes += header + "\r\n";
  reply.bytes += "\r\n" + body;
  return reply;
}

ScriptedReply ServeFile(const ScriptedRequest& request, const std::string& content,
                        const std::string& etag) {
  const auto header = [&](const char* name) {
    const auto found = request.headers.find(name);
    return found == request.headers.end() ? std::string() : found->second;
  };
  if (!header("if-match").empty() && header("if-match") != etag) return Answer(412);
  unsigned long first = 0, last = 0;
  if (std::sscanf(header("range").c_str(), "bytes=%lu-%lu", &first, &last) != 2) {
    return Answer(200, content, {"ETag: " + etag});
  }
  if (first >= content.size()) {
    return Answer(416, "", {fmt::format("Content-Range: bytes */{}", content.size())});
  }
  last = std::min<unsigned long>(last, content.size() - 1);
  return Answer(
      206, content.substr(first, last - first + 1),
      {fmt::format("Content-Range: bytes {}-{}/{}", first, last, content.size()), "ETag: " + etag});
}

ScriptedHttpServer::ScriptedHttpServer(Script script, const TestCertificate* tls)
    : script_(std::move(script)) {
  std::signal(SIGPIPE, SIG_IGN);  // of writes under TLS
  if (tls != nullptr) tls_ = TlsContext(*tls);
  listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (bind(listener_, reinterpret_cast<sockaddr*>(&address), size) == 0 &&
      listen(listener_, 64) == 0 &&
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size) == 0) {
    port_ = ntohs(address.sin_port);
  }
  acceptor_ = std::thread([this] { Accept(); });
}

ScriptedHttpServer::~ScriptedHttpServer() {
  ending_ = true;
  acceptor_.join();
  close(listener_);
  for (std::thread& thread : threads_) thread.join();
}

std::vector<ScriptedRequest> ScriptedHttpServer::requests() const {
  const std::lock_guard lock(mutex_);
  return requests_;
}

void ScriptedHttpServer::Accept() {
  while (!ending_) {
    pollfd ready{listener_, POLLIN, 0};
    if (poll(&ready, 1, 20) <= 0) continue;
    const int socket = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (socket < 0) continue;
    ++connections_;
    const std::lock_guard lock(mutex_);
    threads_.emplace_back([this, socket] { Serve(socket); });
  }
}

void ScriptedHttpServer::Serve(int socket) {
  Stream stream(socket, static_cast<SSL_CTX*>(tls_.get()));
  std::string text;
  if (!stream.Accept(ending_)) return;
  while (!ending_) {
    ScriptedRequest request;
    if (!TakeRequest(text, request)) {
      if (!stream.Read(text)) return;
      continue;
    }
    ScriptedReply reply;
    {
      const std::lock_guard lock(mutex_);
      request.number = static_cast<int>(requests_.size());
      requests_.push_back(request);
      reply = script_(request);
    }
    if (!Reply(stream, reply)) return;
  }
}

bool ScriptedHttpServer::Reply(Stream& stream, const ScriptedReply& reply) {
  const size_t step = reply.drip == 0 ? reply.bytes.size() : reply.drip;
  for (size_t at = 0; at < reply.bytes.size() && !ending_; at += step) {
    if (!stream.Write(std::string_view(reply.bytes).substr(at, step))) return false;
    if (reply.drip != 0) std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  if (reply.then == ScriptedReply::Then::kReset) stream.ResetAtClose();
  std::string ignored;
  while (reply.then == ScriptedReply::Then::kStall && !ending_ && stream.Read(ignored)) {
  }
  return reply.then == ScriptedReply::Then::kKeep;
}

}  // namespace linchpin
