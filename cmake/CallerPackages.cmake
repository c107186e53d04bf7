# Debian packages, by `cpack` in the build folder: libcaller<ABI>, libcaller-dev and caller-kernel.
#
# They install under /usr, whatever prefix the build was configured with; configured with -DCMAKE_INSTALL_PREFIX=/usr the
# libraries go to the folder of the architecture. What is not a file of the build (changelog, copyright, stripping) is added
# by package_files.cmake.
set(CALLER_MAINTAINER "The Caller developers <maintainers@caller.invalid>" CACHE STRING "Maintainer of the Debian packages")
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME caller)
set(CPACK_PACKAGE_VENDOR "The Caller developers")
set(CPACK_PACKAGE_CONTACT "${CALLER_MAINTAINER}")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "asynchronous executor for C++20, and the Jupyter kernel it powers")
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_SET_DESTDIR ON)
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)
set(CPACK_PRE_BUILD_SCRIPTS ${CMAKE_CURRENT_LIST_DIR}/package_files.cmake)
set(CPACK_CALLER_SOURCE ${PROJECT_SOURCE_DIR})
set(CPACK_CALLER_LIBDIR ${CMAKE_INSTALL_LIBDIR})
set(CPACK_PROJECT_CONFIG_FILE "")

set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_COMPONENTS_GROUPING IGNORE)
set(CPACK_COMPONENTS_ALL lib dev)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS ON)
set(CPACK_DEBIAN_PACKAGE_GENERATE_SHLIBS_POLICY =)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)

# The loader's cache is a matter of dpkg's triggers. cpack would write scripts that call ldconfig instead, unless there are
# some, so there are some that do nothing.
set(_control ${CMAKE_CURRENT_LIST_DIR}/debian)
set(CPACK_DEBIAN_LIB_PACKAGE_CONTROL_EXTRA "${_control}/triggers;${_control}/postinst;${_control}/postrm")
set(CPACK_DEBIAN_KERNEL_PACKAGE_CONTROL_EXTRA "${CPACK_DEBIAN_LIB_PACKAGE_CONTROL_EXTRA}")

set(_lib libcaller${CALLER_SOVERSION})
set(CPACK_DEBIAN_LIB_PACKAGE_NAME ${_lib})
set(CPACK_DEBIAN_LIB_PACKAGE_SECTION libs)
set(CPACK_COMPONENT_LIB_DESCRIPTION "One executor a thread, futures that are awaited, children, lanes, groups and
threads; dataflow graphs on one thread or many processes; a queue of tasks in
memory, in a file or in Redis. This package has the shared libraries.")

set(CPACK_DEBIAN_DEV_PACKAGE_NAME libcaller-dev)
set(CPACK_DEBIAN_DEV_PACKAGE_SECTION libdevel)
set(CPACK_DEBIAN_DEV_PACKAGE_SHLIBDEPS OFF)
set(CPACK_DEBIAN_DEV_PACKAGE_DEPENDS "${_lib} (= ${PROJECT_VERSION})")
set(CPACK_DEBIAN_DEV_PACKAGE_SUGGESTS "libboost-dev (>= 1.74), libuv1-dev, pkg-config")
set(CPACK_COMPONENT_DEV_DESCRIPTION "Headers, the CMake package and the files of pkg-config for programs that use
the executor, its dataflow graphs or its tasks. The bridges to Boost.Asio and
libuv need the headers of these.")

if(TARGET caller_embed)
  list(APPEND CPACK_COMPONENTS_ALL kernel)
  set(CPACK_DEBIAN_KERNEL_PACKAGE_NAME caller-kernel)
  set(CPACK_DEBIAN_KERNEL_PACKAGE_SECTION devel)
  # The libraries its programs use are in another of these packages, which is not installed where they are made.
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS_PRIVATE_DIRS ${CMAKE_BINARY_DIR}/lib)
  # Cells are compiled with the headers of Caller, of libstdc++ and of clang.
  set(CPACK_DEBIAN_KERNEL_PACKAGE_DEPENDS
    "${_lib} (= ${PROJECT_VERSION}), libcaller-dev (= ${PROJECT_VERSION}), libclang-common-19-dev, libstdc++-12-dev, libc6-dev")
  set(CPACK_DEBIAN_KERNEL_PACKAGE_RECOMMENDS "jupyter-notebook | jupyter-console | jupyter-client, lldb-19")
  set(CPACK_DEBIAN_KERNEL_PACKAGE_SUGGESTS "graphviz, pkg-config")
  set(CPACK_COMPONENT_KERNEL_DESCRIPTION "Cells are C++20 with co_await at the top level, compiled in the process. The
kernel answers while a cell computes, runs cells concurrently, and can always
be interrupted; a crash of a cell ends the cell and not the session. This
package has the kernel, which the Jupyter of every user finds, the program
caller, and what a program needs to embed the kernel in itself.")
endif()
include(CPack)
