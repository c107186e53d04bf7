// The kernel as a process: what shells answer and publish. Numbers are lines of the protocol checklist.
#include "client.hpp"

using namespace caller::kernel;
using namespace caller::kernel::test;

TEST_CASE_FIXTURE(Session, "a cell is busy, shown, run, answered and idle, in that order (12, 13, 16, 17, 55)") {
  const auto id = client.execute("print one\nresult 42\nprint two");
  const json reply = client.content(id);
  CHECK(
      reply ==
      json{{"status", "ok"}, {"execution_count", 1}, {"payload", json::array()}, {"user_expressions", json::object()}});
  const Messages m = client.published(id);
  CHECK(Client::text(m) == "one\ntwo\n");
  CHECK(m[1].type() == "execute_input");
  CHECK(m[1].content == json{{"code", "print one\nresult 42\nprint two"}, {"execution_count", 1}});
  for (const auto& x : m)
    if (x.type() == "execute_result")
      CHECK(x.content == json{{"execution_count", 1}, {"data", {{"text/plain", "42"}}}, {"metadata", json::object()}});
}

TEST_CASE_FIXTURE(Session, "a failed cell says the same on iopub and in its reply (15, 20)") {
  const auto id = client.execute("throw it broke");
  json reply = client.content(id);
  CHECK(reply.at("status") == "error");
  CHECK(reply.at("traceback").is_array());
  const Messages m = client.published(id);
  CHECK(Client::types(m) == "status execute_input error status ");
  for (const auto& [key, value] : m[2].content.items()) CHECK(reply.at(key) == value);
  CHECK(m[2].content.size() == 3);
  CHECK(m[2].content.at("evalue") == "it broke");
  const auto bad = client.execute("bad no such thing");
  CHECK(client.content(bad).at("ename") == "CompileError");
}

TEST_CASE_FIXTURE(Session, "a silent cell shows no input, no result, counts nothing and is not remembered (18, 19)") {
  client.content(client.execute("print 1"));
  const auto id = client.execute("result 5", {{"silent", true}, {"store_history", true}});
  CHECK(client.content(id).at("execution_count") == 1);
  CHECK(Client::types(client.published(id)) == "status status ");
  const auto unstored = client.execute("print 2", {{"store_history", false}});
  CHECK(client.content(unstored).at("execution_count") == 1);
  CHECK(client.content(client.execute("print 3")).at("execution_count") == 2);
  const auto history = client.send(Channel::shell, "history_request", {{"hist_access_type", "tail"}, {"n", 10}});
  CHECK(client.content(history).at("history").size() == 2);
}

TEST_CASE_FIXTURE(Session, "null fields of an execute_request stand for their defaults (8, 16)") {
  const auto id = client.execute("print 1", {{"silent", nullptr},
                                             {"store_history", nullptr},
                                             {"user_expressions", nullptr},
                                             {"stop_on_error", nullptr},
                                             {"future_field", 1}});
  CHECK(client.content(id).at("execution_count") == 1);
}

TEST_CASE_FIXTURE(Session, "a failure refuses the cells received before it, and only those (21)") {
  std::vector<std::string> ids = {client.execute("ask go\nthrow x")};
  for (int i = 0; i < 3; ++i) ids.push_back(client.execute("print no"));
  const auto comm = client.send(Channel::shell, "comm_info_request");  // received after them
  client.content(comm);
  const Received question = client.receive(client.input);
  client.send(Channel::input, "input_reply", {{"value", ""}}, json::object(), "", {}, question.header);
  CHECK(client.content(ids[0]).at("ename") == "Exception");
  for (int i = 1; i <= 3; ++i) {
    const json refused = client.content(ids[static_cast<std::size_t>(i)]);
    CHECK(refused.at("status") == "error");
    CHECK(refused.at("ename") == "ExecutionAborted");
    CHECK(Client::types(client.published(ids[static_cast<std::size_t>(i)])) == "status status ");
  }
  CHECK(client.content(client.execute("print yes")).at("status") == "ok");
}

