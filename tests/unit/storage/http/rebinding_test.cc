// What a name server can do to requests: the address that is checked is the one that is connected
// to, whatever it answers, however often it is asked, and wherever redirects and repetitions lead.
//
// In this program names are resolved as a test says, and every connection is written down.
#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "storage/http/http_client.h"
#include "tests/support/free_port.h"
#include "tests/support/patience.h"
#include "tests/support/scripted_http_server.h"

namespace linchpin {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Stands for a public address: the only one that is allowed here.
constexpr char kAllowed[] = "127.0.0.1";
constexpr char kMetadata[] = "169.254.169.254";
constexpr char kInside[] = "127.0.0.2";

// The name server.  Thread-safe.
class Resolver {
 public:
  // What the n-th question for a name, from 0, is answered.
  using Answers = std::function<std::vector<std::string>(int question)>;

  void Set(const std::string& name, Answers answers) {
    const std::lock_guard lock(mutex_);
    names_[name] = {std::move(answers), 0};
  }
  // Answers nothing from now on, until Release.
  void Hold() {
    const std::lock_guard lock(mutex_);
    held_ = true;
  }
  void Release() {
    const std::lock_guard lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }
  bool AwaitQuestion() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [this] { return waiting_ > 0; });
  }
  bool AwaitNobody() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, [this] { return waiting_ == 0; });
  }

  // False for names that it does not know.
  bool Answer(const std::string& name, std::vector<std::string>& addresses) {
    std::unique_lock lock(mutex_);
    const auto known = names_.find(name);
    if (known == names_.end()) return false;
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return !held_; });
    --waiting_;
    changed_.notify_all();
    addresses = known->second.first(known->second.second++);
    return true;
  }

  void Connected(const sockaddr* address) {
    if (address->sa_family != AF_INET && address->sa_family != AF_INET6) return;
    char text[INET6_ADDRSTRLEN] = {};
    const void* const bytes =
        address->sa_family == AF_INET
            ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(address)->sin_addr)
            : &reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr;
    inet_ntop(address->sa_family, bytes, text, sizeof(text));
    const std::lock_guard lock(mutex_);
    connected_.insert(text);
  }
  // All that were connected to since the last call.
  std::set<std::string> TakeConnected() {
    const std::lock_guard lock(mutex_);
    return std::exchange(connected_, {});
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::pair<Answers, int>> names_;
  std::set<std::string> connected_;
  bool held_ = false;
  int waiting_ = 0;
};

Resolver& TheResolver() {
  static auto& resolver = *new Resolver;
  return resolver;
}

}  // namespace
}  // namespace linchpin

// In place of the system's, for all that this program is linked with.
extern "C" int getaddrinfo(const char* name, const char* service, const addrinfo* hints,
                           addrinfo** result) {
  static const auto system =
      reinterpret_cast<decltype(&getaddrinfo)>(dlsym(RTLD_NEXT, "getaddrinfo"));
  std::vector<std::string> addresses;
  if (name == nullptr || !linchpin::TheResolver().Answer(name, addresses)) {
    return system(name, service, hints, result);
  }
  addrinfo** next = result;
  *result = nullptr;
  for (const std::string& address : addresses) {
    addrinfo numeric = *hints;
    numeric.ai_flags |= AI_NUMERICHOST;
    if (system(address.c_str(), service, &numeric, next) != 0) return EAI_FAIL;
    while (*next != nullptr) next = &(*next)->ai_next;
  }
  return *result == nullptr ? EAI_NONAME : 0;
}

extern "C" int connect(int socket, const sockaddr* address, socklen_t size) {
  static const auto system = reinterpret_cast<decltype(&connect)>(dlsym(RTLD_NEXT, "connect"));
  linchpin::TheResolver().Connected(address);
  return system(socket, address, size);
}

namespace linchpin {
namespace {

class RebindingTest : public testing::Test {
 protected:
  void SetUp() override { TheResolver().TakeConnected(); }

