// Control, completion, many cells, comms, interrupts, shutdown, many clients.
#include "figures.hpp"

namespace bench {
using namespace std::chrono_literals;
namespace {

const char* const kSpinCpp = "for (volatile long i = 0;; i = i + 1) {}";
const char* const kSpinPython = "while True: pass";

std::string spin(const Kernel& k) { return k.say(kSpinCpp, kSpinPython); }

void wait_busy(Client& c, const std::string& id) {
  c.until(
      [&] {
        return std::any_of(c.published.begin(), c.published.end(),
                           [&](auto& m) { return m.parent == id && m.type == "execute_input"; });
      },
      "execute_input");
}

void interrupt(Session& s, const Kernel& k) {
  if (k.cpp)
    s.client.send(Client::control, "interrupt_request");
  else
    ::kill(s.process.pid, SIGINT);  // as its kernel.json asks for
}

}  // namespace

void measure_control(const Kernel& k, const Report& report) {
  Session s(k);
  const auto series = [&](int n) {
    std::vector<double> ms;
    for (int i = 0; i < n; ++i) {
      ms.push_back(s.client.ask(Client::control, "kernel_info_request"));
      s.client.forget();
    }
    return ms;
  };
  series(50);
  const auto idle = series(k.times(1000));
  report("control_idle_p50", quantile(idle, 0.5));
  report("control_idle_p99", quantile(idle, 0.99));
  auto id = s.client.execute(spin(k));
  wait_busy(s.client, id);
  std::this_thread::sleep_for(300ms);
  const auto busy = series(k.times(1000));
  report("control_spin_p50", quantile(busy, 0.5));
  report("control_spin_p99", quantile(busy, 0.99));
  interrupt(s, k);
  s.client.until([&] { return s.client.idle.count(id) > 0; }, "end of the loop");
  if (!k.cpp) return;
  // A cell that takes the compiler a second and more.
  s.client.forget();
  id = s.client.execute(
      "#include <regex>\n#include <bits/stdc++.h>\nstd::regex r(\"a*b\"); std::regex_match(\"aab\", r)");
  wait_busy(s.client, id);
  std::vector<double> compiling;
  while (!s.client.idle.count(id)) compiling.push_back(s.client.ask(Client::control, "kernel_info_request"));
  report("control_compile_p99", quantile(compiling, 0.99));
}

void measure_completion(const Kernel& k, const Report& report) {
  Session s(k);
  s.client.must(k.say("std::vector<std::string> words{\"a\"};", "words = ['a']"));
  const std::string code = k.say("auto n = words.pu", "n = words.ap");
  const json content = {{"code", code}, {"cursor_pos", code.size()}};
  const auto series = [&](int n) {
    std::vector<double> ms;
    for (int i = 0; i < n; ++i) ms.push_back(s.client.ask(Client::shell, "complete_request", content));
    return ms;
  };
  const auto id = s.client.send(Client::shell, "complete_request", content);
  s.client.until([&] { return s.client.replies.count(id) > 0; }, "complete_reply");
  const json matches = s.client.replies.at(id).content().at("matches");
  if (std::none_of(matches.begin(), matches.end(), [&](auto& m) {
        return m.template get<std::string>().find(k.say("push_back", "append")) != std::string::npos;
      }))
    throw std::runtime_error("the completion is wrong: " + matches.dump());
  report("complete_idle_p50", quantile(series(k.times(100)), 0.5));
  if (!k.cpp) return;  // it answers after the cell
  const auto cell = s.client.execute(spin(k));
  wait_busy(s.client, cell);
  std::this_thread::sleep_for(300ms);
  report("complete_busy_p50", quantile(series(k.times(100)), 0.5));
}

void measure_queue(const Kernel& k, const Report& report) {
  Session s(k);
  const int n = k.times(1000);
  std::vector<std::string> ids;
  const auto begin = Clock::now();
  for (int i = 0; i < n; ++i) ids.push_back(s.client.execute(std::to_string(i) + " + 2"));
  s.client.until([&] { return s.client.idle.count(ids.back()) && s.client.replies.count(ids.back()); },
                 "the last of many cells", 300s);
  report("queued_per_s", n / ms_since(begin) * 1000);
  for (auto& id : ids)
    if (!s.client.idle.count(id) || !s.client.replies.count(id)) throw std::runtime_error("a queued cell was lost");
}

void measure_comms(const Kernel& k, const Report& report) {
  Session s(k);
  if (!k.cpp)
    s.client.must(
        "def opened(comm, message):\n    comm.on_msg(lambda m: comm.send(m['content']['data']))\n"
        "get_ipython().kernel.comm_manager.register_target('echo', opened)");
  s.client.send(Client::shell, "comm_open", {{"comm_id", "c1"}, {"target_name", "echo"}, {"data", json::object()}});
  s.client.pump(200ms);
  const auto series = [&](int n) {
    std::vector<double> ms;
    for (int i = 0; i < n; ++i) {
      s.client.forget();
      const auto begin = Clock::now();
      s.client.send(Client::shell, "comm_msg", {{"comm_id", "c1"}, {"data", {{"value", i}}}});
      const Message* echo = nullptr;
      s.client.until(
          [&] {
            for (auto& m : s.client.published)
              if (m.type == "comm_msg") echo = &m;
            return echo != nullptr;
          },
          "the echo of a comm");
      ms.push_back(std::chrono::duration<double, std::milli>(echo->arrived - begin).count());
    }
    return ms;
  };
  series(50);
  report("comm_p50", quantile(series(k.times(1000)), 0.5));
  if (!k.cpp) return;
  const auto id = s.client.execute("co_await caller::sleep_for(60s);");
  wait_busy(s.client, id);
  std::this_thread::sleep_for(200ms);
  report("comm_await_p50", quantile(series(k.times(1000)), 0.5));
}

void measure_interrupts(const Kernel& k, const Report& report) {
  Session s(k);
  std::vector<std::string> cells = {spin(k), k.say("std::this_thread::sleep_for(60s);", "import time; time.sleep(60)")};
  if (k.cpp) {
    cells.push_back("co_await caller::sleep_for(60s);");
    cells.push_back("std::vector<int> heap(1000); for (;;) std::sort(heap.begin(), heap.end());");
    cells.push_back("std::mutex m; std::condition_variable cv; std::unique_lock l(m); cv.wait_for(l, 60s);");
  }
  std::vector<double> ms;
  for (int round = 0; round < k.times(10); ++round)
    for (const auto& cell : cells) {
      s.client.forget();
      const auto id = s.client.execute(cell);
      wait_busy(s.client, id);
      std::this_thread::sleep_for(150ms);
      if (s.client.idle.count(id))
        throw std::runtime_error("this was to run on: " + cell + s.client.replies.at(id).raw);
      const auto begin = Clock::now();
      interrupt(s, k);
      s.client.until([&] { return s.client.idle.count(id) && s.client.replies.count(id); }, cell.c_str());
      ms.push_back(std::chrono::duration<double, std::milli>(s.client.idle.at(id) - begin).count());
    }
  report("interrupt_p50", quantile(ms, 0.5));
  report("interrupt_max", quantile(ms, 1));
}

void measure_shutdown(const Kernel& k, const Report& report) {
  for (const bool spinning : {false, true}) {
    Session s(k);
    if (spinning) wait_busy(s.client, s.client.execute(spin(k)));
    std::this_thread::sleep_for(300ms);  // idle is a kernel that has nothing left to do after its first cell
    s.client.send(Client::control, "shutdown_request", {{"restart", false}});
    const double ms = s.process.wait_end(8s);
    report(spinning ? "shutdown_spin" : "shutdown_idle", ms < 0 ? 8000 : ms);
  }
}

void measure_clients(const Kernel& k, const Report& report) {
  Session s(k);
  const int n = k.times(100);
  const auto begin = Clock::now();
  std::vector<std::unique_ptr<Client>> clients;
  std::vector<std::string> ids;
  for (int i = 0; i < n; ++i) {
    clients.push_back(std::make_unique<Client>(s.process.info, numbered("client", i)));
    ids.push_back(clients.back()->execute(std::to_string(i) + " + 3"));
  }
  for (int i = 0; i < n; ++i) {
    auto& c = *clients[static_cast<std::size_t>(i)];
    c.until([&] { return c.replies.count(ids[static_cast<std::size_t>(i)]) > 0; }, "the reply of one of many clients");
  }
  report("clients_100", ms_since(begin) * 100 / n);
}

}  // namespace bench
