# Writes a header with a digest of all that the program and the module with LibTorch
# must agree on: the headers that both read, LibTorch's version and the compiler.
#   cmake -DOUTPUT=... -DSETTINGS=... -DHEADERS=... -P build_digest.cmake
cmake_minimum_required(VERSION 3.25)
set(digests ${SETTINGS})
foreach(header ${HEADERS})
  file(SHA256 ${header} digest)
  list(APPEND digests ${digest})
endforeach()
string(SHA256 digest "${digests}")
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT
"// Of which build this is: made by build_digest.cmake.
#pragma once

namespace linchpin {

inline constexpr char kForwardBuild[] = \"@digest@\";

}  // namespace linchpin
" @ONLY)
