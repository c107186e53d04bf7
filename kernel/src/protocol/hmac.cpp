#include "protocol/hmac.hpp"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <array>
#include <memory>
#include <stdexcept>

namespace caller::kernel {
namespace {
struct Release {
  void operator()(EVP_MAC* p) const { EVP_MAC_free(p); }
  void operator()(EVP_MAC_CTX* p) const { EVP_MAC_CTX_free(p); }
};
}  // namespace

std::string Signer::sign(std::initializer_list<std::string_view> parts) const {
  if (!enabled()) return {};
  // Fetching the algorithm is slow and shared; a context is cheap and belongs to one thread.
  static const std::unique_ptr<EVP_MAC, Release> mac(EVP_MAC_fetch(nullptr, "HMAC", nullptr));
  const std::unique_ptr<EVP_MAC_CTX, Release> context(mac ? EVP_MAC_CTX_new(mac.get()) : nullptr);
  char digest[] = "SHA256";
  const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                               OSSL_PARAM_construct_end()};
  const auto bytes = [](std::string_view s) { return reinterpret_cast<const unsigned char*>(s.data()); };
  if (!context || EVP_MAC_init(context.get(), bytes(key_), key_.size(), params) != 1)
    throw std::runtime_error("signing a message: HMAC-SHA256 is not available");
  for (const std::string_view part : parts) EVP_MAC_update(context.get(), bytes(part), part.size());
  std::array<unsigned char, 32> raw{};
  std::size_t length = 0;
  if (EVP_MAC_final(context.get(), raw.data(), &length, raw.size()) != 1 || length != raw.size())
    throw std::runtime_error("signing a message: HMAC-SHA256 failed");
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(64);
  for (const unsigned char b : raw) {
    out += kHex[b >> 4];
    out += kHex[b & 15];
  }
  return out;
}

bool Signer::verify(std::string_view signature, std::initializer_list<std::string_view> parts) const {
  if (!enabled()) return true;
  const std::string expected = sign(parts);
  return signature.size() == expected.size() && CRYPTO_memcmp(signature.data(), expected.data(), expected.size()) == 0;
}

bool ReplayGuard::admit(std::string_view signature) {
  const auto [it, fresh] = seen_.emplace(signature);
  if (!fresh) return false;
  order_.push_back(*it);
  if (order_.size() > limit_) {
    seen_.erase(order_.front());
    order_.pop_front();
  }
  return true;
}

}  // namespace caller::kernel
