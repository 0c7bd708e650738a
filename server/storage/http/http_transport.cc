#include "storage/http/http_transport.h"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>

#include "base/status.h"
#include "fmt/format.h"

namespace linchpin {
namespace {

constexpr size_t kMaxIdle = 32;
constexpr size_t kMaxErrorBody = size_t{64} << 10;
constexpr int kPollMilliseconds = 100;  // how soon a stop is seen

void InitializeOnce() {
  static const CURLcode result = curl_global_init(CURL_GLOBAL_DEFAULT);
  static_cast<void>(result);
}

struct FreeList {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using List = std::unique_ptr<curl_slist, FreeList>;

void Append(List& list, const std::string& text) {
  list.reset(curl_slist_append(list.release(), text.c_str()));
}

// An easy handle of one call: in curl 7.88 one that is used again still points to the headers of
// its last answer, freed by then, and reads them where the next answer begins with a folded line
// (github.com/curl/curl/pull/11103).
class EasyHandle {
 public:
  EasyHandle() : handle_(curl_easy_init()) {}
  ~EasyHandle() { curl_easy_cleanup(handle_); }
  EasyHandle(const EasyHandle&) = delete;
  EasyHandle& operator=(const EasyHandle&) = delete;

  CURL* get() const { return handle_; }
  template <class T>
  void Set(CURLoption option, T value) {
    curl_easy_setopt(handle_, option, value);
  }

