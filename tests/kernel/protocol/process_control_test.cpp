// The kernel as a process: control, interrupts, input, comms, subshells, the end. Numbers are lines of the checklist.
#include "client.hpp"

using namespace caller::kernel;
using namespace caller::kernel::test;

TEST_CASE_FIXTURE(Session, "kernel_info on shell and control (29, 44, 50)") {
  for (const Channel channel : {Channel::shell, Channel::control}) {
    const json info = client.content(client.send(channel, "kernel_info_request"), channel);
    CHECK(info.at("status") == "ok");
    CHECK(info.at("protocol_version") == "5.5");
    CHECK(info.at("implementation") == "caller");
    CHECK(info.at("language_info").at("name") == "c++");
    CHECK(info.at("language_info").at("file_extension") == ".cpp");
    const json features = info.at("supported_features");
    CHECK(features.front() == "kernel subshells");
    CHECK(
        (features.size() == 1 || (features.size() == 2 && features[1] == "debugger")));  // where lldb-dap is installed
    CHECK(info.at("help_links").is_array());
  }
}

TEST_CASE_FIXTURE(Session, "control and the heartbeat answer while a cell computes (30, 51, 62)") {
  const auto cell = client.execute("print on\nspin");
  client.next(cell, "stream");
  CHECK(client.content(client.send(Channel::control, "kernel_info_request"), Channel::control).at("status") == "ok");
  CHECK(client.content(client.send(Channel::control, "usage_request"), Channel::control).at("pid") == kernel.pid);
  CHECK(client.content(client.send(Channel::shell, "complete_request", {{"code", "a"}, {"cursor_pos", 1}}))
            .at("status") == "ok");
  client.heartbeat.send(zmq::str_buffer("ping"));
  zmq::message_t pong;
  REQUIRE(client.heartbeat.recv(pong));
  CHECK(pong.to_string() == "ping");
}

TEST_CASE_FIXTURE(Session, "an unknown type gets busy and idle, and bad frames change nothing (4, 5, 9)") {
  CHECK(Client::types(client.published(client.send(Channel::shell, "frobnicate_request"))) == "status status ");
  const std::string header = R"({"msg_id":"replay","msg_type":"kernel_info_request"})";
  const Frames good = client.signed_frames(header, "{}", "{}", "{}");
  Frames wrong = good;
  wrong[1][0] ^= 1;
  for (const Frames& frames :
       {wrong, Frames{"<IDS|MSG>"}, Frames{"x", "y"}, Frames(good.begin(), good.begin() + 4),
        client.signed_frames("{", "{}", "{}", "{}"), client.signed_frames("\xff", "{}", "{}", "{}"), good, good})
    Client::send_frames(client.shell, frames);
  const auto last = client.send(Channel::shell, "kernel_info_request");
  int answers = 0;
  for (Received m = client.receive(client.shell);; m = client.receive(client.shell)) {
    if (m.parent_id() == last) break;
    CHECK(m.parent_id() == "replay");
    ++answers;
  }
  CHECK(answers == 1);
}

TEST_CASE_FIXTURE(Session, "an interrupt is answered at once and ends every kind of cell (41, 42, 43, 60)") {
  for (const char* code : {"spin", "await 100000", "awaitspin", "sleep 100000", "hang", "ask ?", "getline",
                           "!sleep 100", "// task\nspin", "// thread\nspin", "// thread name=w\nawait 100000"}) {
    CAPTURE(code);
    // The cell says when it runs: its text is there before the interrupt is sent.
    std::string text = code;
    const std::size_t body = text.starts_with("//") ? text.find('\n') + 1 : 0;
    const bool magic = text[body] == '!';
    text.insert(body, magic ? "!echo on\n" : "print on\n");
    const auto cell = client.execute(text);
    client.next(cell, "stream");
    const auto interrupt = client.send(Channel::control, "interrupt_request");
    CHECK(client.content(interrupt, Channel::control) == json{{"status", "ok"}});
    CHECK(client.content(cell).at("ename") == "Interrupted");
    client.published(cell);
    CHECK(client.content(client.execute("print fine")).at("status") == "ok");
  }
  CHECK(client.content(client.send(Channel::control, "interrupt_request"), Channel::control).at("status") == "ok");
}

TEST_CASE_FIXTURE(Session, "one interrupt ends the cells of all shells (43)") {
  const json created = client.content(client.send(Channel::control, "create_subshell_request"), Channel::control);
  const std::vector<std::string> cells = {
      client.execute("print on\nspin"),
      client.execute("print on\nspin", json::object(), json::object(), created.at("subshell_id"))};
  for (const auto& c : cells) client.next(c, "stream");
  client.send(Channel::control, "interrupt_request");
  for (const auto& c : cells) CHECK(client.content(c).at("ename") == "Interrupted");
}

