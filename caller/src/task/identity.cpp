// Identities: of invocations at random, of calls by their content.
// The hash functions themselves: the interface above them takes five times as long for a short text.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <pthread.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <numeric>

#include "app.hpp"

namespace caller::task::detail {

namespace {

/// Two digits for each byte.
constexpr auto kHex = [] {
  std::array<char, 512> digits{};
  for (std::size_t i = 0; i < digits.size(); ++i) digits[i] = "0123456789abcdef"[(i % 2 ? i / 2 : i / 32) & 15];
  return digits;
}();
char* put_hex(char* out, const unsigned char* bytes, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i, out += 2) std::memcpy(out, &kHex[2 * std::size_t{bytes[i]}], 2);
  return out;
}
std::string hex(const unsigned char* bytes, std::size_t n) {
  std::string out(2 * n, '\0');
  put_hex(out.data(), bytes, n);
  return out;
}

std::string uuid_from(unsigned char* b, unsigned char version) {
  b[6] = static_cast<unsigned char>((b[6] & 0x0f) | version);
  b[8] = static_cast<unsigned char>((b[8] & 0x3f) | 0x80);
  std::string out(36, '-');
  char* const to = out.data();
  put_hex(to, b, 4);
  put_hex(to + 9, b + 4, 2);
  put_hex(to + 14, b + 6, 2);
  put_hex(to + 19, b + 8, 2);
  put_hex(to + 24, b + 10, 6);
  return out;
}

using Digest = std::array<unsigned char, SHA256_DIGEST_LENGTH>;
Digest sha256(std::string_view text) {
  Digest out;
  SHA256_CTX context;
  if (SHA256_Init(&context) != 1 || SHA256_Update(&context, text.data(), text.size()) != 1 ||
      SHA256_Final(out.data(), &context) != 1)
    throw TaskingError("the system gives no hashes");
  return out;
}

std::atomic<unsigned> forks{0};  // a child must not give what its parent gives
struct Random {                  // many at once, as asking for some takes longer than making a name of them
  unsigned char bytes[1024];
  std::size_t used = sizeof bytes;
  unsigned made = 0;
};

}  // namespace

std::string new_uuid() {
  [[maybe_unused]] static const int watched = ::pthread_atfork(nullptr, nullptr, [] { ++forks; });
  thread_local Random random;
  const unsigned now = forks.load(std::memory_order_relaxed);
  if (random.used == sizeof random.bytes || random.made != now) {
    if (RAND_bytes(random.bytes, sizeof random.bytes) != 1) throw TaskingError("the system gives no random numbers");
    random.used = 0;
    random.made = now;
  }
  unsigned char b[16];
  std::copy_n(random.bytes + random.used, sizeof b, b);
  random.used += sizeof b;
  return uuid_from(b, 0x40);
}

std::string sha1_of(std::string_view text) {
  unsigned char digest[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  return hex(digest, sizeof digest);
}

std::string sha256_of(std::string_view text) {
  const Digest digest = sha256(text);
  return hex(digest.data(), digest.size());
}

std::string uuid_of(std::string_view text) {
  Digest digest = sha256(text);
  return uuid_from(digest.data(), 0x80);
}

namespace {

/// The text that an identity is the hash of; `at(i)`: name and value of the i-th of `n` arguments.
template <class At>
std::string identity(std::size_t n, At at) {
  if (n == 0) return "no_args";
  thread_local std::vector<std::size_t> order;
  order.resize(n);
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto before = [&](std::size_t a, std::size_t b) { return at(a) < at(b); };
  if (!std::is_sorted(order.begin(), order.end(), before)) std::sort(order.begin(), order.end(), before);
  thread_local std::string text;
  text.clear();
  for (const std::size_t i : order) {
    const std::pair<std::string_view, std::string_view> one = at(i);
    Writer(Format::json, &text).text(one.first);
    text += '=';
    text += one.second;
    text += ';';
  }
  return sha256_of(text);
}

}  // namespace

std::string args_id(const std::vector<std::pair<std::string, std::string>>& named) {
  return identity(named.size(), [&](std::size_t i) { return std::pair<std::string_view, std::string_view>(named[i]); });
}

std::string args_id(const TaskDefinition& definition, const CallBytes& call) {
  return identity(call.places.size(), [&](std::size_t i) {
    return std::pair<std::string_view, std::string_view>(definition.parameters[i], call.json_of(i));
  });
}

std::vector<std::pair<std::string, std::string>> named_of(const TaskDefinition& definition, const CallBytes& call) {
  std::vector<std::pair<std::string, std::string>> out;
  for (std::size_t i = 0; i < call.places.size(); ++i) out.emplace_back(definition.parameters[i], call.json_of(i));
  return out;
}

}  // namespace caller::task::detail
