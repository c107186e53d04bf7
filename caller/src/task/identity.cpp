// Identities: of invocations at random, of calls by their content.
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>

#include "app.hpp"

namespace caller::task::detail {

namespace {

std::string hex(const unsigned char* bytes, std::size_t n) {
  std::string out;
  for (std::size_t i = 0; i < n; ++i) {
    out += "0123456789abcdef"[bytes[i] >> 4];
    out += "0123456789abcdef"[bytes[i] & 15];
  }
  return out;
}

std::string uuid_from(unsigned char* b, unsigned char version) {
  b[6] = static_cast<unsigned char>((b[6] & 0x0f) | version);
  b[8] = static_cast<unsigned char>((b[8] & 0x3f) | 0x80);
  std::string out = hex(b, 16);
  for (const std::size_t at : {8u, 13u, 18u, 23u}) out.insert(at, 1, '-');
  return out;
}

}  // namespace

namespace {

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
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  return hex(digest, sizeof digest);
}

std::string uuid_of(std::string_view text) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  return uuid_from(digest, 0x80);
}

std::string args_id(std::vector<std::pair<std::string, std::string>> named) {
  if (named.empty()) return "no_args";
  std::sort(named.begin(), named.end());
  std::string text;
  for (const auto& [name, json] : named) text += to_bytes(Format::json, name) + "=" + json + ";";
  return sha256_of(text);
}

}  // namespace caller::task::detail
