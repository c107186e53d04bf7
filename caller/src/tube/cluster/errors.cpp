#include <utility>

#include <caller/tube/cluster.hpp>

namespace caller::tube {

ProcessError::ProcessError(std::vector<std::string> nodes, int pid, int signal, int exit_code,
                           const std::string& context)
    : Error(Errc::process_lost, context), nodes_(std::move(nodes)), pid_(pid), signal_(signal), exit_code_(exit_code) {}
ProcessError::~ProcessError() = default;

RemoteError::RemoteError(std::string type, const std::string& what)
    : std::runtime_error(what), type_(std::move(type)) {}
RemoteError::~RemoteError() = default;

RemoteTrace::RemoteTrace(std::vector<std::string> lines) : lines_(std::move(lines)) {}
RemoteTrace::~RemoteTrace() = default;

}  // namespace caller::tube
