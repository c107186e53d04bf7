# Installs as a user does, where nothing is: what an earlier version left is none of this one's. Usage: cmake -D BUILD=FOLDER
# -D PREFIX=FOLDER -P install.cmake
file(REMOVE_RECURSE ${PREFIX})
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${PREFIX} COMMAND_ERROR_IS_FATAL ANY)