TEST_CASE_FIXTURE(Session, "stop_on_error false, raises-exception and stop-on-error=false stop nothing (21)") {
  const json none = json::object();
  const std::vector<std::pair<json, json>> kinds = {{{{"stop_on_error", false}}, none},
                                                    {none, {{"tags", {"raises-exception"}}}},
                                                    {none, {{"tags", {"stop-on-error=false"}}}}};
  for (const auto& [more, metadata] : kinds) {
    const auto failing = client.execute("ask go\nthrow x", more, metadata);
    const auto after = client.execute("print on");
    const Received question = client.receive(client.input);
    client.content(client.send(Channel::shell, "comm_info_request"));
    client.send(Channel::input, "input_reply", {{"value", ""}}, none, "", {}, question.header);
    CHECK(client.content(failing).at("status") == "error");
    CHECK(client.content(after).at("status") == "ok");
  }
}

TEST_CASE_FIXTURE(Session, "a failing silent request stops nothing (18, 21)") {
  const auto running = client.execute("ask go");
  const auto waiting = client.execute("print on");
  const Received question = client.receive(client.input);
  CHECK(client.content(client.execute("throw x", {{"silent", true}})).at("status") == "error");
  client.send(Channel::input, "input_reply", {{"value", ""}}, json::object(), "", {}, question.header);
  CHECK(client.content(running).at("status") == "ok");
  CHECK(client.content(waiting).at("status") == "ok");
}

TEST_CASE_FIXTURE(Session, "user expressions are evaluated after the cell, a failing one alone fails (22)") {
  const auto id = client.execute("print 1", {{"user_expressions", {{"a", "result 7"}, {"b", "throw x"}, {"c", 5}}}});
  const json e = client.content(id).at("user_expressions");
  CHECK(e.at("a") == json{{"status", "ok"}, {"data", {{"text/plain", "7"}}}, {"metadata", json::object()}});
  CHECK(e.at("b").at("status") == "error");
  CHECK(e.at("c").at("status") == "error");
  CHECK(Client::types(client.published(id)).find("execute_result") == std::string::npos);
}

TEST_CASE_FIXTURE(Session, "concurrent cells never cross (14)") {
  std::vector<std::string> ids;
  for (int i = 0; i < 30; ++i) {
    const std::string n = std::to_string(i);
    ids.push_back(client.execute(std::string(i % 3 ? "// task" : "// thread") + "\nprint a" + n +
                                 "\nawait 5\nprintf b" + n + "\nlater 0 c" + n));
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::string n = std::to_string(i), text = Client::text(client.published(ids[i]));
    CHECK(text.starts_with("a" + n + "\nb" + n + "\n"));
    CHECK(client.content(ids[i]).at("status") == "ok");
  }
}

TEST_CASE_FIXTURE(Session, "what a task of a cell writes after its end keeps its parent (56)") {
  const auto id = client.execute("ask now\nlater 20 word");
  const Received question = client.receive(client.input);
  client.send(Channel::input, "input_reply", {{"value", ""}}, json::object(), "", {}, question.header);
  client.content(id);
  client.published(id);
  CHECK(client.next(id, "stream").content.at("text").get<std::string>().starts_with("late"));
}

TEST_CASE_FIXTURE(Session, "every way of writing is captured, in order, before idle (13)") {
  const auto id = client.execute("print cout\nprintf printf\nwrite write\nprint again\nerror cerr\nthread raw\n");
  CHECK(Client::text(client.published(id)) == "cout\nprintf\nwrite\nagain\ncerr\nraw\n");
}

