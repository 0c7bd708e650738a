// A port for a server that a test starts.
#pragma once

namespace linchpin {

// A port of 127.0.0.1 that was free just now.
int FreePort();

}  // namespace linchpin
