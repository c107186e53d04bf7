#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "session/iopub.hpp"

using namespace caller::kernel;
using namespace std::chrono_literals;

namespace {

struct Recorder {
  struct Sent {
    std::string type, name, text;
    Request parent;
  };
  std::vector<Sent> sent;
  IopubWriter::Clock::time_point now{1h};
  IopubWriter writer{[this](const std::string& type, const Request& parent, const json& content, const json&, Frames) {
                       sent.push_back({type, field<std::string>(content, "name", ""),
                                       field<std::string>(content, "text", ""), parent});
                     },
                     [this] { return now; }};
  std::string texts() const {
    std::string out;
    for (const auto& s : sent) out += s.type == "stream" ? s.name.substr(3, 1) + ":" + s.text + "|" : s.type + "|";
    return out;
  }
};

Request request(const char* id) {
  auto m = std::make_shared<Message>();
  m->header["msg_id"] = id;
  return m;
}

}  // namespace

TEST_CASE("the first text leaves at once, the next together when due") {
  Recorder r;
  const Request a = request("a");
  r.writer.stream(a, StreamName::out, "1");
  CHECK(r.texts() == "o:1|");
  r.writer.stream(a, StreamName::out, "2");
  r.writer.stream(a, StreamName::out, "3");
  CHECK(r.texts() == "o:1|");
  CHECK(r.writer.flush_due() == r.now + IopubWriter::kInterval);
  r.now += IopubWriter::kInterval;
  r.writer.flush_due();
  CHECK(r.texts() == "o:1|o:23|");
  r.now += IopubWriter::kInterval;
  CHECK_FALSE(r.writer.flush_due());
}

TEST_CASE("other messages of a request never overtake its text (13, 55)") {
  Recorder r;
  const Request a = request("a");
  r.writer.stream(a, StreamName::out, "1");
  r.writer.stream(a, StreamName::out, "2");
  r.writer.stream(a, StreamName::err, "3");
  r.writer.stream(a, StreamName::out, "4");
  r.writer.publish("display_data", a, json::object());
  r.writer.stream(a, StreamName::out, "5");
  r.writer.finish(a);
  CHECK(r.texts() == "o:1|o:2|e:3|o:4|display_data|o:5|status|");
}

TEST_CASE("streams that change all the time make few messages and keep what each says in order") {
  Recorder r;
  const Request a = request("a");
  std::string expected;
  const auto begin = r.now;
  for (int i = 0; i < 100'000; ++i) {
    const std::string text = std::to_string(i) + "\n";
    r.writer.stream(a, StreamName::out, text);
    r.writer.stream(a, StreamName::err, text);
    expected += text;
    if (i % 1000 != 0) continue;
    r.now += IopubWriter::kInterval;
    r.writer.flush_due();
  }
  r.writer.finish(a);
  const double seconds = std::chrono::duration<double>(r.now - begin).count();
  CHECK(static_cast<double>(r.sent.size()) < 500 * seconds);
  std::string out, err;
  for (const auto& s : r.sent)
    if (s.type == "stream") (s.name == "stdout" ? out : err) += s.text;
  CHECK(out == expected);
  CHECK(err == expected);
}

TEST_CASE("streams that change now and then keep the order of the two") {
  Recorder r;
  const Request a = request("a");
  std::string expected;
  for (int i = 0; i < 1000; ++i) {
    const std::string n = std::to_string(i);
    r.writer.stream(a, StreamName::out, n);
    r.writer.stream(a, StreamName::err, n);
    r.now += 2 * IopubWriter::kChange;
    r.writer.flush_due();
    expected += n + n;
  }
  r.writer.finish(a);
  std::string seen;
  for (const auto& s : r.sent) seen += s.text;
  CHECK(seen == expected);
}

TEST_CASE("text of two requests is kept apart (14)") {
  Recorder r;
  const Request a = request("a"), b = request("b");
  for (int i = 0; i < 3; ++i) {
    r.writer.stream(a, StreamName::out, "a");
    r.writer.stream(b, StreamName::out, "b");
  }
  r.writer.finish(a);
  CHECK(r.texts() == "o:a|o:b|o:aa|status|");
  r.writer.finish(b);
  for (const auto& s : r.sent)
    if (s.type == "stream") CHECK((s.parent == a) == (s.text[0] == 'a'));
}

TEST_CASE("text that has grown large does not wait") {
  Recorder r;
  const Request a = request("a");
  r.writer.stream(a, StreamName::out, "1");
  r.writer.stream(a, StreamName::out, std::string(IopubWriter::kMost, 'x'));
  CHECK(r.sent.size() == 2);
}

TEST_CASE("a character split between writes arrives whole") {
  Recorder r;
  const Request a = request("a");
  const std::string text = "a\xF0\x9F\x98\x80\xC3\xA4";
  for (const char c : text) r.writer.stream(a, StreamName::out, std::string(1, c));
  r.writer.stream(a, StreamName::out, "\xC3");
  r.writer.finish(a);
  CHECK(r.texts() == "o:a|o:\xF0\x9F\x98\x80\xC3\xA4\xEF\xBF\xBD|status|");
}

TEST_CASE("late text of a finished request keeps its parent (56)") {
  Recorder r;
  const Request a = request("a");
  r.writer.finish(a);
  r.writer.stream(a, StreamName::out, "late");
  CHECK(r.sent.back().parent == a);
  CHECK(r.sent.back().text == "late");
}

TEST_CASE("200 000 writes from two threads lose nothing and keep their order (53)") {
  std::string seen[2];
  Request parents[2] = {request("0"), request("1")};
  IopubWriter writer([&](const std::string&, const Request& parent, const json& content, const json&, Frames) {
    seen[parent == parents[1]] += field<std::string>(content, "text", "");
  });
  writer.start();
  std::string expected[2];
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 2; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 100'000; ++i) {
          const std::string text = std::to_string(i) + "\n";
          expected[t] += text;
          writer.stream(parents[t], StreamName::out, text);
        }
      });
  }
  writer.stop();
  CHECK(seen[0] == expected[0]);
  CHECK(seen[1] == expected[1]);
}

TEST_CASE("half a character that came after idle goes when nobody can write the rest any more") {
  Recorder r;
  Request a = request("a");
  const std::weak_ptr<const Message> alive = a;
  r.writer.finish(a);
  r.writer.stream(a, StreamName::out, "\xC3");
  r.now += IopubWriter::kInterval;
  r.writer.flush_due();
  CHECK(r.texts() == "status|");
  r.writer.stream(a, StreamName::out, "\xA9\xC3");
  CHECK(r.texts() == "status|o:\xC3\xA9|");
  r.sent.clear();
  a.reset();
  r.now += IopubWriter::kInterval;
  r.writer.flush_due();
  CHECK(r.texts() == "o:\xEF\xBF\xBD|");
  r.sent.clear();
  CHECK(alive.expired());
}
