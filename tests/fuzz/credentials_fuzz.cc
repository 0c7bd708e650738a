// The input is a credentials file of AWS (ini).  What is found stands in it, whole, on one line.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/status.h"
#include "storage/s3/aws_credentials.h"
#include "tests/fuzz/input.h"
#include "tests/fuzz/invariant.h"

namespace {

// The file of every input; the chain looks at nothing else.
int CredentialsFile() {
  const int file = memfd_create("credentials", MFD_CLOEXEC);
  for (const char* name : {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN",
                           "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN"}) {
    unsetenv(name);
  }
  setenv("AWS_SHARED_CREDENTIALS_FILE", ("/proc/self/fd/" + std::to_string(file)).c_str(), 1);
  return file;
}

void CheckSetting(std::string_view text, std::string_view value) {
  INVARIANT(text.find(value) != std::string_view::npos);
  INVARIANT(value.find('\n') == std::string_view::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = CredentialsFile();
  INVARIANT(ftruncate(file, 0) == 0);
  INVARIANT(pwrite(file, data, size, 0) == static_cast<ssize_t>(size));
  linchpin::AwsCredentialChain chain(linchpin::HttpClient({}), {.region = "eu-west-1"});
  const auto found = chain.Get({});
  if (!found.ok()) {
    INVARIANT(linchpin::ReasonOf(found.status()) == linchpin::Reason::kStorageFailed);
    return 0;
  }
  INVARIANT(!found->access_key.empty() && !found->secret_key.empty());
  for (const std::string& value : {found->access_key, found->secret_key, found->session_token}) {
    CheckSetting(TextOf(data, size), value);
  }
  return 0;
}
