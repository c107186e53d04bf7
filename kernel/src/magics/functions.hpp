// The functions behind the magics, and what they share. Internal to this folder.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "magics/magics.hpp"

namespace caller::kernel::magics {

/// Ends the magic: it was used wrongly, or what it needs is not there.
[[noreturn]] void usage(const std::string& text);

/// Text of the cell.
void print(MagicContext& context, const std::string& text);

/// Columns padded to their widest entry, counted in characters.
std::string format_table(const std::vector<std::vector<std::string>>& rows);

/// Text that the client shows in its pager.
void page(MagicContext& context, const std::map<std::string, std::string>& data);

/// True when the user says yes; also when the client cannot be asked.
bool confirm(MagicContext& context, const std::string& question);

/// The options and words of a magic line.
struct Arguments {
  std::map<char, std::string> options;  ///< -x: the value of those that take one
  std::vector<std::string> words;
  bool has(char option) const { return options.contains(option); }
};

/// `known` as for getopt: letters, those that take a value followed by a colon. Throws by usage().
Arguments read_arguments(const MagicLine& line, const std::string& known);

/// The text of a file; throws by usage().
std::string read_file(const std::string& magic, const std::string& path);

/// `~` and `~/x` in the user's home.
std::string expand_home(const std::string& path);

#define CALLER_MAGIC(name) Coro<void> name(MagicContext&, const MagicLine&)
CALLER_MAGIC(callers);
CALLER_MAGIC(cd);
CALLER_MAGIC(command);
CALLER_MAGIC(connect_info);
CALLER_MAGIC(cxxflags);
CALLER_MAGIC(env);
CALLER_MAGIC(history);
CALLER_MAGIC(include_path);
CALLER_MAGIC(interrupts);
CALLER_MAGIC(lib);
CALLER_MAGIC(load);
CALLER_MAGIC(opt);
CALLER_MAGIC(pkg_config);
CALLER_MAGIC(pwd);
CALLER_MAGIC(question);
CALLER_MAGIC(reset);
CALLER_MAGIC(run);
CALLER_MAGIC(run_tube);
CALLER_MAGIC(save);
CALLER_MAGIC(subshell);
CALLER_MAGIC(time_code);
CALLER_MAGIC(timeit);
CALLER_MAGIC(who);
CALLER_MAGIC(writefile);
#undef CALLER_MAGIC

}  // namespace caller::kernel::magics