  static HttpOptions Options() {
    HttpOptions options{.addresses = *AddressRule::Create({kAllowed})};
    options.retry = {
        .attempts = 4, .first_pause = milliseconds(1), .longest_pause = milliseconds(1)};
    return options;
  }
  static HttpRequest To(const std::string& host, int port) {
    HttpRequest request{
        .url = {.scheme = "http", .authority = fmt::format("{}:{}", host, port), .path = "/x"},
        .what = "https://rebound.example/x",
        .store = "https"};
    request.check_redirect = [](const Uri&) { return absl::OkStatus(); };
    return request;
  }
  static Reason ReasonOfSending(const HttpRequest& request) {
    return ReasonOf(HttpClient(Options()).Send(request).status());
  }
};

TEST_F(RebindingTest, ANameThatIsBoundAnewIsCheckedAnew) {
  ScriptedHttpServer server([](const ScriptedRequest&) { return Answer(200, "public"); });
  TheResolver().Set("rebound.example", [](int question) {
    return std::vector<std::string>{question == 0 ? kAllowed : kMetadata};
  });
  const HttpRequest request = To("rebound.example", server.port());
  EXPECT_EQ(ReasonOfSending(request), Reason::kUnspecified);
  EXPECT_THAT(TheResolver().TakeConnected(), ElementsAre(kAllowed));
  EXPECT_EQ(ReasonOfSending(request), Reason::kPathNotAllowed);
  EXPECT_THAT(TheResolver().TakeConnected(), IsEmpty());
}

// The first of several answers does not stand for the others.
TEST_F(RebindingTest, TheNextAddressOfANameIsChecked) {
  TheResolver().Set("two.example", [](int) {
    return std::vector<std::string>{kAllowed, kInside, kMetadata};
  });
  EXPECT_EQ(ReasonOfSending(To("two.example", FreePort())), Reason::kPathNotAllowed)
      << "nothing listens at the first";
  EXPECT_THAT(TheResolver().TakeConnected(), ElementsAre(kAllowed));
}

TEST_F(RebindingTest, ARedirectIsResolvedAndChecked) {
  for (const char* where : {kMetadata, kInside, kAllowed}) {
    ScriptedHttpServer server([&](const ScriptedRequest& request) {
      if (request.number > 0) return Answer(200);
      return Answer(302, "", {fmt::format("Location: http://next.example:{}/y", server.port())});
    });
    TheResolver().Set("first.example", [](int) { return std::vector<std::string>{kAllowed}; });
    TheResolver().Set("next.example", [&](int) { return std::vector<std::string>{where}; });
    EXPECT_EQ(ReasonOfSending(To("first.example", server.port())),
              where == kAllowed ? Reason::kUnspecified : Reason::kPathNotAllowed)
        << where;
    EXPECT_THAT(TheResolver().TakeConnected(), ElementsAre(kAllowed)) << where;
  }
}

// Every attempt takes a new connection; the name leads inside as soon as it is asked again.
TEST_F(RebindingTest, RepetitionsGoWhereTheFirstWasAllowedToGo) {
  ScriptedHttpServer server([](const ScriptedRequest& request) {
    ScriptedReply reply = Answer(request.number < 2 ? 503 : 200);
    reply.then = request.number == 0 ? ScriptedReply::Then::kReset : ScriptedReply::Then::kClose;
    return reply;
  });
  TheResolver().Set("rebound.example", [](int question) {
    return std::vector<std::string>{question == 0 ? kAllowed : kInside};
  });
  const HttpRequest request = To("rebound.example", server.port());
  const Reason reason = ReasonOfSending(request);
  EXPECT_TRUE(reason == Reason::kUnspecified || reason == Reason::kPathNotAllowed);
  EXPECT_THAT(TheResolver().TakeConnected(), ElementsAre(kAllowed));
}

// The operator's endpoint may lie inside; who merely names the same host does not get
// there over its connections.
TEST_F(RebindingTest, ConnectionsToTheOperatorsEndpointAreForNobodyElse) {
  ScriptedHttpServer server([](const ScriptedRequest&) { return Answer(200, "internal"); });
  HttpOptions options = Options();
  options.addresses = *AddressRule::Create({});
  const HttpClient client(options);
  HttpRequest named = To("127.0.0.1", server.port());
  named.any_address = true;
  ASSERT_TRUE(client.Send(named).ok());
  const HttpRequest other = To("127.0.0.1", server.port());
  EXPECT_EQ(ReasonOf(client.Send(other).status()), Reason::kPathNotAllowed);
  EXPECT_EQ(server.requests().size(), 1U);
  ASSERT_TRUE(client.Send(named).ok());
  EXPECT_EQ(server.connections(), 1) << "it is used again for what it was opened for";
}

TEST_F(RebindingTest, AStopDoesNotWaitForANameServer) {
  TheResolver().Set("slow.example", [](int) { return std::vector<std::string>{kAllowed}; });
  TheResolver().Hold();
  std::stop_source stop;
  std::jthread stopper([&] {
    EXPECT_TRUE(TheResolver().AwaitQuestion());
    stop.request_stop();
  });
  const HttpClient client = HttpClient(Options()).Until(stop.get_token());
  EXPECT_EQ(ReasonOf(client.Send(To("slow.example", 9)).status()), Reason::kCancelled);
  TheResolver().Release();  // it ended while its question was open
  EXPECT_TRUE(TheResolver().AwaitNobody());
}

}  // namespace
}  // namespace linchpin