 private:
  CURL* const handle_;
};

// What the callbacks of one exchange know.
struct Call {
  const HttpRequest& request;
  const BodySink& sink;
  const AddressRule& addresses;
  HttpExchange result;
  bool refused = false;
};

size_t OnHeader(char* data, size_t size, size_t count, void* user) {
  auto& response = static_cast<Call*>(user)->result.response;
  std::string_view line(data, size * count);
  while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
  if (line.starts_with("HTTP/")) {
    response.headers.clear();
    return size * count;
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return size * count;
  std::string name(line.substr(0, colon));
  for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  std::string_view value = line.substr(colon + 1);
  while (value.starts_with(' ') || value.starts_with('\t')) value.remove_prefix(1);
  while (value.ends_with(' ') || value.ends_with('\t')) value.remove_suffix(1);
  response.headers[name] = value;
  return size * count;
}

struct BodyTarget {
  Call* call;
  CURL* easy;
};

size_t OnBody(char* data, size_t size, size_t count, void* user) {
  const auto& target = *static_cast<BodyTarget*>(user);
  Call& call = *target.call;
  HttpResponse& response = call.result.response;
  const size_t bytes = size * count;
  long status = 0;
  curl_easy_getinfo(target.easy, CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  if (response.ok() && call.sink) {
    call.result.status = call.sink(response, {reinterpret_cast<const std::byte*>(data), bytes});
    call.result.received += bytes;
    return call.result.status.ok() ? bytes : 0;
  }
  if (!response.ok()) {  // only its beginning is of use
    response.body.append(
        data, std::min(bytes, kMaxErrorBody - std::min(kMaxErrorBody, response.body.size())));
    return bytes;
  }
  if (response.body.size() + bytes > call.request.max_body) {
    call.result.status =
        Error(Reason::kStorageFailed, call.request.what,
              fmt::format("its server answers with more than {} bytes", call.request.max_body));
    return 0;
  }
  response.body.append(data, bytes);
  return bytes;
}

curl_socket_t OnOpenSocket(void* user, curlsocktype, curl_sockaddr* address) {
  auto& call = *static_cast<Call*>(user);
  if (!call.request.any_address && !call.addresses.Allows(address->addr)) {
    call.refused = true;
    return CURL_SOCKET_BAD;
  }
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// A failure of the moment, and not of the request.
bool IsTransient(CURLcode code) {
  constexpr CURLcode kTransient[] = {
      CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_CONNECT,   CURLE_PARTIAL_FILE,
      CURLE_OPERATION_TIMEDOUT,   CURLE_SSL_CONNECT_ERROR, CURLE_GOT_NOTHING,
      CURLE_SEND_ERROR,           CURLE_RECV_ERROR,        CURLE_WEIRD_SERVER_REPLY};
  return std::find(std::begin(kTransient), std::end(kTransient), code) != std::end(kTransient);
}

void SetRequest(const HttpRequest& request, EasyHandle& easy, List& headers) {
  easy.Set(CURLOPT_URL, request.url.Text().c_str());
  easy.Set(CURLOPT_PATH_AS_IS, 1L);
  if (request.method == "HEAD") {
    easy.Set(CURLOPT_NOBODY, 1L);
  } else if (!request.body.empty() || request.method == "PUT" || request.method == "POST") {
    easy.Set(CURLOPT_POST, 1L);
    easy.Set(CURLOPT_POSTFIELDS,
             request.body.empty() ? "" : reinterpret_cast<const char*>(request.body.data()));
    easy.Set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
  }
  if (request.method != "HEAD") easy.Set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
  bool typed = request.body.empty();
  for (const auto& [name, value] : request.headers) {
    typed = typed || name == "Content-Type";
    // An empty value is only sent where the name ends in a semicolon.
    Append(headers, value.empty() ? name + ";" : fmt::format("{}: {}", name, value));
  }
  Append(headers, "Expect:");
  Append(headers, "User-Agent: linchpin");
  if (!typed) Append(headers, "Content-Type: application/octet-stream");
  easy.Set(CURLOPT_HTTPHEADER, headers.get());
}

void SetRules(const HttpOptions& options, EasyHandle& easy, List& resolve) {
  easy.Set(CURLOPT_PROTOCOLS_STR, "http,https");
  easy.Set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  easy.Set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  easy.Set(CURLOPT_PROXY, "");  // one would hide the address that is checked
  easy.Set(CURLOPT_NOSIGNAL, 1L);
  easy.Set(CURLOPT_QUICK_EXIT, 1L);  // a stop does not wait for a name server
  easy.Set(CURLOPT_CONNECTTIMEOUT, static_cast<long>(options.connect_timeout.count()));
  easy.Set(CURLOPT_LOW_SPEED_LIMIT, options.slowest_bytes_per_second);
  easy.Set(CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.slow_for.count()));
  easy.Set(CURLOPT_BUFFERSIZE, 256L << 10);
  if (!options.ca_file.empty()) easy.Set(CURLOPT_CAINFO, options.ca_file.c_str());
  for (const std::string& entry : options.resolve) Append(resolve, entry);
  if (resolve != nullptr) easy.Set(CURLOPT_RESOLVE, resolve.get());
}

}  // namespace

// A multi handle, which keeps the connections from one call to the next.
class HttpTransport::Connection {
 public:
  Connection() : multi_(curl_multi_init()) {}
  ~Connection() { curl_multi_cleanup(multi_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Run(const HttpOptions& options, Call& call, const std::stop_token& stop) {
    List headers;
    List resolve;
    char error[CURL_ERROR_SIZE] = {};
    BodyTarget target{&call, nullptr};
    EasyHandle easy;  // ends before what it points to
    target.easy = easy.get();
    SetRequest(call.request, easy, headers);
    SetRules(options, easy, resolve);
    easy.Set(CURLOPT_ERRORBUFFER, error);
    easy.Set(CURLOPT_HEADERFUNCTION, &OnHeader);
    easy.Set(CURLOPT_HEADERDATA, &call);
    easy.Set(CURLOPT_WRITEFUNCTION, &OnBody);
    easy.Set(CURLOPT_WRITEDATA, &target);
    easy.Set(CURLOPT_OPENSOCKETFUNCTION, &OnOpenSocket);
    easy.Set(CURLOPT_OPENSOCKETDATA, &call);
    const CURLcode code = Perform(easy.get(), stop);
    long status = 0;
    curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &status);
    call.result.response.status = static_cast<int>(status);
    Judge(code, error, stop, call);
  }

 private:
  CURLcode Perform(CURL* easy, const std::stop_token& stop) {
    curl_multi_add_handle(multi_, easy);
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    int running = 1;
    while (!stop.stop_requested() && curl_multi_perform(multi_, &running) == CURLM_OK) {
      if (running == 0) {
        int left = 0;
        if (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
          code = message->data.result;
        }
        break;
      }
      curl_multi_poll(multi_, nullptr, 0, kPollMilliseconds, nullptr);
    }
    curl_multi_remove_handle(multi_, easy);
    return code;
  }

  static void Judge(CURLcode code, const char* error, const std::stop_token& stop, Call& call) {
    HttpExchange& result = call.result;
    if (!result.status.ok() || code == CURLE_OK) return;  // the sink's verdict comes first
    const std::string& what = call.request.what;
    if (stop.stop_requested()) {
      result.status = Error(Reason::kCancelled, what, "stopped as asked");
    } else if (call.refused) {
      result.status = Error(Reason::kPathNotAllowed, what,
                            "its host has an address that may not be connected to",
                            "ask the operator to allow it");
    } else {
      result.transient = IsTransient(code);
      result.status = Error(Reason::kStorageFailed, what,
                            fmt::format("{}", *error != '\0' ? error : curl_easy_strerror(code)),
                            "check the network and the server's certificate, and try again");
    }
  }

  CURLM* const multi_;
};

HttpTransport::HttpTransport(HttpOptions options) : options_(std::move(options)) {
  InitializeOnce();
}

HttpTransport::~HttpTransport() = default;

std::unique_ptr<HttpTransport::Connection> HttpTransport::Take(Pool& pool) {
  const std::lock_guard lock(mutex_);
  if (pool.empty()) return std::make_unique<Connection>();
  std::unique_ptr<Connection> connection = std::move(pool.back());
  pool.pop_back();
  return connection;
}

void HttpTransport::GiveBack(std::unique_ptr<Connection> connection, Pool& pool) {
  const std::lock_guard lock(mutex_);
  if (pool.size() < kMaxIdle) pool.push_back(std::move(connection));
}

HttpExchange HttpTransport::Exchange(const HttpRequest& request, const BodySink& sink,
                                     const std::stop_token& stop) {
  Call call{request, sink, options_.addresses, {}};
  std::unique_ptr<Connection> connection = Take(PoolOf(request));
  connection->Run(options_, call, stop);
  GiveBack(std::move(connection), PoolOf(request));
  if (options_.observer) {
    options_.observer(request.store, call.result.status.ok() ? call.result.response.status : 0);
  }
  return std::move(call.result);
}

}  // namespace linchpin
