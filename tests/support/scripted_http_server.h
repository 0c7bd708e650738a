// An HTTP server that does what a test says, however wrong, over TCP or TLS.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/certificates.h"

namespace linchpin {

struct ScriptedRequest {
  int number = 0;  // counted from 0 over the server's life
  std::string method;
  std::string target;                          // "/path?query"
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
};

struct ScriptedReply {
  enum class Then { kKeep, kClose, kReset, kStall };

  std::string bytes;  // status line, headers and body as they are sent
  Then then = Then::kKeep;
  size_t drip = 0;  // bytes every 50 ms instead of all at once
};

// A well-formed reply with its Content-Length.
ScriptedReply Answer(int status, const std::string& body = {},
                     const std::vector<std::string>& headers = {});

// The reply of a good server for a file: ranges, If-Match, ETag.
ScriptedReply ServeFile(const ScriptedRequest& request, const std::string& content,
                        const std::string& etag = "\"v1\"");

class ScriptedHttpServer {
 public:
  // Called by several threads, one at a time.
  using Script = std::function<ScriptedReply(const ScriptedRequest&)>;

  // On a free port of 127.0.0.1; with `tls` it speaks TLS with that certificate.
  explicit ScriptedHttpServer(Script script, const TestCertificate* tls = nullptr);
  ~ScriptedHttpServer();

  int port() const { return port_; }
  std::vector<ScriptedRequest> requests() const;
  // Connections that were opened.
  int connections() const { return connections_; }

 private:
  class Stream;
  void Accept();
  void Serve(int socket);
  bool Reply(Stream& stream, const ScriptedReply& reply);

  const Script script_;
  std::shared_ptr<void> tls_;  // an SSL_CTX
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> ending_ = false;
  std::atomic<int> connections_ = 0;
  mutable std::mutex mutex_;
  std::vector<ScriptedRequest> requests_;  // guarded by mutex_
  std::vector<std::thread> threads_;       // guarded by mutex_
  std::thread acceptor_;
};

}  // namespace linchpin
