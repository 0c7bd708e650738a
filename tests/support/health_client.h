// Asks a server's health and reflection services, whose messages are small
// enough to write by hand: no package brings them generated.
#pragma once

#include <memory>
#include <string>

#include "grpcpp/grpcpp.h"

namespace linchpin {

// As grpc.health.v1 numbers it; kUnknown also for NOT_FOUND, kUnreachable for no answer.
enum class Health { kUnknown = 0, kServing = 1, kNotServing = 2, kUnreachable = -1 };
Health CheckHealth(const std::shared_ptr<grpc::Channel>& channel, const std::string& service);

// The raw answer to reflection's list_services, which holds the services' names.
std::string ListServices(const std::shared_ptr<grpc::Channel>& channel);

}  // namespace linchpin
