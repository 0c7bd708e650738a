// Serves one page of text over HTTP: what a scraper needs and nothing more.
//
// One thread takes one request at a time and gives each two seconds, so that
// whoever connects can delay others but costs neither memory nor threads.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/statusor.h"

namespace linchpin {

class HttpListener {
 public:
  using Page = std::function<std::string()>;

  // Listens on `address`, "127.0.0.1:9464", "localhost:9464" or "[::]:9464";
  // port 0 takes a free one.  `page`, called in the listener's thread, is
  // served at `path`.  OPTION_INVALID, naming the address, where that fails.
  static absl::StatusOr<std::unique_ptr<HttpListener>> Start(const std::string& address,
                                                             std::string path, Page page);
  // Ends the thread; waits for the request in hand.
  ~HttpListener();
  HttpListener(const HttpListener&) = delete;
  HttpListener& operator=(const HttpListener&) = delete;

  // Where it listens, with the port it got.
  const std::string& address() const { return address_; }

 private:
  HttpListener(int socket, int stop, std::string path, Page page);
  void Run() const;
  void Answer(int connection) const;

  const int socket_;
  const int stop_;  // readable once the thread is to end
  const std::string path_;
  const Page page_;
  std::string address_;
  std::thread thread_;
};

}  // namespace linchpin
