// What must hold of everything that a parser lets through.
#pragma once

#include <cstdio>
#include <cstdlib>

// Ends the program, for the fuzzer to see, unless `condition` holds.
#define INVARIANT(condition)                                                         \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: violated: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                  \
    }                                                                                \
  } while (false)
