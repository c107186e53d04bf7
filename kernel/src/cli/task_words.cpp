#include <CLI/CLI.hpp>

#include "checks.hpp"
#include "commands.hpp"
#include "task.hpp"

namespace caller::kernel::cli {

namespace {

class TaskCommands final : public Commands {
public:
  TaskCommands(CLI::App& app, std::vector<std::string> words, bool is_worker);
  bool given() const override;
  int run() override;

private:
  TaskFlags flags;
  std::vector<std::pair<CLI::App*, int (*)(const TaskFlags&)>> commands;

  CLI::App* add(CLI::App& to, const char* name, const char* help, int (*function)(const TaskFlags&)) {
    CLI::App* const c = to.add_subcommand(name, help);
    commands.emplace_back(c, function);
    flags.add_to(*c);
    return c;
  }
  void libraries(CLI::App& c) {
    c.add_option("--app", flags.libraries, "A library of tasks (CALLER_TASKS); may be repeated")
        ->type_name("LIB")
        ->allow_extra_args(false);
  }
  void as_json(CLI::App& c) { c.add_flag("--json", flags.json, "As JSON"); }
};

TaskCommands::TaskCommands(CLI::App& app, std::vector<std::string> words, bool is_worker) {
  flags.words = std::move(words);
  flags.is_worker = is_worker;
  auto* const runner = app.add_subcommand("runner", "Execute tasks, or show who does");
  runner->require_subcommand(1);
  auto* const start = add(*runner, "start", "Execute tasks until Ctrl-C; a second one ends at once", &runner_start);
  libraries(*start);
  start
      ->add_option("--runner", flags.runner,
                   "Which kind: thread, process, persistent_process, multi_thread, or one of a library")
      ->type_name("NAME");
  start->add_flag("--jit", flags.jit, "Execute functions of notebooks, too: each is compiled when it is first met");
  start->add_option("--slots", flags.slots, "Invocations at work at once; 0: one for each core")
      ->type_name("N")
      ->check(whole_number());
  start->add_option("--queue", flags.queues, "Serve only this queue; may be repeated")
      ->type_name("NAME")
      ->allow_extra_args(false);
  as_json(*add(*runner, "list", "Show the runners that live", &runner_list));

  auto* const task = app.add_subcommand("task", "Show, repeat, cancel or forget invocations of tasks");
  task->require_subcommand(1);
  auto* const list = add(*task, "list", "Show invocations, the newest first", &task_list);
  list->add_option("--status", flags.status, "Only those with this status")->type_name("STATUS");
  list->add_option("--task", flags.task_id, "Only those of this task")->type_name("ID");
  list->add_option("--limit", flags.limit, "How many")->type_name("N")->check(whole_number())->capture_default_str();
  list->add_option("--offset", flags.offset, "How many newer ones to pass over")
      ->type_name("N")
      ->check(whole_number())
      ->capture_default_str();
  as_json(*list);
  auto* const show = add(*task, "show", "All that is known of an invocation", &task_show);
  as_json(*show);
  auto* const retry = add(*task, "retry", "Make the same call once more", &task_retry);
  auto* const cancel = add(*task, "cancel", "Take an invocation back; one that runs is asked to end", &task_cancel);
  show->add_option("id", flags.id, "The invocation")->type_name("ID")->required();
  for (CLI::App* c : {retry, cancel}) c->add_option("id", flags.ids, "The invocations")->type_name("ID")->required();
  auto* const purge = add(*task, "purge", "Forget invocations: all of them, or what ended long ago", &task_purge);
  purge->add_option("--older-than", flags.older_than, "Only what ended so long ago, as 24h")->type_name("TIME");
  purge->add_flag("--yes", flags.yes, "Really do it");

  auto* const config = app.add_subcommand("config", "Show settings");
  config->require_subcommand(1);
  auto* const shown = add(*config, "show", "Each setting, and where its value comes from", &config_show);
  libraries(*shown);
  shown->add_option("section", flags.section, "Only this section")->type_name("SECTION");
  as_json(*shown);
}

bool TaskCommands::given() const {
  for (const auto& [command, function] : commands)
    if (command->parsed()) return true;
  return false;
}

int TaskCommands::run() {
  for (const auto& [command, function] : commands)
    if (command->parsed()) return function(flags);
  return 2;
}

}  // namespace

void ApplicationFlags::add_to(CLI::App& command) {
  command
      .add_option("--url", url,
                  "Invocations are in Redis: redis://[user:password@]host[:port][/database], or unix:///path")
      ->type_name("URL");
  command.add_option("--sqlite", sqlite, "Invocations are in this file")->type_name("FILE")->excludes("--url");
  command.add_option("--config", config, "A file of settings: .toml, .yaml or .json")->type_name("FILE");
  command.add_option("--app-id", app_id, "Name of the application")->type_name("NAME");
}

std::unique_ptr<Commands> task_commands(CLI::App& app, std::vector<std::string> words, bool is_worker) {
  return std::make_unique<TaskCommands>(app, std::move(words), is_worker);
}

}  // namespace caller::kernel::cli
