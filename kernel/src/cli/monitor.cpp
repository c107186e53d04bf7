// `caller monitor`: a live web page over a task store.
#include <CLI/CLI.hpp>
#include <csignal>
#include <iostream>
#include <string>
#include <vector>

#include <caller/monitor/monitor.hpp>
#include <caller/task/sqlite.hpp>
#include <caller/task/store.hpp>

#include "commands.hpp"

namespace caller::kernel::cli {

namespace {

class MonitorCommand final : public Commands {
public:
  explicit MonitorCommand(CLI::App& app) {
    server_.port = 8787;
    command_ = app.add_subcommand("monitor", "Serve a live web page over the tasks of an application");
    auto* store = command_->add_option_group("store", "Where the invocations are");
    store->add_option("--url", url_, "A Redis server: redis://[user:password@]host[:port][/database] or unix:///path")
        ->type_name("URL");
    store->add_option("--sqlite", sqlite_, "A file of SQLite")->type_name("FILE")->check(CLI::ExistingFile);
    store->require_option(1);
    command_->add_option("--app-id", app_id_, "The application whose tasks are shown")->capture_default_str();
    command_->add_option("--address", server_.address, "Where to serve, in numbers")->capture_default_str();
    command_->add_option("--port", server_.port, "0: one that is free")->type_name("N")->capture_default_str();
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
    auto store = url_.empty() ? task::make_sqlite_store(sqlite_)
                              : task::make_redis_store(url_, app_id_, std::chrono::seconds(2));
    server_.title = app_id_;
    const monitor::Monitor page(std::move(store), server_);
    if (server_.allow_remote)
      std::cerr << "caller monitor: warning: " << page.address()
                << " can be reached from other machines, whose users may look at everything, unencrypted\n";
    std::cout << page.url() << std::endl;
    if (server_.allow_write)
      std::cerr << "caller monitor: who has this address, with its token, can cancel, run again and purge\n";
    std::cerr << "caller monitor: Ctrl-C ends it\n";
    int which = 0;
    ::sigwait(&ends, &which);
    return 0;
  }

private:
  CLI::App* command_ = nullptr;
  std::string url_, sqlite_, app_id_ = "caller";
  monitor::MonitorOptions server_;
};

}  // namespace

std::unique_ptr<Commands> monitor_commands(CLI::App& app) { return std::make_unique<MonitorCommand>(app); }

}  // namespace caller::kernel::cli
