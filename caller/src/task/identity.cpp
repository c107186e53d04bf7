// Identities: of invocations at random, of calls by their content.
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <numeric>

#include "app.hpp"

namespace caller::task::detail {

namespace {

char* put_hex(char* out, const unsigned char* bytes, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    *out++ = "0123456789abcdef"[bytes[i] >> 4];
    *out++ = "0123456789abcdef"[bytes[i] & 15];
  }
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
  char* to = out.data();
  std::size_t from = 0;
  for (const std::size_t n : {4u, 2u, 2u, 2u, 6u}) {
    to = put_hex(to, b + from, n) + 1;
    from += n;
  }
  return out;
}

/// Each thread's own, with the algorithm looked up once: a look-up takes longer than the hash of a short text.
class Sha256 {
public:
  using Digest = unsigned char[SHA256_DIGEST_LENGTH];
  Sha256() : context_(EVP_MD_CTX_new()) {}
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  ~Sha256() { EVP_MD_CTX_free(context_); }
  void operator()(std::string_view text, Digest& out) {
    static EVP_MD* const algorithm = EVP_MD_fetch(nullptr, "SHA256", nullptr);  // for the process
    if (!context_ || !algorithm || EVP_DigestInit_ex2(context_, algorithm, nullptr) != 1 ||
        EVP_DigestUpdate(context_, text.data(), text.size()) != 1 || EVP_DigestFinal_ex(context_, out, nullptr) != 1)
      throw TaskingError("the system gives no hashes");
  }

private:
  EVP_MD_CTX* const context_;
};
Sha256& sha256() {
  thread_local Sha256 own;
  return own;
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
  sha256()(text, digest);
  return hex(digest, sizeof digest);
}

std::string uuid_of(std::string_view text) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  sha256()(text, digest);
  return uuid_from(digest, 0x80);
}

std::string args_id(const std::vector<std::pair<std::string, std::string>>& named) {
  if (named.empty()) return "no_args";
  std::vector<std::size_t> order;  // most are in it already
  if (!std::is_sorted(named.begin(), named.end())) {
    order.resize(named.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return named[a] < named[b]; });
  }
  thread_local std::string text;
  text.clear();
  for (std::size_t i = 0; i < named.size(); ++i) {
    const auto& [name, json] = named[order.empty() ? i : order[i]];
    Writer(Format::json, &text).text(name);
    text += '=';
    text += json;
    text += ';';
  }
  return sha256_of(text);
}

}  // namespace caller::task::detail
