// The life of an invocation: it is added, taken, changed, cancelled.
#include "store.hpp"

#include <algorithm>
#include <charconv>
#include <iterator>

namespace caller::task::redis {

namespace {

Strings to_take(std::string runner, std::size_t most, Strings queues, bool begin) {
  Strings a{std::move(runner), std::to_string(std::min<std::size_t>(most, 10'000)), std::string(), begin ? "1" : "0"};
  a.insert(a.end(), std::make_move_iterator(queues.begin()), std::make_move_iterator(queues.end()));
  return a;
}

}  // namespace

/// As a script that adds wants it; behind `before`, if that is there.
void RedisStore::append(Strings& a, NewInvocation& c, const NewInvocation* before) {
  std::string rest = before && same_rest(*before, c) ? a.back() : rest_of(c);
  a.push_back(std::move(c.id));
  a.push_back(compact(c.call_id));
  a.push_back(std::move(c.args));
  a.push_back(std::move(c.parent_id));
  a.push_back(std::move(rest));
}

/// Nobody asks what became of them: they are new.
Pending<std::vector<Added>> RedisStore::add_plain(std::vector<NewInvocation> calls) {
  const NewInvocation& first = calls.front();
  Strings a{first.task_id, first.queue, std::to_string(-static_cast<long>(first.priority)), common_of(first)};
  a.reserve(4 + 2 * calls.size());
  const auto out = std::make_shared<std::vector<Added>>(calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) {
    (*out)[i].id = calls[i].id;
    a.push_back(calls[i].id);
    a.push_back(own_of(calls[i]));
  }
  return step<std::vector<Added>>(scripts().add_plain, std::move(a), [out](Answer&) { return std::move(*out); });
}

Pending<std::vector<Added>> RedisStore::add(std::vector<NewInvocation> calls) {
  const auto is_like_the_first = [&](const NewInvocation& c) { return is_plain(c) && same_rest(calls.front(), c); };
  if (!calls.empty() && std::all_of(calls.begin(), calls.end(), is_like_the_first)) return add_plain(std::move(calls));
  Strings a;
  a.reserve(calls.size() * 5);
  const auto out = std::make_shared<std::vector<Added>>(calls.size());
  for (std::size_t i = 0; i < calls.size(); ++i) {
    (*out)[i].id = calls[i].id;
    append(a, calls[i], i ? &calls[i - 1] : nullptr);
  }
  return step<std::vector<Added>>(scripts().add, std::move(a), [out](Answer& answer) {
    if (answer.what() == "refused") out->assign(out->size(), Added());
    while (answer.more()) {
      Added& old = out->at(answer.number<std::size_t>());
      old.id = answer.text();
      old.reused = true;
      old.refused = answer.text() == "refused";
      old.call_id = expanded(answer.text());
      old.args = answer.text();
    }
    return std::move(*out);
  });
}

Pending<std::vector<InvocationRecord>> RedisStore::take(std::string runner, std::size_t most,
                                                        std::vector<std::string> queues, bool begin) {
  Pending<std::vector<InvocationRecord>> p;
  if (auto list = begin ? given_to(runner, most) : std::vector<InvocationRecord>(); !list.empty())
    p.set_result(std::move(list));
  else
    take_some(p, to_take(std::move(runner), most, std::move(queues), begin));
  return p;
}

void RedisStore::take_some(Pending<std::vector<InvocationRecord>> p, Strings a) {
  a[2] = token();
  a[3] = asks(a[0], a[2], a[3] != "0");
  Strings asked = a;
  client_->run(scripts().take, prefix_, std::move(a),
               [this, p, asked = std::move(asked)](Reply* reply, const std::exception_ptr& error) mutable {
                 took(p, std::move(asked), reply, error);
               });
}

void RedisStore::took(const Pending<std::vector<InvocationRecord>>& p, Strings asked, Reply* reply,
                      std::exception_ptr error) {
  bool more = false;
  std::vector<Got> list;
  if (!error) {
    try {
      Answer answer(*reply);
      check(answer);
      if (answer.what() != "ok")
        throw StateBackendError("Redis at " + client_->address().shown + " cannot take: " + answer.text());
      more = answer.number() == 1;
      while (answer.more()) {
        Got& one = list.emplace_back();
        one.record = answer.record(&one.step);
      }
    } catch (...) {
      error = std::current_exception();
    }
  }
  if (error) {
    failed_to_take(asked[0], asked[2]);
    p.set_exception(error);
    return;
  }
  const bool offers = list.empty() && !more && asked[3] > "1";
  more = has(asked, list, offers) || more;
  if (more && list.empty() && asked[3] != "0") {  // what it brought may have come by a message
    if (auto given = given_to(asked[0], std::stoul(asked[1])); !given.empty())
      return void(p.set_result(std::move(given)));
  }
  if (more && list.empty() && !p.done()) return take_some(p, std::move(asked));
  if (more) tell_of_work(asked[0]);  // before it learns that it gets less than it asked for
  std::vector<InvocationRecord> records;
  records.reserve(list.size());
  for (Got& one : list) records.push_back(std::move(one.record));
  p.set_result(std::move(records));
}

/// Its arguments without data and calls, which are taken out of it.
Strings RedisStore::to_change(Change& c) {
  std::string& bytes = c.to == Status::failed ? c.exception : c.result;
  const std::string to = (c.code_goes_on ? "+" : "") + std::to_string(static_cast<int>(c.to));
  if (c.code_goes_on) knows_code(c.runner, c.id, true);
  return {std::move(c.id), to, std::move(c.runner), std::move(bytes), micros(c.delay), token()};
}

namespace {

/// Whether a runner whose end of an invocation was not taken has it still, and will tell that again: it was not heard,
/// or the invocation is PAUSED for a wait which that end did not know of.
bool keeps(const Reply* refusal, const std::exception_ptr& error) {
  if (error) return true;
  Reply seen = *refusal;
  if (seen.list.empty()) return false;
  try {
    Answer a(seen);
    if (a.what() != "transition") return false;
    (void)a.text();
    return is_owned(a.status());
  } catch (const StateBackendError&) {
    return false;
  }
}

}  // namespace

void RedisStore::changed(const Pending<void>& p, const Changing& what, Reply* reply, const std::exception_ptr& error) {
  const bool failed = error || reply->list.empty() || reply->list[0].text != "ok";
  const bool ends = !is_owned(what.to) && !(failed && keeps(reply, error));
  if (ends || (what.to == Status::running && failed)) no_longer_has(what.runner, what.id, failed);
  settle(p, reply, error, what.to, [](Answer&) {});
}

Pending<void> RedisStore::change(Change c) {
  Pending<void> p;
  const Changing what{c.id, c.runner, c.to};
  Strings a = to_change(c);
  if (!c.data.empty() || !c.then.empty()) a.push_back(packed(c.data));
  for (auto& call : c.then) append(a, call, nullptr);
  client_->run(scripts().change, prefix_, std::move(a),
               [this, p, what](Reply* reply, const std::exception_ptr& error) { changed(p, what, reply, error); });
  return p;
}

Pending<void> RedisStore::code_ended(std::string runner, std::string id) {
  knows_code(runner, id, false);
  return step<void>(scripts().code_ended, {std::move(runner), std::move(id)}, [](Answer&) {});
}

ChangeAndTake RedisStore::change_and_take(Change c, std::size_t most, std::vector<std::string> queues) {
  if (!c.data.empty() || !c.then.empty()) return Store::change_and_take(std::move(c), most, std::move(queues));
  ChangeAndTake next;
  if (auto list = given_to(c.runner, most); !list.empty()) {
    next.changed = change(std::move(c));
    next.taken.set_result(std::move(list));
    return next;
  }
  const Changing what{c.id, c.runner, c.to};
  Strings take = to_take(c.runner, most, std::move(queues), true), a = to_change(c);
  take[2] = token();
  take[3] = asks(what.runner, take[2], true);
  a.insert(a.end(), take.begin(), take.end());
  client_->run(scripts().next, prefix_, std::move(a),
               [this, next, what, take = std::move(take)](Reply* reply, const std::exception_ptr& error) mutable {
                 if (error || reply->list.size() < 2) {
                   changed(next.changed, what, reply, error);
                   return took(next.taken, std::move(take), reply, error);
                 }
                 Reply first, second;
                 first.kind = second.kind = Reply::Kind::list;
                 auto& parts = reply->list;
                 std::size_t n = 0;
                 const std::string& text = parts[1].text;
                 std::from_chars(text.data(), text.data() + text.size(), n);
                 const auto middle = parts.begin() + static_cast<std::ptrdiff_t>(std::min(2 + n, parts.size()));
                 first.list.assign(std::make_move_iterator(parts.begin() + 2), std::make_move_iterator(middle));
                 second.list.assign(std::make_move_iterator(middle), std::make_move_iterator(parts.end()));
                 changed(next.changed, what, &first, nullptr);
                 took(next.taken, std::move(take), &second, nullptr);
               });
  return next;
}

Pending<bool> RedisStore::cancel(std::string id) {
  return step<bool>(scripts().cancel, {std::move(id), token()}, [](Answer& a) { return a.number() == 1; });
}

}  // namespace caller::task::redis
