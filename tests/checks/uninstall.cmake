# Takes away what the tests have installed, as `cmake --build BUILD --target uninstall` does, and looks whether anything is
# left. Usage: cmake -D BUILD=FOLDER -D PREFIX=FOLDER -P uninstall.cmake
execute_process(COMMAND ${CMAKE_COMMAND} --build ${BUILD} --target uninstall COMMAND_ERROR_IS_FATAL ANY)
file(GLOB_RECURSE _left LIST_DIRECTORIES true "${PREFIX}/*")
list(FILTER _left EXCLUDE REGEX "/__pycache__(/|$)")
if(_left)
  message(FATAL_ERROR "left behind: ${_left}")
endif()
