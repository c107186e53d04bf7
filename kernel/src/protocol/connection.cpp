#include "protocol/connection.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "protocol/json_text.hpp"
#include "protocol/log.hpp"

namespace caller::kernel {
namespace {
using nlohmann::json;

constexpr std::size_t kZ85Key = 40;  // characters

[[noreturn]] void fail(const std::string& name, const std::string& what) {
  throw KernelError(KernelErrc::connection_file, "connection file " + name + ": " + what);
}

std::string text_field(const json& file, const char* field, const std::string& fallback, const std::string& name) {
  const auto it = file.find(field);
  if (it == file.end() || it->is_null()) return fallback;
  if (!it->is_string()) fail(name, std::string("field \"") + field + "\" must be text, found " + it->dump());
  return it->get<std::string>();
}

// The same for what must not stand in a message.
std::string secret_field(const json& file, const char* field, const std::string& name) {
  const auto it = file.find(field);
  if (it == file.end() || it->is_null()) return {};
  if (!it->is_string()) fail(name, std::string("field \"") + field + "\" must be text");
  return it->get<std::string>();
}

int port_field(const json& file, const char* field, bool tcp, const std::string& name) {
  const auto it = file.find(field);
  if (it == file.end() || it->is_null()) fail(name, std::string("field \"") + field + "\" is missing");
  if (!it->is_number_integer()) fail(name, std::string("field \"") + field + "\" must be a port, found " + it->dump());
  const auto port = it->get<long long>();
  if (port < 0 || (tcp && port > 65535) || port > 2'000'000'000)
    fail(name, std::string("field \"") + field + "\" is out of range: " + it->dump());
  return static_cast<int>(port);
}
}  // namespace

std::string ConnectionInfo::endpoint(int port) const {
  if (transport == "ipc") return "ipc://" + ip + "-" + std::to_string(port);
  const bool bare_ipv6 = ip.find(':') != std::string::npos && ip.front() != '[';
  return "tcp://" + (bare_ipv6 ? "[" + ip + "]" : ip) + ":" + (port == 0 ? "*" : std::to_string(port));
}

ConnectionInfo parse_connection(const std::string& text, const std::string& name) {
  if (nested_too_deep(text)) fail(name, "is nested deeper than " + std::to_string(kDeepestJson) + " levels");
  const json file = parse_json(text);
  if (file.is_discarded()) fail(name, "is not valid JSON");
  if (!file.is_object()) fail(name, "must hold an object");
  ConnectionInfo info;
  info.transport = text_field(file, "transport", "tcp", name);
  if (info.transport != "tcp" && info.transport != "ipc")
    fail(name, "field \"transport\" must be tcp or ipc, found \"" + info.transport + "\"");
  const bool tcp = info.transport == "tcp";
  info.ip = text_field(file, "ip", tcp ? "127.0.0.1" : "kernel-ipc", name);
  if (info.ip.empty()) fail(name, "field \"ip\" is empty");
  info.shell_port = port_field(file, "shell_port", tcp, name);
  info.control_port = port_field(file, "control_port", tcp, name);
  info.stdin_port = port_field(file, "stdin_port", tcp, name);
  info.iopub_port = port_field(file, "iopub_port", tcp, name);
  info.hb_port = port_field(file, "hb_port", tcp, name);
  info.signature_scheme = text_field(file, "signature_scheme", "hmac-sha256", name);
  info.key = secret_field(file, "key", name);
  info.kernel_name = text_field(file, "kernel_name", "", name);
  // Whoever asks for encryption must not be served without it.
  info.curve_public = text_field(file, "curve_publickey", "", name);
  info.curve_secret = secret_field(file, "curve_secretkey", name);
  if (info.curve_public.empty() != info.curve_secret.empty())
    fail(name, "fields \"curve_publickey\" and \"curve_secretkey\" must be given both or not at all");
  if (!info.curve_secret.empty() && (info.curve_public.size() != kZ85Key || info.curve_secret.size() != kZ85Key))
    fail(name, "fields \"curve_publickey\" and \"curve_secretkey\" must be 40 characters of Z85");
  if (!info.key.empty() && info.signature_scheme != "hmac-sha256")
    fail(name, "field \"signature_scheme\" must be hmac-sha256, found \"" + info.signature_scheme + "\"");
  return info;
}

ConnectionInfo read_connection_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail(path, std::string("cannot be read: ") + std::strerror(errno));
  std::string text;
  try {
    text.assign(std::istreambuf_iterator<char>(in), {});
  } catch (const std::exception& e) {  // a folder opens and then fails
    fail(path, std::string("cannot be read: ") + e.what());
  }
  ConnectionInfo info = parse_connection(text, path);
  struct stat status{};
  if (::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    log(LogLevel::warning, "connection file " + path + " is not its owner's alone: whoever reads it can run code here");
  return info;
}

std::string connection_text(const ConnectionInfo& info) {
  json file = {{"transport", info.transport},
               {"ip", info.ip},
               {"shell_port", info.shell_port},
               {"control_port", info.control_port},
               {"stdin_port", info.stdin_port},
               {"iopub_port", info.iopub_port},
               {"hb_port", info.hb_port},
               {"signature_scheme", info.signature_scheme},
               {"key", info.key},
               {"kernel_name", info.kernel_name}};
  if (!info.curve_secret.empty()) {
    file["curve_publickey"] = info.curve_public;
    file["curve_secretkey"] = info.curve_secret;
  }
  return file.dump(2) + "\n";
}

void write_connection_file(const ConnectionInfo& info, const std::string& path) {
  const std::string text = connection_text(info);
  const std::string temporary = path + ".part";
  ::unlink(temporary.c_str());  // what somebody else made would keep its mode
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  bool good = fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (fd >= 0) good = ::close(fd) == 0 && good;
  if (good) good = std::rename(temporary.c_str(), path.c_str()) == 0;
  if (!good) {
    const int error = errno;
    ::unlink(temporary.c_str());
    fail(path, std::string("cannot be written: ") + std::strerror(error));
  }
}

}  // namespace caller::kernel
