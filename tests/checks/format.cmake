# Every tracked C++ source is as clang-format writes it. cmake -D FORMAT=clang-format-19 -D ROOT=… -P format.cmake
execute_process(COMMAND git -C ${ROOT} ls-files "*.cpp" "*.hpp" OUTPUT_VARIABLE files OUTPUT_STRIP_TRAILING_WHITESPACE
  RESULT_VARIABLE result)
if(result OR files STREQUAL "")
  message(FATAL_ERROR "git lists no sources in ${ROOT}")
endif()
string(REPLACE "\n" ";" files "${files}")
execute_process(COMMAND ${FORMAT} --dry-run -Werror ${files} WORKING_DIRECTORY ${ROOT} RESULT_VARIABLE result)
if(result)
  message(FATAL_ERROR "clang-format-19 -i would change the files above")
endif()
