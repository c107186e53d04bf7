// Functions and classes of cells as nodes of tubes, and tubes as variables of cells.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include <caller/tube/cluster.hpp>
#include <caller/tube/spec.hpp>
#include <caller/tube/tube.hpp>

#include "magics/magics.hpp"

namespace caller::kernel {

/// What the tubes of a kernel's cells have left in the registry and in the session.
///
/// Thread-safety: `mutex` guards all of it. Errors: none. Source: none.
struct TubeSession {
  TubeSession() = default;
  ~TubeSession();  ///< takes the cells' types out of the registry, as their code goes
  TubeSession(const TubeSession&) = delete;
  TubeSession& operator=(const TubeSession&) = delete;

  /// `tubes::name`: a reference of the cells to a tube that is replaced when its cell runs again.
  struct Variable {
    std::unique_ptr<tube::Tube> tube;
    const void* declaration = nullptr;
  };
  std::mutex mutex;
  std::map<std::string, const void*> nodes, assets;  ///< types registered for cells, and which declaration each is of
  std::set<std::string> crossing;                    ///< those of them that were registered with codecs
  std::map<std::string, Variable> variables;
  std::set<std::string> plugins;  ///< loaded by cells: those run again
  unsigned cells = 0;             ///< generated so far
};

namespace magics {

/// The kernel's one. Thread-safety: any thread. Errors: none. Source: none.
TubeSession& tube_session(Kernel& kernel);

/// Loads a plugin, once. Errors: tube::Error.
void load_plugin_once(Kernel& kernel, const std::string& path);

/// The types of a specification that are of cells, by name.
struct CellTypes {
  std::set<std::string> nodes, assets;
};

/// Makes nodes of what `spec`, and the tubes inside of it, names by type: functions, lambdas, classes of cells.
///
/// A type that was registered by other means is left alone. What a later cell has declared anew replaces what was
/// registered before. With `elsewhere` the nodes are to run in other processes: objects of cells get codecs, as far as
/// that can be done. Returns the types that are of cells.
///
/// Thread-safety: on the Caller of the cell. Cancel-safety: the cell is left at once, a compile goes on.
/// Errors: tube::SpecError at the place of the type, for what is unknown and what cannot be a node.
/// Source: Python's import system in noob.
Coro<CellTypes> register_nodes(MagicContext& context, const tube::TubeSpec& spec, bool elsewhere);

/// What runs a process of the nodes with these ids: an empty worker for those that need nothing of cells.
///
/// Thread-safety: a thread that may wait for the compiler; `spec` and `types` are those of register_nodes().
/// Errors: tube::Error for what other processes cannot compile. Source: none.
tube::ClusterProgram cell_program(Kernel& kernel, const tube::TubeSpec& spec, const CellTypes& types,
                                  const std::vector<std::string>& nodes);

/// The name in the namespace `tubes` of the tube with that id: what cannot stand in a name becomes `_`.
std::string tube_variable(const std::string& id);

/// Makes `tubes::…` mean this tube. Errors: std::runtime_error with the compiler's words.
Coro<void> declare_tube(MagicContext& context, tube::Tube tube);

}  // namespace magics
}  // namespace caller::kernel
