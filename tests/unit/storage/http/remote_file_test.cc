#include "storage/http/remote_file.h"

#include <string>

#include "base/status.h"
#include "fmt/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/scripted_http_server.h"

namespace linchpin {
namespace {

using Then = ScriptedReply::Then;

std::string Content(size_t size) {
  std::string content(size, '\0');
  for (size_t i = 0; i < size; ++i) content[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return content;
}

class RemoteFileTest : public ::testing::Test {
 protected:
  static constexpr size_t kSize = 200'000;

  HttpRequest Request() const {
    return {.url = {.scheme = "http",
                    .authority = fmt::format("127.0.0.1:{}", server_.port()),
                    .path = "/file"},
            .what = "https://host/file",
            .store = "https"};
  }
  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(size_t blocks = 16) {
    HttpOptions options{.addresses = *AddressRule::Create({"127.0.0.1"})};
    options.retry = {.attempts = 3,
                     .first_pause = std::chrono::milliseconds(1),
                     .longest_pause = std::chrono::milliseconds(2)};
    return RemoteFile::Open(HttpClient(options), Request(), std::make_shared<BlockCache>(blocks));
  }
  static absl::StatusOr<std::string> Read(const ReadableFile& file, uint64_t offset, size_t count) {
    std::string text(count, '?');
    RETURN_IF_ERROR(
        file.ReadAt(offset, absl::MakeSpan(reinterpret_cast<std::byte*>(text.data()), count)));
    return text;
  }
  Reason ReadReason() {
    const auto file = Open();
    return file.ok() ? ReasonOf(Read(**file, 0, content_.size()).status())
                     : ReasonOf(file.status());
  }

  std::string content_ = Content(kSize);
  // The reply to a request after that which opened the file.
  std::function<ScriptedReply(const ScriptedRequest&)> reply_ =
      [this](const ScriptedRequest& request) { return ServeFile(request, content_); };
  std::function<ScriptedReply(const ScriptedRequest&)> open_reply_ =
      [this](const ScriptedRequest& request) { return ServeFile(request, content_); };
  ScriptedHttpServer server_{[this](const ScriptedRequest& request) {
    return request.number == 0 ? open_reply_(request) : reply_(request);
  }};
};

TEST_F(RemoteFileTest, ReadsManySmallRangesWithOneRequest) {
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size(), kSize);
  for (size_t at = 0; at + 1000 <= kSize; at += 1000) {
    ASSERT_EQ(Read(**file, at, 1000).value(), content_.substr(at, 1000));
  }
  EXPECT_EQ(server_.requests().size(), 2U) << "one to open it, one for its only block";
  EXPECT_EQ(server_.requests()[1].headers.at("if-match"), "\"v1\"");
  EXPECT_TRUE((*file)->CheckUnchanged().ok());
}

TEST_F(RemoteFileTest, IsToldFromOtherVersionsByAStrongETagAlone) {
  const auto version = [this](const std::string& etag) {
    open_reply_ = [this, etag](const ScriptedRequest& request) {
      return ServeFile(request, content_, etag);
    };
    ScriptedHttpServer server(open_reply_);
    HttpRequest request = Request();
    request.url.authority = fmt::format("127.0.0.1:{}", server.port());
    HttpOptions options{.addresses = *AddressRule::Create({"127.0.0.1"})};
    return (*RemoteFile::Open(HttpClient(options), request, std::make_shared<BlockCache>(1)))
        ->Version();
  };
  const std::string first = version("\"v1\"");
  EXPECT_FALSE(first.empty());
  EXPECT_EQ(version("\"v1\""), first);
  EXPECT_NE(version("\"v2\""), first);
  content_ += "x";
  EXPECT_NE(version("\"v1\""), first) << "another size";
  EXPECT_EQ(version("W/\"v1\""), "") << "a weak one may stay while bytes change";
}

TEST_F(RemoteFileTest, ReadsAcrossBlocksAndLongRangesInPieces) {
  content_ = Content((21 << 20) + 5);
  const auto file = Open(2);
  ASSERT_TRUE(file.ok());
  for (const auto& [offset, count] : {std::pair<size_t, size_t>{(4 << 20) - 3, 7},
                                      {0, content_.size()},
                                      {17, 20 << 20},
                                      {5 << 20, 5 << 20},
                                      {content_.size() - 1, 1},
                                      {content_.size(), 0}}) {
    EXPECT_TRUE(Read(**file, offset, count).value() == content_.substr(offset, count)) << offset;
  }
  for (const ScriptedRequest& request : server_.requests()) {
    unsigned long first = 0, last = 0;
    std::sscanf(request.headers.at("range").c_str(), "bytes=%lu-%lu", &first, &last);
    EXPECT_LE(last - first, 8UL << 20) << "no request asks for more at once";
  }
}

TEST_F(RemoteFileTest, GoesOnAtTheByteItReached) {
  // Every answer breaks off after 70,000 bytes of its body.
  reply_ = [this](const ScriptedRequest& request) {
    ScriptedReply reply = ServeFile(request, content_);
    const size_t body = reply.bytes.find("\r\n\r\n") + 4;
    if (reply.bytes.size() - body > 70'000) {
      reply.bytes.resize(body + 70'000);
      reply.then = Then::kClose;
    }
    return reply;
  };
  const auto file = Open();
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(Read(**file, 0, kSize).value() == content_);
  ASSERT_EQ(server_.requests().size(), 4U);
  EXPECT_EQ(server_.requests()[2].headers.at("range"), "bytes=70000-199999");
  EXPECT_EQ(server_.requests()[3].headers.at("range"), "bytes=140000-199999");
}

TEST_F(RemoteFileTest, GivesUpOnASourceThatBringsTooLittle) {
  reply_ = [this](const ScriptedRequest& request) {
    ScriptedReply reply = ServeFile(request, content_);
    reply.bytes.resize(reply.bytes.find("\r\n\r\n") + 4 + 10);
    reply.then = Then::kReset;
    return reply;
  };
  EXPECT_EQ(ReadReason(), Reason::kStorageFailed);
  EXPECT_LE(server_.requests().size(), 4U);
}

TEST_F(RemoteFileTest, NoticesAnotherVersion) {
  reply_ = [this](const ScriptedRequest& request) {
    return ServeFile(request, content_, "\"v2\"");
  };
  EXPECT_EQ(ReadReason(), Reason::kSourceChanged) << "If-Match is heeded";
  const auto file = Open();
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE((*file)->CheckUnchanged().ok()) << "opened as it is now";
}

TEST_F(RemoteFileTest, NoticesAnotherVersionOfAServerThatIgnoresConditions) {
  const auto changed = [this](ScriptedRequest request, const std::string& etag) {
    request.headers.erase("if-match");
    return ServeFile(request, content_, etag);
  };
  for (const std::string etag : {"\"v2\"", "W/\"v1\"", ""}) {
    reply_ = [&](const ScriptedRequest& request) {
      return request.headers.at("range") == "bytes=0-0" ? ServeFile(request, content_)
                                                        : changed(request, etag);
    };
    EXPECT_EQ(ReadReason(), Reason::kSourceChanged) << etag;
  }
}

TEST_F(RemoteFileTest, AWeakETagIsComparedAndNotSent) {
  open_reply_ = reply_ = [this](const ScriptedRequest& request) {
    EXPECT_FALSE(request.headers.contains("if-match"));
    return ServeFile(request, content_, "W/\"v1\"");
  };
  EXPECT_EQ(ReadReason(), Reason::kUnspecified);
}

TEST_F(RemoteFileTest, NoticesThatItShrankGrewOrVanished) {
  for (const size_t size : {kSize - 1, kSize + 1, size_t{10}, size_t{0}}) {
    reply_ = [&, size](const ScriptedRequest& request) {
      return request.headers.at("range") == "bytes=0-0" ? ServeFile(request, content_)
                                                        : ServeFile(request, Content(size));
    };
    EXPECT_EQ(ReadReason(), Reason::kSourceChanged) << size;
  }
  for (const int status : {404, 410, 416, 412}) {
    reply_ = [&, status](const ScriptedRequest& request) {
      return request.headers.at("range") == "bytes=0-0" ? ServeFile(request, content_)
                                                        : Answer(status);
    };
    EXPECT_EQ(ReadReason(), Reason::kSourceChanged) << status;
  }
  const auto file = Open();
  ASSERT_TRUE(file.ok());
  reply_ = [](const ScriptedRequest&) { return Answer(404); };
  EXPECT_EQ(ReasonOf((*file)->CheckUnchanged()), Reason::kSourceChanged);
}

TEST_F(RemoteFileTest, RefusesAnswersToAnotherQuestion) {
  const std::string etag = "ETag: \"v1\"";
  const std::vector<ScriptedReply> wrong = {
      // another place, another length, no length, another unit, nonsense
      Answer(206, content_, {etag, "Content-Range: bytes 1-200000/200000"}),
      Answer(206, content_, {etag, "Content-Range: bytes 1-199999/200000"}),
      Answer(206, content_, {etag, "Content-Range: bytes 0-199998/200000"}),
      Answer(206, content_, {etag, "Content-Range: bytes 0-199999/*"}),
      Answer(206, content_, {etag, "Content-Range: pages 0-199999/200000"}),
      Answer(206, content_, {etag, "Content-Range: bytes 0-18446744073709551615/200000"}),
      Answer(206, content_, {etag}),
      // more than was asked for, under the right heading
      Answer(206, content_ + "more", {etag, "Content-Range: bytes 0-199999/200000"}),
  };
  for (size_t i = 0; i < wrong.size(); ++i) {
    reply_ = [&, i](const ScriptedRequest& request) {
      return request.headers.at("range") == "bytes=0-0" ? ServeFile(request, content_) : wrong[i];
    };
    const Reason reason = ReadReason();
    EXPECT_TRUE(reason == Reason::kFeatureUnsupported || reason == Reason::kSourceChanged) << i;
  }
}

TEST_F(RemoteFileTest, TakesTheWholeForARangeOnlyIfItIsTheWhole) {
  reply_ = [this](const ScriptedRequest& request) {
    return request.headers.at("range") == "bytes=0-0" ? ServeFile(request, content_)
                                                      : Answer(200, content_, {"ETag: \"v1\""});
  };
  EXPECT_EQ(ReadReason(), Reason::kUnspecified);
  content_ = Content(9 << 20);
  const auto file = Open();
  ASSERT_TRUE(file.ok());
  EXPECT_EQ(ReasonOf(Read(**file, 5, 6 << 20).status()), Reason::kFeatureUnsupported);
}

TEST_F(RemoteFileTest, RefusesAServerWithoutRangesWithoutReadingOn) {
  open_reply_ = [this](const ScriptedRequest&) { return Answer(200, content_); };
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kFeatureUnsupported);
}

TEST_F(RemoteFileTest, OpensAnEmptyFile) {
  content_.clear();
  const auto file = Open();
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file)->size(), 0U);
}

TEST_F(RemoteFileTest, RefusesASizeThatNoFileHas) {
  open_reply_ = [](const ScriptedRequest&) {
    return Answer(206, "x", {"Content-Range: bytes 0-0/99999999999999999"});
  };
  EXPECT_EQ(ReasonOf(Open().status()), Reason::kStorageFailed);
}

TEST_F(RemoteFileTest, AFailedFetchIsNotKept) {
  const auto file = Open();
  ASSERT_TRUE(file.ok());
  const auto good = reply_;
  reply_ = [](const ScriptedRequest&) { return Answer(500); };
  EXPECT_EQ(ReasonOf(Read(**file, 0, 10).status()), Reason::kStorageFailed);
  reply_ = good;
  EXPECT_EQ(Read(**file, 0, 10).value(), content_.substr(0, 10));
}

}  // namespace
}  // namespace linchpin