TEST_CASE_FIXTURE(Session, "input reaches the asking client, two cells may wait, others are served (57, 59, 61)") {
  Client other(kernel.info, "other");
  const auto first = client.execute("ask first");
  const Received one = client.receive(client.input);
  CHECK(one.parent_id() == first);
  CHECK(one.content == json{{"prompt", "first"}, {"password", false}});
  const auto second = other.execute("// task\nask second");
  const Received two = other.receive(other.input);
  CHECK(two.parent_id() == second);
  CHECK(client.content(client.send(Channel::shell, "kernel_info_request")).at("status") == "ok");
  const auto open = client.send(Channel::shell, "comm_open", {{"comm_id", "c"}, {"target_name", "echo"}});
  client.published(open);
  other.send(Channel::input, "input_reply", {{"value", "for two"}}, json::object(), "", {}, two.header);
  client.send(Channel::input, "input_reply", {{"value", "for one"}}, json::object(), "", {}, one.header);
  CHECK(Client::text(client.published(first)) == "got for one\n");
  CHECK(Client::text(other.published(second)) == "got for two\n");
}

TEST_CASE_FIXTURE(Session, "input that the client does not allow is an error at once (58)") {
  for (const char* code : {"ask x", "getline"})
    CHECK(client.content(client.execute(code, {{"allow_stdin", false}})).at("status") == "error");
  const auto id = client.execute("getline");
  const Received question = client.receive(client.input);
  client.send(Channel::input, "input_reply", {{"value", "typed"}}, json::object(), "", {}, question.header);
  CHECK(Client::text(client.published(id)) == "line typed\n");
}

TEST_CASE_FIXTURE(Session,
                  "comms open, echo with metadata and buffers, close; unknown ones are refused (28, 33, 34, 35)") {
  const json id = {{"comm_id", "c1"}};
  client.published(
      client.send(Channel::shell, "comm_open", {{"comm_id", "c1"}, {"target_name", "echo"}, {"data", json::object()}}));
  CHECK(client.content(client.send(Channel::shell, "comm_info_request")).at("comms") ==
        json{{"c1", {{"target_name", "echo"}}}});
  CHECK(client.content(client.send(Channel::shell, "comm_info_request", {{"target_name", "other"}})).at("comms") ==
        json::object());
  const std::string binary("\0\xff", 2);
  const auto sent =
      client.send(Channel::shell, "comm_msg", {{"comm_id", "c1"}, {"data", {{"x", 1}}}}, {{"m", 2}}, "", {binary, ""});
  const Messages m = client.published(sent);
  REQUIRE(Client::types(m) == "status comm_msg status ");
  CHECK(m[1].content == json{{"comm_id", "c1"}, {"data", {{"x", 1}}}});
  CHECK(m[1].metadata == json{{"m", 2}});
  CHECK(m[1].buffers == Frames{binary, ""});
  client.published(client.send(Channel::shell, "comm_close", {{"comm_id", "c1"}}));
  CHECK(client.content(client.send(Channel::shell, "comm_info_request")).at("comms") == json::object());
  const Messages refused =
      client.published(client.send(Channel::shell, "comm_open", {{"comm_id", "c2"}, {"target_name", "none"}}));
  REQUIRE(Client::types(refused) == "status comm_close status ");
  CHECK(refused[1].content.at("comm_id") == "c2");
  for (const json& content : {json{{"comm_id", "none"}}, json::object(), json{{"comm_id", std::string(1000, 'x')}}})
    CHECK(Client::types(client.published(client.send(Channel::shell, "comm_msg", content))) == "status status ");
  CHECK(Client::types(client.published(client.send(Channel::shell, "comm_open",
                                                   {{"comm_id", std::string(1000, 'x')}, {"target_name", "echo"}}))) ==
        "status comm_close status ");
}

TEST_CASE_FIXTURE(Session, "comms are served while a cell awaits, on a subshell also while one computes (36)") {
  const auto open = [&](const char* id, const std::string& shell) {
    client.published(
        client.send(Channel::shell, "comm_open", {{"comm_id", id}, {"target_name", "echo"}}, json::object(), shell));
    return Client::types(client.published(
        client.send(Channel::shell, "comm_msg", {{"comm_id", id}, {"data", 1}}, json::object(), shell)));
  };
  const auto waiting = client.execute("print on\nawait 100000");
  client.next(waiting, "stream");
  CHECK(open("a", "") == "status comm_msg status ");
  client.send(Channel::control, "interrupt_request");
  client.published(waiting);
  const std::string shell =
      client.content(client.send(Channel::control, "create_subshell_request"), Channel::control).at("subshell_id");
  const auto spinning = client.execute("print on\nspin");
  client.next(spinning, "stream");
  CHECK(open("b", shell) == "status comm_msg status ");
}

