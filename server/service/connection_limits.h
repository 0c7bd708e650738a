// What one connection may hold and how long it lives.
#pragma once

namespace linchpin {

struct ConnectionLimits {
  int max_streams = 16;         // at a time; more calls wait for the caller's side
  int keepalive_seconds = 60;   // without traffic, until a ping asks whether anybody is there
  int keepalive_timeout = 20;   // seconds for its answer
  int max_age_seconds = 1'800;  // then callers are asked to connect again, to any replica
};

}  // namespace linchpin
