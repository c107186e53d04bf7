# The header every cell begins with, compiled in advance by the compiler that compiles the cells.
#
# clang takes a precompiled header only with the flags it was made with, so both read them from one generated file,
# `prelude.args`, which is made from the properties of the libraries cells use.

# caller_prelude(<name> <header> <libraries…>): target <name>, and its files in lib/caller/prelude of build and install tree.
function(caller_prelude name header)
  set(_out ${CMAKE_BINARY_DIR}/lib/caller/prelude)
  set(_flags -std=c++20 -O2 -DCALLER_IN_CELL -fPIE -fno-semantic-interposition -Wno-return-type-c-linkage -Wno-unused-value -Wno-extern-initializer)
  set(_dirs "")
  set(_defs "")
  foreach(_lib ${ARGN} caller_runtime)
    list(APPEND _dirs "$<TARGET_PROPERTY:${_lib},INTERFACE_INCLUDE_DIRECTORIES>")
    list(APPEND _defs "$<TARGET_PROPERTY:${_lib},INTERFACE_COMPILE_DEFINITIONS>")
  endforeach()
  set(_dirs "$<REMOVE_DUPLICATES:${_dirs}>")
  set(_defs "$<REMOVE_DUPLICATES:$<FILTER:${_defs},EXCLUDE,^$>>")
  list(JOIN _flags "\n" _flag_lines)
  list(JOIN _flags "\\n" _flag_args)
  file(GENERATE OUTPUT ${_out}/prelude.args CONTENT
    "${_flag_lines}\n$<$<BOOL:${_defs}>:-D$<JOIN:${_defs},\n-D>\n>-I$<JOIN:${_dirs},\n-I>\n")

  # The response file's lines are the arguments; the rest is what a header that is also compiled needs.
  set(_clang ${CALLER_CLANGXX} @${_out}/prelude.args)
  add_custom_command(OUTPUT ${_out}/prelude.pch
    COMMAND ${_clang} -x c++-header -fpch-codegen -fpch-instantiate-templates -Xclang -building-pch-with-obj -Xclang -fincremental-extensions
            -MD -MF ${_out}/prelude.d -MT ${_out}/prelude.pch ${header} -o ${_out}/prelude.pch
    DEPENDS ${header} ${_out}/prelude.args
    DEPFILE ${_out}/prelude.d
    COMMENT "Precompiling the prelude of cells" VERBATIM)
  add_custom_command(OUTPUT ${_out}/libcaller_prelude.so
    COMMAND ${_clang} -Wno-unused-command-line-argument -fPIC -Xclang -fincremental-extensions -c ${_out}/prelude.pch -o ${_out}/prelude.o
    COMMAND ${CMAKE_CXX_COMPILER} -shared -o ${_out}/libcaller_prelude.so ${_out}/prelude.o
    COMMAND ${CMAKE_COMMAND} -E rm ${_out}/prelude.o
    DEPENDS ${_out}/prelude.pch
    COMMENT "Compiling the prelude's code" VERBATIM)
  add_custom_target(${name} DEPENDS ${_out}/prelude.pch ${_out}/libcaller_prelude.so)

  # Installed, the header is compiled again: a precompiled header remembers where its sources are. The flags name the
  # headers relative to the prelude, so a tree that is moved still works, only with a slower start.
  install(CODE "
    set(_to \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_LIBDIR}/caller/prelude\")
    set(_dir \"\$ENV{DESTDIR}\${_to}\")
    file(MAKE_DIRECTORY \"\${_dir}\")
    set(_defs \"$<$<BOOL:${_defs}>:-D$<JOIN:${_defs},\\n-D>\\n>\")
    set(_inc \"${CMAKE_INSTALL_INCLUDEDIR}\")
    cmake_path(IS_ABSOLUTE _inc _absolute)
    if(_absolute)
      set(_here \"\${_inc}\")
      set(_rel \"\${_inc}\")
    else()
      set(_here \"\$ENV{DESTDIR}\${CMAKE_INSTALL_PREFIX}/\${_inc}\")
      file(RELATIVE_PATH _rel \"\${_to}\" \"\${CMAKE_INSTALL_PREFIX}/\${_inc}\")
      set(_rel \"@PRELUDE@/\${_rel}\")
    endif()
    file(WRITE \"\${_dir}/prelude.args\" \"${_flag_args}\\n\${_defs}-I\${_rel}\\n\")
    file(WRITE \"\${_dir}/build.args\" \"${_flag_args}\\n\${_defs}-I\${_here}\\n\")
    message(STATUS \"Precompiling the prelude of cells in \${_dir}\")
    execute_process(COMMAND ${CALLER_CLANGXX} @\${_dir}/build.args -x c++-header -fpch-codegen -fpch-instantiate-templates -Xclang -building-pch-with-obj
      -Xclang -fincremental-extensions \${_here}/caller/kernel/prelude.hpp -o \${_dir}/prelude.pch RESULT_VARIABLE _failed)
    if(NOT _failed)
      execute_process(COMMAND ${CALLER_CLANGXX} @\${_dir}/build.args -Wno-unused-command-line-argument -fPIC -Xclang -fincremental-extensions
        -c \${_dir}/prelude.pch -o \${_dir}/prelude.o RESULT_VARIABLE _failed)
    endif()
    if(NOT _failed)
      execute_process(COMMAND ${CMAKE_CXX_COMPILER} -shared -o \${_dir}/libcaller_prelude.so \${_dir}/prelude.o RESULT_VARIABLE _failed)
    endif()
    file(REMOVE \"\${_dir}/prelude.o\" \"\${_dir}/build.args\")
    if(_failed)
      file(REMOVE \"\${_dir}/prelude.pch\")
      message(WARNING \"The prelude was not precompiled; cells start slowly.\")
    endif()
  ")
endfunction()
