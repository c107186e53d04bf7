// `caller monitor`: a live web page over a task store.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <string>
#include <vector>

#include <caller/monitor/monitor.hpp>

#include "application.hpp"
#include "checks.hpp"
#include "commands.hpp"
#include "terminal.hpp"

namespace caller::kernel::cli {

namespace {

class MonitorCommand final : public Commands {
public:
  explicit MonitorCommand(CLI::App& app) {
    server_.port = 8787;
    command_ = app.add_subcommand("monitor", "Serve a live web page over the tasks of an application");
    application_.add_to(*command_);
    command_->add_option("--address", server_.address, "Where to serve, in numbers")->capture_default_str();
    command_->add_option("--port", server_.port, "0: one that is free")
        ->type_name("N")
        ->check(whole_number(65'535))
        ->capture_default_str();
    command_->add_flag("--allow-write", server_.allow_write, "Let the page cancel, run again and purge");
    command_->add_flag("--allow-remote", server_.allow_remote,
                       "Accept an --address that other machines can reach; everybody there may look");
    command_->add_option("--host-name", server_.host_names, "A name under which browsers ask for it; may be repeated")
        ->type_name("NAME")
        ->allow_extra_args(false);
  }
  bool given() const override { return command_->parsed(); }
  /// Serves until SIGINT or SIGTERM.
  int run() override {
    // Before there are threads, so that none of them is interrupted by what ends the program.
    sigset_t ends;
    sigemptyset(&ends);
    sigaddset(&ends, SIGINT);
    sigaddset(&ends, SIGTERM);
    ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);
    // A server that has gone is shown as such; waiting longer for it only makes the page slow to say so.
    const task::App app = shared(application_, [](task::Config& config) { config.option("redis.patience", "2s"); });
    const monitor::Monitor page(app, server_);
    if (server_.allow_remote)
      complain("caller monitor",
               "warning: " + page.address() +
                   " can be reached from other machines, whose users may look at everything, unencrypted");
    std::cout << page.url() << std::endl;
    if (server_.allow_write) std::cerr << "Who has this address, with its token, can cancel, run again and purge\n";
    std::cerr << "Ctrl-C ends it\n";
    int which = 0;
    ::sigwait(&ends, &which);
    return 0;
  }

private:
  CLI::App* command_ = nullptr;
  ApplicationFlags application_;
  monitor::MonitorOptions server_;
};

}  // namespace

std::unique_ptr<Commands> monitor_commands(CLI::App& app) { return std::make_unique<MonitorCommand>(app); }

}  // namespace caller::kernel::cli