TEST_CASE_FIXTURE(Session,
                  "subshells run beside the main shell, with a count and a history of their own (45, 46, 47, 48, 49)") {
  const auto control = [&](const char* type, json content = json::object()) {
    const auto id = client.send(Channel::control, type, content);
    client.published(id);
    return client.content(id, Channel::control);
  };
  const std::string shell = control("create_subshell_request").at("subshell_id");
  CHECK(control("list_subshell_request").at("subshell_id") == json::array({shell}));
  client.content(client.execute("print main"));
  const auto busy = client.execute("print on\nspin");
  client.next(busy, "stream");
  for (int i = 1; i <= 3; ++i) {
    const auto id = client.execute("print sub" + std::to_string(i), json::object(), json::object(), shell);
    const Received reply = client.reply(id);
    CHECK(reply.content.at("execution_count") == i);
    CHECK(reply.header.at("subshell_id") == shell);
    CHECK(Client::text(client.published(id)) == "sub" + std::to_string(i) + "\n");
  }
  CHECK(control("delete_subshell_request", {{"subshell_id", shell}}).at("status") == "ok");
  CHECK(control("delete_subshell_request", {{"subshell_id", shell}}).at("status") == "error");
  CHECK(control("list_subshell_request").at("subshell_id") == json::array());
  const auto lost = client.execute("print", json::object(), json::object(), shell);
  CHECK(client.content(lost).at("status") == "error");
  CHECK(Client::types(client.published(lost)) == "status status ");
}

TEST_CASE_FIXTURE(Session, "deleting a subshell ends its cell") {
  const std::string shell =
      client.content(client.send(Channel::control, "create_subshell_request"), Channel::control).at("subshell_id");
  const auto id = client.execute("print on\nawait 100000", json::object(), json::object(), shell);
  client.next(id, "stream");
  client.send(Channel::control, "delete_subshell_request", {{"subshell_id", shell}});
  CHECK(client.content(id).at("status") == "error");
  client.published(id);
}

TEST_CASE_FIXTURE(Session, "shutdown is answered before the exit, also while a cell computes (37, 39)") {
  const auto cell = client.execute("print on\nspin");
  client.next(cell, "stream");
  const auto id = client.send(Channel::control, "shutdown_request", {{"restart", true}});
  CHECK(client.content(id, Channel::control) == json{{"status", "ok"}, {"restart", true}});
  const Messages m = client.published(id);
  REQUIRE(Client::types(m) == "status shutdown_reply status ");
  CHECK(m[1].content == json{{"status", "ok"}, {"restart", true}});
  CHECK(kernel.wait() == 0);
}

TEST_CASE_FIXTURE(Session, "shutdown works on shell too, and restart keeps the sockets' addresses (38, 40)") {
  const auto id = client.send(Channel::shell, "shutdown_request");
  CHECK(client.content(id) == json{{"status", "ok"}, {"restart", false}});
  CHECK(kernel.wait() == 0);
}

TEST_CASE_FIXTURE(Session, "SIGINT and a client that vanishes do not end the kernel (65, 67)") {
  kill(kernel.pid, SIGINT);
  kill(kernel.pid, SIGPIPE);
  {
    Client brief(kernel.info, "brief");
  }
  CHECK(client.content(client.execute("print on")).at("status") == "ok");
}

TEST_CASE("the kernel exits when the process named by JPY_PARENT_PID ends (66)") {
  int hold[2];
  REQUIRE(pipe(hold) == 0);
  const pid_t parent = fork();
  if (parent == 0) {
    close(hold[1]);
    char c;
    _exit(read(hold[0], &c, 1) == 0 ? 0 : 1);
  }
  KernelProcess kernel({"JPY_PARENT_PID=" + std::to_string(parent)});
  Client client(kernel.info);
  client.content(client.execute("print on"));
  close(hold[0]);
  close(hold[1]);  // ends the parent; the kernel has inherited neither, as pipes of a test it would keep them open
  kill(parent, SIGKILL);
  waitpid(parent, nullptr, 0);
  CHECK(kernel.wait() == 0);
}

TEST_CASE("a bad connection file is a clear message and a non-zero exit (63)") {
  const caller::test::TemporaryFolder dir;
  for (const std::string& file : {dir.file("missing.json"), dir.path.string()}) {
    std::string program = CALLER_FAKE_KERNEL, argument = file;
    char* arguments[] = {program.data(), argument.data(), nullptr};
    pid_t pid = -1;
    posix_spawn_file_actions_t quiet;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", 1, 0);
    REQUIRE(posix_spawn(&pid, program.c_str(), &quiet, nullptr, arguments, environ) == 0);
    int status = 0;
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK(WEXITSTATUS(status) == 1);
    posix_spawn_file_actions_destroy(&quiet);
  }
}
