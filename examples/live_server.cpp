// A server that somebody can look into while it runs: it embeds a kernel, and a console attaches to it.
//
//   live_server            serves until its standard input ends; prints how to attach
//   live_server --check    checks itself
//
// In the console, for instance:
//   server.served()
//   server.set_greeting("Good evening");
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <stdexcept>
#include <string>
#include <thread>

#include <caller/all.hpp>
#include <caller/kernel/embed.hpp>

#include "live_server.hpp"

namespace {

using Clock = std::chrono::steady_clock;

void expect(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("not so: ") + what);
}

// A client of the server in this process: a request a millisecond, and how long each took.
void make_requests(const caller::Caller& serving, live::Server& server, const std::atomic<bool>& stop) {
  while (!stop) {
    const auto begin = Clock::now();
    (void)serving.call_soon([&server] { return server.answer("world"); }).wait();
    server.note(std::chrono::duration<double, std::micro>(Clock::now() - begin).count());
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

void check_itself(caller::EmbeddedKernel& kernel, live::Server& server) {
  const std::filesystem::path file = kernel.connection_file();
  struct stat status{};
  expect(::stat(file.c_str(), &status) == 0 && (status.st_mode & 0777) == 0600, "the file is its owner's alone");
  // What a console would type.
  kernel.declare("server.set_greeting(\"Good evening\");");
  expect(server.answer("world") == "Good evening, world", "a cell changes the live object");
  bool refused = false;
  try {
    kernel.expose("server", server, "namespace live { class Server { int other; }; }");
  } catch (const std::exception&) {
    refused = true;
  }
  expect(refused, "another class of that name is refused");
  bool second = false;
  try {
    (void)caller::embed_kernel();
  } catch (const std::logic_error&) {
    second = true;
  }
  expect(second, "one kernel at a time");
  kernel.stop();
  expect(!std::filesystem::exists(file) && !kernel.running(), "its file goes with it");
}

}  // namespace

int main(int argc, char** argv) {
  const bool check = argc > 1 && std::string(argv[1]) == "--check";
  try {
    live::Server server;
    caller::Caller serving(caller::new_thread, {.name = "Serving"});
    std::atomic<bool> stop{false};
    std::thread client([&] { make_requests(serving, server, stop); });
    struct Stop {
      std::atomic<bool>& flag;
      std::thread& thread;
      ~Stop() {
        flag = true;
        thread.join();
      }
    } const end{stop, client};

    caller::EmbedOptions options;
    if (check)
      options.connection_file = std::filesystem::temp_directory_path() / ("live-" + std::to_string(::getpid()));
    caller::EmbeddedKernel kernel = caller::embed_kernel(options);
    kernel.expose("server", server, "#include \"" LIVE_SERVER_HEADER "\"");
    if (check) {
      check_itself(kernel, server);
      std::cout << "ok" << std::endl;
      return 0;
    }
    std::cout << "jupyter console --existing " << kernel.connection_file().string() << std::endl;
    for (std::string line; std::getline(std::cin, line);)
      if (line == "say") std::cout << "the server's own words" << std::endl;
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "live_server: " << error.what() << std::endl;
    return 1;
  }
}