TEST_CASE_FIXTURE(Session, "100 000 lines arrive complete, in order and in few messages (53)") {
  const auto id = client.execute("count 100000");
  const Messages m = client.published(id);
  std::string expected;
  for (int i = 0; i < 100'000; ++i) expected += std::to_string(i) + "\n";
  CHECK((Client::text(m) == expected));
  CHECK(m.size() < 200);
}

TEST_CASE_FIXTURE(Session,
                  "completion, inspection and completeness answer, with cursors in code points (23, 24, 25, 26)") {
  const std::string code = "\xF0\x9F\x98\x80\n\xC3\xA4 abc";
  json c = client.content(client.send(Channel::shell, "complete_request", {{"code", code}, {"cursor_pos", 7}}));
  CHECK(c.at("matches") == json::array({"abc_done"}));
  CHECK(c.at("cursor_start") == 4);
  CHECK(c.at("cursor_end") == 7);
  c = client.content(client.send(Channel::shell, "complete_request", {{"code", "%lsm"}, {"cursor_pos", 4}}));
  CHECK(c.at("matches") == json::array({"%lsmagic"}));
  c = client.content(client.send(Channel::shell, "complete_request", {{"code", "throw"}, {"cursor_pos", 2}}));
  CHECK(c.at("status") == "error");
  c = client.content(
      client.send(Channel::shell, "inspect_request", {{"code", "known"}, {"cursor_pos", 2}, {"detail_level", 1}}));
  CHECK(c == json{{"status", "ok"},
                  {"found", true},
                  {"data", {{"text/plain", "known, with source"}}},
                  {"metadata", json::object()}});
  c = client.content(client.send(Channel::shell, "inspect_request", {{"code", "other"}, {"cursor_pos", 2}}));
  CHECK(c == json{{"status", "ok"}, {"found", false}, {"data", json::object()}, {"metadata", json::object()}});
  c = client.content(client.send(Channel::shell, "is_complete_request", {{"code", "if {"}}));
  CHECK(c == json{{"status", "incomplete"}, {"indent", "  "}});
  c = client.content(client.send(Channel::shell, "is_complete_request", {{"code", "%pwd"}}));
  CHECK(c.at("status") == "complete");
}

TEST_CASE_FIXTURE(Session, "history gives tail, range and search, with output (27)") {
  for (const char* code : {"result 1", "print 2", "result 3"}) client.published(client.execute(code));
  const auto ask = [&](json content) {
    return client.content(client.send(Channel::shell, "history_request", content)).at("history");
  };
  CHECK(ask({{"hist_access_type", "tail"}, {"n", 2}}) == json::array({{1, 2, "print 2"}, {1, 3, "result 3"}}));
  CHECK(ask({{"hist_access_type", "range"}, {"session", 0}, {"start", 1}, {"stop", 2}, {"output", true}}) ==
        json::array({json::array({1, 1, json::array({"result 1", "1"})})}));
  CHECK(ask({{"hist_access_type", "search"}, {"pattern", "result*"}, {"n", 1}}) == json::array({{1, 3, "result 3"}}));
  const auto wrong = client.send(Channel::shell, "history_request", {{"hist_access_type", "all"}});
  CHECK(client.content(wrong).at("status") == "error");
}

TEST_CASE_FIXTURE(Session, "payloads open the pager and set the next input (32)") {
  json p = client.content(client.execute("?known")).at("payload");
  CHECK(p[0].at("source") == "page");
  CHECK(p[0].at("data").at("text/plain") == "known");
  p = client.content(client.execute("%load " + kernel.dir.file("c.json"))).at("payload");
  CHECK(p[0].at("source") == "set_next_input");
}

TEST_CASE_FIXTURE(Session, "a time-out tag ends a computing and an awaiting cell with an error") {
  for (const char* code : {"spin", "await 100000", "awaitspin"}) {
    const auto id = client.execute(code, json::object(), {{"tags", {"timeout=0.05"}}});
    CHECK(client.content(id).at("ename") == "TimedOut");
  }
  CHECK(client.content(client.execute("print on")).at("status") == "ok");
}

TEST_CASE_FIXTURE(Session, "magics run before the code; an unknown one names the nearest") {
  const auto id = client.execute("// a comment\n%pwd\n!echo from the shell; exit 0\nprint code");
  const std::string text = Client::text(client.published(id));
  CHECK(text.find("from the shell\ncode\n") != std::string::npos);
  CHECK(client.content(client.execute("%lsmagik")).at("evalue").get<std::string>().find("%lsmagic") !=
        std::string::npos);
  CHECK(Client::text(client.published(client.execute("%callers"))).find("← current") != std::string::npos);
  CHECK(client.content(client.execute("!exit 3")).at("evalue") == "the command ended with exit code 3");
}

TEST_CASE_FIXTURE(Session, "a thread cell with a backend that does not exist is an error, and nothing runs") {
  const auto id = client.execute("// thread name=a backend=none\nprint no");
  CHECK(client.content(id).at("evalue") == "there is no backend none");
  CHECK(Client::types(client.published(id)) == "status error status ");
  CHECK(client.content(client.execute("// thread name=a backend=asio\nprint yes")).at("status") == "ok");
}
