// The settings of linchpin-server: defaults, the command line, the environment.
#include "options.h"

#include <cstdlib>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace linchpin {
namespace {

ParsedOptions Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "linchpin-server");
  return ParseServerOptions(static_cast<int>(arguments.size()), arguments.data());
}

ServerOptions Good(const std::vector<const char*>& arguments) {
  const ParsedOptions parsed = Parse(arguments);
  EXPECT_FALSE(parsed.exit_code.has_value()) << parsed.text;
  return parsed.options;
}

TEST(ServerOptions, DefaultsAreSafe) {
  const ServerOptions options = Good({});
  EXPECT_THAT(options.listen, testing::ElementsAre("127.0.0.1:50051"));
  EXPECT_EQ(options.metrics, "127.0.0.1:9464");
  EXPECT_TRUE(options.storage.read_roots.empty());
  EXPECT_TRUE(options.storage.write_roots.empty());
  EXPECT_FALSE(options.storage.allow_symlinks);
  EXPECT_FALSE(options.tls.given());
  EXPECT_GE(options.threads, 1);
  EXPECT_GT(options.max_memory, uint64_t{16} << 20);
  EXPECT_EQ(options.max_artifact_bytes, uint64_t{1} << 30);
}

TEST(ServerOptions, ListsGrow) {
  const ServerOptions options =
      Good({"--listen", "unix:/a", "--listen=127.0.0.1:1", "--read-root", "/m", "--read-root", "/n",
            "--write-root", "/o", "--allow-symlinks"});
  EXPECT_THAT(options.listen, testing::ElementsAre("unix:/a", "127.0.0.1:1"));
  EXPECT_THAT(options.storage.read_roots, testing::ElementsAre("/m", "/n"));
  EXPECT_THAT(options.storage.write_roots, testing::ElementsAre("/o"));
  EXPECT_TRUE(options.storage.allow_symlinks);
}

TEST(ServerOptions, SizesHaveUnits) {
  EXPECT_EQ(Good({"--max-memory", "4G"}).max_memory, uint64_t{4} << 30);
  EXPECT_EQ(Good({"--max-memory", "512MiB"}).max_memory, uint64_t{512} << 20);
  EXPECT_EQ(Good({"--max-artifact-bytes=123"}).max_artifact_bytes, 123U);
  EXPECT_EQ(Parse({"--max-memory", "lots"}).exit_code, 2);
  EXPECT_EQ(Parse({"--max-memory", "-1"}).exit_code, 2);
}

TEST(ServerOptions, NumbersHaveRanges) {
  EXPECT_EQ(Good({"--slots", "3", "--threads", "5", "--drain-seconds", "0"}).slots, 3);
  EXPECT_EQ(Parse({"--slots", "0"}).exit_code, 2);
  EXPECT_EQ(Parse({"--threads", "-1"}).exit_code, 2);
  EXPECT_EQ(Parse({"--drain-seconds", "x"}).exit_code, 2);
  EXPECT_EQ(Parse({"--exit-with-fd", "-3"}).exit_code, 2);
  EXPECT_EQ(Parse({"--log-level", "shout"}).exit_code, 2);
  EXPECT_EQ(Parse({"--no-such-option"}).exit_code, 2);
  EXPECT_EQ(Parse({"stray"}).exit_code, 2);
}

TEST(ServerOptions, TheEnvironmentFillsIn) {
  setenv("LINCHPIN_METRICS", "off", 1);
  setenv("LINCHPIN_READ_ROOT", "/a,/b", 1);
  setenv("LINCHPIN_MAX_MEMORY", "1GiB", 1);
  setenv("LINCHPIN_SLOTS", "7", 1);
  const ServerOptions options = Good({"--slots", "2"});
  EXPECT_EQ(options.metrics, "off");
  EXPECT_THAT(options.storage.read_roots, testing::ElementsAre("/a", "/b"));
  EXPECT_EQ(options.max_memory, uint64_t{1} << 30);
  EXPECT_EQ(options.slots, 2);  // the command line wins
  for (const char* name : {"METRICS", "READ_ROOT", "MAX_MEMORY", "SLOTS"}) {
    unsetenv((std::string("LINCHPIN_") + name).c_str());
  }
}

TEST(ServerOptions, HelpNamesEveryOption) {
  const ParsedOptions parsed = Parse({"--help"});
  EXPECT_EQ(parsed.exit_code, 0);
  for (const char* option :
       {"--listen", "--tls-cert", "--tls-key", "--tls-client-ca", "--metrics", "--read-root",
        "--write-root", "--allow-symlinks", "--slots", "--threads", "--max-memory",
        "--max-artifact-bytes", "--drain-seconds", "--log-level", "--exit-with-fd", "--ready-fd",
        "LINCHPIN_MAX_MEMORY", "SIGTERM"}) {
    EXPECT_THAT(parsed.text, testing::HasSubstr(option));
  }
}

}  // namespace
}  // namespace linchpin
