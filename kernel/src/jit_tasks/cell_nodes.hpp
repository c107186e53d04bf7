// Nodes of tubes that only a notebook's cells define, in processes of their own.
#pragma once

#include <string>
#include <vector>

#include "interpreter/function_source.hpp"

namespace caller::kernel {

/// What such a process is told: the text of the cells that its nodes need, and which types to make of them.
struct CellNodes {
  struct Type {
    std::string name;  ///< as the specification names it
    bool asset = false;
  };
  std::vector<std::string> nodes;  ///< their ids, for messages
  std::vector<Type> types;
  FunctionSource source;
  std::string prelude_directory;  ///< of the compiler; empty: beside the program
};

/// As ClusterProgram::payload, and back. Thread-safety: any thread. Errors: std::invalid_argument for what is none.
std::string to_payload(const CellNodes& nodes);
CellNodes from_payload(const std::string& payload);

/// The program that becomes such a process: this one if it is `caller`, else the one that was installed with it.
/// Thread-safety: any thread. Errors: none; what is not there cannot be started. Source: none.
std::string cell_node_program();

/// The argument that makes `caller` a process of nodes.
inline constexpr const char* kCellNodeArgument = "--caller-tube-node";

/// Runs nodes until the runner says stop, and ends the process. `argv` has that argument and no other.
///
/// Faults of nodes are errors of their epoch. What nodes print is the process's output, line by line. Variables of the
/// cells begin as they are declared.
///
/// Thread-safety: the main thread. Errors: those of a node, with the lines of its cell, go to the runner. Source: none.
[[noreturn]] void cell_node_main(int argc, char** argv);

}  // namespace caller::kernel
