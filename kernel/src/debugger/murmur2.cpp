#include "murmur2.hpp"

namespace caller::kernel::debugger {

std::uint32_t murmur2(std::string_view data, std::uint32_t seed) {
  constexpr std::uint32_t m = 0x5BD1E995;
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(data[i])); };
  std::uint32_t h = seed ^ static_cast<std::uint32_t>(data.size());
  std::size_t i = 0;
  for (; i + 4 <= data.size(); i += 4) {
    std::uint32_t k = byte(i) | byte(i + 1) << 8 | byte(i + 2) << 16 | byte(i + 3) << 24;
    k *= m;
    k ^= k >> 24;
    k *= m;
    h = (h * m) ^ k;
  }
  if (i < data.size()) {
    for (std::size_t j = data.size(); j-- > i;) h ^= byte(j) << (8 * (j - i));
    h *= m;
  }
  h ^= h >> 13;
  h *= m;
  h ^= h >> 15;
  return h;
}

}  // namespace caller::kernel::debugger
