#include "sandbox.hpp"

#include <cstring>

#include "copy.hpp"

namespace caller::kernel {

// As a copy that is asked once, so that it is nobody's child: a cell that awaits any child would meet it.
SandboxResult in_child(const std::function<std::string()>& work, std::chrono::milliseconds limit,
                       std::stop_token stop) {
  const auto copy = Copy::make("caller sandbox", [&work](const std::string&) { return work(); });
  return copy ? copy->ask({}, limit, stop) : SandboxResult{};
}

Packer& Packer::operator<<(const std::string& s) {
  *this << s.size();
  data_ += s;
  return *this;
}
Packer& Packer::operator<<(std::size_t n) {
  data_.append(reinterpret_cast<const char*>(&n), sizeof n);
  return *this;
}
std::size_t Unpacker::number() {
  std::size_t n = 0;
  if (at_ + sizeof n > data_.size()) return 0;
  std::memcpy(&n, data_.data() + at_, sizeof n);
  at_ += sizeof n;
  return n;
}
std::string Unpacker::text() {
  const std::size_t n = number();
  if (at_ + n > data_.size()) return {};
  std::string s = data_.substr(at_, n);
  at_ += n;
  return s;
}

}  // namespace caller::kernel
