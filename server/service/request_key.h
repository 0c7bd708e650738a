// The job key of a call: what its messages add to its source.
#pragma once

#include <string>
#include <string_view>

#include "google/protobuf/message.h"

namespace linchpin {

// A message's bytes, the same for the same content; with its type's name, so
// that two messages of the same bytes differ.
std::string CanonicalBytes(const google::protobuf::Message& message);

// JobKey of `source` and the options.  Jobs of one kind give the same messages
// in the same order, so that their names are the kind.
std::string KeyOfBytes(std::string_view source, std::string_view options);
template <class... Messages>
std::string KeyOf(std::string_view source, const Messages&... options) {
  return KeyOfBytes(source, (std::string() + ... + CanonicalBytes(options)));
}

}  // namespace linchpin
