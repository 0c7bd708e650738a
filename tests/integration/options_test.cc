// The settings of linchpin-server: defaults, the command line, the environment, the config file.
#include "options.h"

#include <cstdlib>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "option_table.h"
#include "tests/support/temporary_directory.h"

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
  EXPECT_TRUE(options.remote.prefixes.read.empty());
  EXPECT_TRUE(options.remote.prefixes.write.empty());
  EXPECT_TRUE(options.remote.allowed_addresses.empty());
  EXPECT_FALSE(options.remote.s3_instance_metadata);
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

// Sets a variable of the environment for as long as it lives.
class Variable {
 public:
  Variable(std::string name, const std::string& value) : name_(std::move(name)) {
    setenv(name_.c_str(), value.c_str(), 1);
  }
  ~Variable() { unsetenv(name_.c_str()); }

 private:
  const std::string name_;
};

std::string ErrorOf(const std::vector<const char*>& arguments) {
  const ParsedOptions parsed = Parse(arguments);
  EXPECT_EQ(parsed.exit_code, 2);
  EXPECT_THAT(parsed.text, testing::AllOf(testing::StartsWith("error: "),
                                          testing::EndsWith(" [OPTION_INVALID]\n")));
  return parsed.text;
}

TEST(ServerOptions, HelpNamesEveryOptionWithItsVariable) {
  const ParsedOptions parsed = Parse({"--help"});
  EXPECT_EQ(parsed.exit_code, 0);
  ASSERT_GT(OptionTable().size(), 15U);
  for (const OptionRow& row : OptionTable()) {
    EXPECT_THAT(parsed.text, testing::HasSubstr(FlagOf(row)));
    EXPECT_EQ(parsed.text.find(EnvironmentNameOf(row)) != std::string::npos,
              row.scope == OptionScope::kEverywhere)
        << row.name;
  }
  EXPECT_THAT(parsed.text, testing::HasSubstr("=127.0.0.1:50051"));
  EXPECT_THAT(parsed.text, testing::HasSubstr("SIGTERM"));
}

TEST(ServerOptions, NamesAreUnique) {
  std::set<std::string_view> names;
  for (const OptionRow& row : OptionTable()) EXPECT_TRUE(names.insert(row.name).second) << row.name;
}

// What can be shown can be given: the defaults in --help are no prose.
TEST(ServerOptions, EveryDefaultCanBeGiven) {
  for (const OptionRow& row : OptionTable()) {
    ServerOptions options;
    const std::string shown = row.show(options);
    if (shown.empty()) continue;
    ASSERT_TRUE(row.set(options, {shown}).ok()) << row.name;
    EXPECT_EQ(row.show(options), shown) << row.name;
  }
}

TEST(ServerOptions, EveryRowRefusesWhatIsNoValueNamingTheFlag) {
  for (const OptionRow& row : OptionTable()) {
    const std::string argument = FlagOf(row) + (row.is_switch() ? "=perhaps" : "=");
    const ParsedOptions parsed = Parse({argument.c_str()});
    EXPECT_EQ(parsed.exit_code, 2) << row.name;
    EXPECT_THAT(parsed.text, testing::HasSubstr(FlagOf(row)));
  }
}

TEST(ServerOptions, ABadValueIsOneLineThatNamesWhereItStands) {
  EXPECT_THAT(ErrorOf({"--slots", "many"}),
              testing::HasSubstr("--slots: \"many\" is not a whole number from 1 to 1024"));
  const Variable variable("LINCHPIN_LOG_LEVEL", "loud");
  EXPECT_THAT(ErrorOf({}), testing::HasSubstr("LINCHPIN_LOG_LEVEL: \"loud\" is not one of debug"));
}

TEST(ServerOptions, AScalarIsGivenOnce) {
  EXPECT_THAT(ErrorOf({"--slots", "1", "--slots", "2"}), testing::HasSubstr("more than once"));
}

class ConfigFile : public testing::Test {
 protected:
  std::string Write(const std::string& text) { return directory_.Write("config.json", text); }
  ServerOptions Read(const std::string& text, std::vector<const char*> more = {}) {
    const std::string file = Write(text);
    more.insert(more.end(), {"--config", file.c_str()});
    return Good(more);
  }
  std::string Refusal(const std::string& text) {
    const std::string file = Write(text);
    return ErrorOf({"--config", file.c_str()});
  }

  TemporaryDirectory directory_;
};

TEST_F(ConfigFile, SetsWhatItNames) {
  const ServerOptions options = Read(
      R"({"max_memory": "4GiB", "slots": 3, "listen": ["unix:/a,b", "127.0.0.1:1"],
          "allow_symlinks": true, "read_root": "/m", "max_artifact_bytes": 12})");
  EXPECT_EQ(options.max_memory, uint64_t{4} << 30);
  EXPECT_EQ(options.slots, 3);
  EXPECT_THAT(options.listen, testing::ElementsAre("unix:/a,b", "127.0.0.1:1"));
  EXPECT_TRUE(options.storage.allow_symlinks);
  EXPECT_THAT(options.storage.read_roots, testing::ElementsAre("/m"));
  EXPECT_EQ(options.max_artifact_bytes, 12U);
  EXPECT_EQ(options.drain_seconds, 30);  // what it leaves out stays
}

TEST_F(ConfigFile, YieldsToTheEnvironmentAndThatToTheCommandLine) {
  const Variable slots("LINCHPIN_SLOTS", "5");
  const Variable threads("LINCHPIN_THREADS", "6");
  const ServerOptions options =
      Read(R"({"slots": 4, "threads": 4, "drain_seconds": 4, "read_root": ["/a", "/b"]})",
           {"--slots", "7", "--read-root", "/c"});
  EXPECT_EQ(options.slots, 7);
  EXPECT_EQ(options.threads, 6);
  EXPECT_EQ(options.drain_seconds, 4);
  EXPECT_THAT(options.storage.read_roots, testing::ElementsAre("/c"));
}

TEST_F(ConfigFile, TheEnvironmentMayNameIt) {
  const Variable config("LINCHPIN_CONFIG", Write(R"({"slots": 9})"));
  EXPECT_EQ(Good({}).slots, 9);
}

TEST_F(ConfigFile, IsRefusedWhereItIsWrong) {
  const std::map<std::string, std::string> cases = {
      {R"({"slots": 0})", "slots: \"0\" is not a whole number"},
      {R"({"slots": 1.5})", "slots: it is neither a string"},
      {R"({"slots": null})", "slots: it is neither a string"},
      {R"({"slots": [1]})", "slots: it is a list"},
      {R"({"slotz": 1})", "slotz: there is no such setting"},
      {R"({"ready_fd": 4})", "ready_fd: there is no such setting"},
      {R"({"slots": 1, "slots": 2})", "slots"},
      {R"([1])", "it is not a JSON object"},
      {R"({"slots": 1)", "config.json"},
  };
  for (const auto& [text, message] : cases) {
    EXPECT_THAT(Refusal(text), testing::HasSubstr(message)) << text;
  }
  EXPECT_THAT(ErrorOf({"--config", "/no/such/file"}), testing::HasSubstr("/no/such/file"));
  EXPECT_THAT(ErrorOf({"--config", "/"}), testing::HasSubstr("cannot be read"));
  EXPECT_THAT(Refusal(std::string(2 << 20, ' ')), testing::HasSubstr("1 MiB"));
}

}  // namespace
}  // namespace linchpin
