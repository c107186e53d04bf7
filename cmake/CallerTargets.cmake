# Warnings, sanitizers and the shape every library of this project has.
add_library(caller_build_options INTERFACE)
target_compile_options(caller_build_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor
  $<$<BOOL:${CALLER_WERROR}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports these falsely through coroutine frames and inlined std::string/std::variant code.
  target_compile_options(caller_build_options INTERFACE -Wno-maybe-uninitialized -Wno-restrict)
endif()
if(CALLER_SANITIZE)
  list(JOIN CALLER_SANITIZE "," _san)
  if("thread" IN_LIST CALLER_SANITIZE AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(caller_build_options INTERFACE -Wno-tsan)
  endif()
  target_compile_options(caller_build_options INTERFACE -fsanitize=${_san} -fno-omit-frame-pointer -O1)
  target_link_options(caller_build_options INTERFACE -fsanitize=${_san})
  target_compile_definitions(caller_build_options INTERFACE CALLER_SANITIZED=1)
endif()

# Until 1.0 each minor version may change what libraries export, as the package's version file says, too.
set(CALLER_SOVERSION ${PROJECT_VERSION_MAJOR})
if(CALLER_SOVERSION EQUAL 0)
  set(CALLER_SOVERSION 0.${PROJECT_VERSION_MINOR})
endif()

# caller_pkg_config(tube DESCRIPTION "…" [REQUIRES caller-runtime…] [LIBS -lcaller_tube] [PRIVATE -luv] [COMPONENT dev])
# caller-<name>.pc, which names its folders from where it lies, so that a tree can be moved.
function(caller_pkg_config name)
  cmake_parse_arguments(A "" "DESCRIPTION;LIBS;PRIVATE;COMPONENT" "REQUIRES" ${ARGN})
  if(NOT A_COMPONENT)
    set(A_COMPONENT dev)
  endif()
  file(RELATIVE_PATH _up ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
  string(REGEX REPLACE "/$" "" _up "${_up}")
  cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_LIBDIR BASE_DIRECTORY "\${prefix}" OUTPUT_VARIABLE _lib)
  cmake_path(ABSOLUTE_PATH CMAKE_INSTALL_INCLUDEDIR BASE_DIRECTORY "\${prefix}" OUTPUT_VARIABLE _include)
  set(_file ${CMAKE_CURRENT_BINARY_DIR}/caller-${name}.pc)
  list(JOIN A_REQUIRES " " _requirements)
  file(WRITE ${_file} "prefix=\${pcfiledir}/${_up}\nlibdir=${_lib}\nincludedir=${_include}\n\nName: caller-${name}\nDescription: ${A_DESCRIPTION}\n"
    "Version: ${PROJECT_VERSION}\nRequires: ${_requirements}\nLibs: -L\${libdir} ${A_LIBS}\nLibs.private: ${A_PRIVATE}\nCflags: -I\${includedir}\n")
  install(FILES ${_file} DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT ${A_COMPONENT})
endfunction()

# caller_add_library(runtime DESCRIPTION "…" SOURCES … HEADERS … [LINK public…] [LINK_PRIVATE …] [PRIVATE_LIBS -luv])
# A library caller::<name>, hidden by default, with self-contained public headers, installed and exported. PRIVATE_LIBS:
# what a program links besides when the library is static, for pkg-config.
function(caller_add_library name)
  cmake_parse_arguments(A "" "DESCRIPTION;PRIVATE_LIBS" "SOURCES;HEADERS;LINK;LINK_PRIVATE" ${ARGN})
  add_library(caller_${name})
  add_library(caller::${name} ALIAS caller_${name})
  set_target_properties(caller_${name} PROPERTIES EXPORT_NAME ${name} OUTPUT_NAME caller_${name}
    VERSION ${PROJECT_VERSION} SOVERSION ${CALLER_SOVERSION}
    CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON VERIFY_INTERFACE_HEADER_SETS ON
    CXX_EXTENSIONS OFF POSITION_INDEPENDENT_CODE ON)
  target_compile_features(caller_${name} PUBLIC cxx_std_20)
  target_sources(caller_${name} PRIVATE ${A_SOURCES}
    PUBLIC FILE_SET HEADERS BASE_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/include FILES ${A_HEADERS})
  target_include_directories(caller_${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/src)
  target_link_libraries(caller_${name} PUBLIC ${A_LINK} PRIVATE $<BUILD_INTERFACE:caller_build_options> ${A_LINK_PRIVATE})
  install(TARGETS caller_${name} EXPORT callerTargets LIBRARY COMPONENT lib NAMELINK_COMPONENT dev ARCHIVE COMPONENT dev
    FILE_SET HEADERS COMPONENT dev)
  # What it shows in its headers of the other libraries, it requires of whoever compiles against it.
  set(_requires ${A_LINK})
  list(FILTER _requires INCLUDE REGEX "^caller_")
  list(TRANSFORM _requires REPLACE "^caller_" "caller-")
  caller_pkg_config(${name} DESCRIPTION "${A_DESCRIPTION}" REQUIRES "${_requires}" LIBS "-lcaller_${name} -pthread"
    PRIVATE "${A_PRIVATE_LIBS}")
endfunction()

# caller_add_bridge(asio DESCRIPTION "…" LINK Boost::headers [HEADERS …] [REQUIRES libuv])
# An interface target caller::<name>: caller::runtime and a third-party library, for programs that use both. It is a
# component of the package, with an export of its own, as only its users must have that library.
function(caller_add_bridge name)
  cmake_parse_arguments(A "" "DESCRIPTION;REQUIRES" "HEADERS;LINK" ${ARGN})
  add_library(caller_${name} INTERFACE)
  add_library(caller::${name} ALIAS caller_${name})
  set_target_properties(caller_${name} PROPERTIES EXPORT_NAME ${name} VERIFY_INTERFACE_HEADER_SETS ON)
  target_link_libraries(caller_${name} INTERFACE caller_runtime ${A_LINK})
  target_sources(caller_${name} INTERFACE FILE_SET HEADERS BASE_DIRS ${CMAKE_CURRENT_SOURCE_DIR}/include FILES ${A_HEADERS})
  install(TARGETS caller_${name} EXPORT caller_${name} FILE_SET HEADERS COMPONENT dev)
  install(EXPORT caller_${name} NAMESPACE caller:: FILE caller_${name}Targets.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/caller COMPONENT dev)
  caller_pkg_config(${name} DESCRIPTION "${A_DESCRIPTION}" REQUIRES caller-runtime ${A_REQUIRES})
endfunction()

# Boost.Asio, header only; for the sources (and test programs) that use it, never for users of caller::runtime.
function(caller_use_asio target)
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:Boost::headers>)
  target_compile_definitions(${target} PRIVATE BOOST_ASIO_HAS_CO_AWAIT BOOST_ASIO_HAS_STD_COROUTINE)
endfunction()
