// Values by key, data by hash.
#include "store.hpp"

#include <algorithm>

namespace caller::task::redis {

namespace {

std::optional<std::string> maybe(Answer& a) { return a.more() ? std::optional(a.text()) : std::nullopt; }

}  // namespace

Pending<std::optional<std::string>> RedisStore::value(std::string key) {
  return step<std::optional<std::string>>(scripts().value, {std::move(key)}, &maybe);
}

Pending<bool> RedisStore::set_value(ValueChange c) {
  if (c.key.empty()) {
    Pending<bool> p;
    p.set_exception(StateBackendError("a value needs a key"));
    return p;
  }
  Strings a{std::move(c.key),
            std::to_string(static_cast<int>(c.expect)),
            std::move(c.expected),
            c.value ? "1" : "0",
            c.value ? std::move(*c.value) : std::string(),
            micros(c.lifetime),
            token(),
            std::to_string(again_for_.count())};
  for (auto& call : c.then) append(a, call, nullptr);
  return step<bool>(scripts().set_value, std::move(a), [](Answer& answer) { return answer.number() == 1; });
}

Pending<std::vector<std::pair<std::string, std::string>>> RedisStore::values(std::string prefix, std::string after,
                                                                             std::size_t most) {
  std::string end = prefix;  // the first key behind those that begin so
  while (!end.empty() && end.back() == '\xff') end.pop_back();
  if (!end.empty()) end.back() = static_cast<char>(static_cast<unsigned char>(end.back()) + 1);
  return step<std::vector<std::pair<std::string, std::string>>>(
      scripts().values,
      {after < prefix ? "[" + prefix : "(" + after, end.empty() ? "+" : "(" + end,
       std::to_string(std::min<std::size_t>(most, 1'000'000))},
      [](Answer& a) {
        std::vector<std::pair<std::string, std::string>> out;
        while (a.more()) {
          std::string key = a.text();
          out.emplace_back(std::move(key), a.text());
        }
        return out;
      });
}

Pending<void> RedisStore::put_data(std::string hash, std::string bytes) {
  return step<void>(scripts().put_data, {compact(hash), std::move(bytes)}, [](Answer&) {});
}

Pending<std::optional<std::string>> RedisStore::data(std::string hash) {
  return step<std::optional<std::string>>(scripts().data, {compact(hash)}, &maybe);
}

}  // namespace caller::task::redis
