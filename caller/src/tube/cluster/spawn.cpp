#include "spawn.hpp"

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include <dlfcn.h>
#include <unistd.h>

namespace caller::tube::detail {

namespace fs = std::filesystem;

Child start_node(std::vector<std::string> command, std::string_view setup) {
  command.emplace_back(kWorkerArgument);
  Child child = Child::start(command);
  const auto size = static_cast<std::uint64_t>(setup.size());
  char length[8];
  std::memcpy(length, &size, 8);
  // If it has gone, whoever watches it will say so.
  (void)(caller::detail::send_all(child.channel(), {length, 8}) && caller::detail::send_all(child.channel(), setup));
  return child;
}

std::string find_worker() {
  const char* name = "caller-tube-node";
  Dl_info here{};
  std::error_code error;
  if (::dladdr(reinterpret_cast<const void*>(&find_worker), &here) != 0 && here.dli_fname) {
    const fs::path folder = fs::canonical(here.dli_fname, error).parent_path();
    // Installed in a folder of the library's own; in a build tree in bin/ beside lib/, or with the program that the
    // library is part of.
    for (const char* way : {"caller", "", "../bin", "../../bin"}) {
      const fs::path found = folder / way / name;
      if (::access(found.c_str(), X_OK) == 0) return found.lexically_normal().string();
    }
  }
  return name;
}

std::string read_setup(int channel) {
  const auto read_all = [&](char* to, std::size_t n) {
    while (n > 0) {
      const ssize_t got = ::read(channel, to, n);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) throw std::runtime_error("the runner has gone");
      to += got;
      n -= static_cast<std::size_t>(got);
    }
  };
  std::uint64_t size = 0;
  read_all(reinterpret_cast<char*>(&size), 8);
  if (size > (std::uint64_t{1} << 32)) throw std::runtime_error("the setup is too large");
  std::string setup(size, '\0');
  read_all(setup.data(), size);
  return setup;
}

}  // namespace caller::tube::detail
