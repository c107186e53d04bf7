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
#include <map>
#include <optional>

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

void put_uuid(char* to, unsigned char* b, unsigned char version) {
  b[6] = static_cast<unsigned char>((b[6] & 0x0f) | version);
  b[8] = static_cast<unsigned char>((b[8] & 0x3f) | 0x80);
  put_hex(to, b, 4);
  put_hex(to + 9, b + 4, 2);
  put_hex(to + 14, b + 6, 2);
  put_hex(to + 19, b + 8, 2);
  put_hex(to + 24, b + 10, 6);
  to[8] = to[13] = to[18] = to[23] = '-';
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

void put_new_uuid(char* to) {
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
  put_uuid(to, b, 0x40);
}
std::string new_uuid() {
  std::string out(36, '-');
  put_new_uuid(out.data());
  return out;
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
  std::string out(36, '-');
  put_uuid(out.data(), digest.data(), 0x80);
  return out;
}

namespace {

void append_hash(std::string& out, std::string_view text) {
  const Digest digest = sha256(text);
  const std::size_t before = out.size();
  out.resize(before + 2 * digest.size());
  put_hex(out.data() + before, digest.data(), digest.size());
}

/// Names in their order, as they stand in the text that is hashed: the same for all calls of a task.
struct Names {
  explicit Names(const std::vector<std::string>& of) : names(of) {
    std::map<std::string_view, std::size_t> sorted;
    for (std::size_t i = 0; i < of.size(); ++i) sorted.emplace(of[i], i);
    for (const auto& [name, i] : sorted) {
      std::string& text = in_order.emplace_back(i, std::string()).second;
      Writer(Format::json, &text).text(name);
      text += '=';
    }
  }
  std::vector<std::string> names;
  std::vector<std::pair<std::size_t, std::string>> in_order;
};

}  // namespace

std::string args_id(const std::vector<std::pair<std::string, std::string>>& given) {
  std::vector<std::pair<std::string, std::string>> named = given;
  if (named.empty()) return "no_args";
  std::sort(named.begin(), named.end());
  std::string text, out;
  for (const auto& [name, json] : named) {
    Writer(Format::json, &text).text(name);
    text.append(1, '=').append(json).append(1, ';');
  }
  append_hash(out, text);
  return out;
}

void append_args_id(std::string& out, const TaskDefinition& definition, const CallBytes& call) {
  if (call.places.empty()) {
    out += "no_args";
    return;
  }
  thread_local std::optional<Names> last;  // most calls are of the same task as the one before
  if (!last || last->names != definition.parameters) last.emplace(definition.parameters);
  if (last->in_order.size() != call.places.size()) {  // names that stand there twice
    out += args_id(named_of(definition, call));
    return;
  }
  thread_local std::string text;
  text.clear();
  for (const auto& [i, name] : last->in_order) text.append(name).append(call.json_of(i)).append(1, ';');
  append_hash(out, text);
}
std::string args_id(const TaskDefinition& definition, const CallBytes& call) {
  std::string out;
  append_args_id(out, definition, call);
  return out;
}

std::vector<std::pair<std::string, std::string>> named_of(const TaskDefinition& definition, const CallBytes& call) {
  std::vector<std::pair<std::string, std::string>> out;
  for (std::size_t i = 0; i < call.places.size(); ++i) out.emplace_back(definition.parameters[i], call.json_of(i));
  return out;
}

}  // namespace caller::task::detail
