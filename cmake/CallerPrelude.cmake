# The header every cell begins with, compiled in advance by the compiler that compiles the cells.
#
# clang takes a precompiled header only with the flags it was made with, so both read them from one generated file,
# `prelude.args`, which is made from the properties of the libraries cells use.

# caller_prelude(<name> <header> <checker> <libraries…> [NODES <header>]): target <name>, and its files in lib/caller/prelude of
# build and install tree.
# <checker> is the program that compiles what must ask for interrupts; its object is linked first, so that its functions are taken.
# NODES: a header for processes of nodes, precompiled on top of the first (nodes.pch).
function(caller_prelude name header checker)
  cmake_parse_arguments(PARSE_ARGV 3 _arg "" "NODES" "")
  set(_out ${CMAKE_BINARY_DIR}/lib/caller/prelude)
  set(_flags -std=c++20 -O2 -DCALLER_IN_CELL -fPIE -fno-semantic-interposition -Wno-return-type-c-linkage -Wno-unused-value -Wno-extern-initializer)
  set(_dirs "")
  set(_defs "")
  foreach(_lib ${_arg_UNPARSED_ARGUMENTS} caller_runtime)
    list(APPEND _dirs "$<TARGET_PROPERTY:${_lib},INTERFACE_INCLUDE_DIRECTORIES>")
    list(APPEND _defs "$<TARGET_PROPERTY:${_lib},INTERFACE_COMPILE_DEFINITIONS>")
  endforeach()
  set(_dirs "$<REMOVE_DUPLICATES:${_dirs}>")
  set(_defs "$<REMOVE_DUPLICATES:$<FILTER:${_defs},EXCLUDE,^$>>")
  list(JOIN _flags "\n" _flag_lines)
  set(_flag_lines "${_flag_lines}\n$<$<BOOL:${_defs}>:-D$<JOIN:${_defs},\n-D>\n>")
  file(GENERATE OUTPUT ${_out}/prelude.args CONTENT "${_flag_lines}-I$<JOIN:${_dirs},\n-I>\n")

  # The response file's lines are the arguments; the rest is what a header that is also compiled needs.
  set(_pch -x c++-header -fpch-codegen -fpch-instantiate-templates -Xclang -building-pch-with-obj -Xclang -fincremental-extensions)
  set(_on_top -x c++-header -Xclang -fincremental-extensions)
  # Constructors that are aliases are not inlined. A branch instead of a conditional move: as in cells (optimiser.cpp).
  set(_object -Wno-unused-command-line-argument -fPIC -Xclang -fincremental-extensions -Xclang -mno-constructor-aliases -mllvm -phi-node-folding-threshold=0)
  set(_link ${CMAKE_CXX_COMPILER} -shared -Wl,-Bsymbolic-functions)  # what it calls of its own, it calls directly
  set(_clang ${CALLER_CLANGXX} @${_out}/prelude.args)
  add_custom_command(OUTPUT ${_out}/prelude.pch
    COMMAND ${_clang} ${_pch} -MD -MF ${_out}/prelude.d -MT ${_out}/prelude.pch ${header} -o ${_out}/prelude.pch
    DEPENDS ${header} ${_out}/prelude.args
    DEPFILE ${_out}/prelude.d
    COMMENT "Precompiling the prelude of cells" VERBATIM)
  add_custom_command(OUTPUT ${_out}/libcaller_prelude.so
    COMMAND ${_clang} ${_object} -c ${_out}/prelude.pch -o ${_out}/prelude.o
    COMMAND ${checker} ${_out}/prelude.args ${_out}/prelude.pch ${_out}/checked.o
    COMMAND ${_link} -o ${_out}/libcaller_prelude.so ${_out}/checked.o ${_out}/prelude.o
    COMMAND ${CMAKE_COMMAND} -E rm ${_out}/prelude.o ${_out}/checked.o
    DEPENDS ${_out}/prelude.pch ${checker}
    COMMENT "Compiling the prelude's code" VERBATIM)
  set(_files ${_out}/prelude.pch ${_out}/libcaller_prelude.so)
  if(_arg_NODES)
    add_custom_command(OUTPUT ${_out}/nodes.pch
      COMMAND ${_clang} ${_on_top} -include-pch ${_out}/prelude.pch -MD -MF ${_out}/nodes.d -MT ${_out}/nodes.pch ${_arg_NODES} -o ${_out}/nodes.pch
      DEPENDS ${_arg_NODES} ${_out}/prelude.pch
      DEPFILE ${_out}/nodes.d
      COMMENT "Precompiling what processes of nodes need" VERBATIM)
    list(APPEND _files ${_out}/nodes.pch)
  endif()
  add_custom_target(${name} DEPENDS ${_files})

  # Installed, the header is compiled again: a precompiled header remembers where its sources are.
  set(CALLER_PRELUDE_PCH "${_pch}")
  set(CALLER_PRELUDE_OBJECT "${_object}")
  set(CALLER_PRELUDE_ON_TOP "${_on_top}")
  set(CALLER_PRELUDE_LINK "${_link}")
  cmake_path(GET _arg_NODES FILENAME CALLER_PRELUDE_NODES)
  set(CALLER_PRELUDE_FLAGS "${_flag_lines}")
  set(CALLER_PRELUDE_DIRS "${_dirs}")
  set(CALLER_PRELUDE_CHECKER "$<TARGET_FILE:${checker}>")
  set(_script ${CMAKE_CURRENT_BINARY_DIR}/install_prelude)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/install_prelude.cmake.in ${_script}.in @ONLY)
  file(GENERATE OUTPUT ${_script}.cmake INPUT ${_script}.in)
  install(SCRIPT ${_script}.cmake COMPONENT kernel)
endfunction()
