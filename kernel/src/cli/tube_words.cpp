// `caller tube …`.
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "checks.hpp"
#include "commands.hpp"
#include "tube.hpp"

namespace caller::kernel::cli {

namespace {

struct TubeCommands final : Commands {
  explicit TubeCommands(CLI::App& app) : tube(app.add_subcommand("tube", "Run, check or draw a dataflow graph")) {
    tube->require_subcommand(1);
    run_ = tube->add_subcommand("run", "Run a tube; results go to standard output, a line of JSON each");
    check = tube->add_subcommand("check", "Build a tube without running it");
    plot = tube->add_subcommand("plot", "Draw the graph");
    types = tube->add_subcommand("types", "Show what specifications can name");
    for (CLI::App* command : {run_, check, plot}) {
      command->add_option("spec", options.spec, "An id in the search path, or a file")->type_name("SPEC")->required();
      command->add_option("-i,--input", inputs, "An input: its name, and JSON or text; may be repeated")
          ->type_name("NAME VALUE")
          ->allow_extra_args(false);
    }
    for (CLI::App* command : {run_, check, plot, types}) {
      command->add_option("--plugin", options.plugins, "A shared object that registers types; may be repeated")
          ->type_name("LIB")
          ->allow_extra_args(false);
      command->add_option("--path", options.folders, "A folder of tubes; may be repeated (also: CALLER_TUBE_PATH)")
          ->type_name("DIR")
          ->allow_extra_args(false);
    }
    run_->add_option("--runner", options.runner, "Where nodes run")
        ->check(one_of({"sync", "async", "thread", "cluster"}))
        ->capture_default_str();
    run_->add_option("-n", options.n, "How many results; all, if not given")->type_name("N")->check(whole_number());
    run_->add_option("--input-format", options.input_format, "Of the inputs on standard input (short: -if)")
        ->check(one_of({"json", "jsonl"}))
        ->capture_default_str();
    run_->add_option("--output-format", options.output_format, "Of the results (short: -of)")
        ->check(one_of({"json", "jsonl"}))
        ->capture_default_str();
    run_->add_flag("--progress", options.progress, "Show on standard error how far the run is");
    check->add_flag("--json", options.json, "The built graph as JSON");
    types->add_flag("--json", options.json, "As JSON");
    plot->add_option("-o,--output", options.output,
                     "A .svg, .png, .pdf or .dot file; without it the dot text is printed")
        ->type_name("FILE");
  }

  bool given() const override { return tube->parsed(); }
  int run() override {
    options.inputs = inputs;
    if (*run_) return tube_run(options);
    if (*check) return tube_check(options);
    if (*plot) return tube_plot(options);
    return tube_types(options);
  }

  TubeOptions options;
  std::vector<std::pair<std::string, std::string>> inputs;
  CLI::App* tube;
  CLI::App *run_ = nullptr, *check = nullptr, *plot = nullptr, *types = nullptr;
};

}  // namespace

std::unique_ptr<Commands> tube_commands(CLI::App& app) { return std::make_unique<TubeCommands>(app); }

}  // namespace caller::kernel::cli
