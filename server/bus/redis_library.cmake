# cmake -D LUA=parley.lua -D HEADER=redis_library.h -D OUT=redis_library.c -P redis_library.cmake
# Writes the library's text as a C array (a string literal has a portable limit of 4095 bytes), and sees that header
# and library agree about the version.
file(READ ${LUA} text)
file(READ ${HEADER} header)
string(REGEX MATCH "\nlocal VERSION = ([0-9]+)\n" found "${text}")
set(of_lua "${CMAKE_MATCH_1}")
string(REGEX MATCH "PL_REDIS_LIBRARY_VERSION = ([0-9]+)\n" found "${header}")
if(NOT of_lua OR NOT of_lua STREQUAL CMAKE_MATCH_1)
  message(FATAL_ERROR "parley.lua is version '${of_lua}', redis_library.h says '${CMAKE_MATCH_1}'")
endif()
file(READ ${LUA} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR len "${digits} / 2")
string(REGEX REPLACE "(................................)" "\\1\n    " hex "${hex}")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "'\\\\x\\1'," bytes "${hex}")
file(WRITE ${OUT} "#include \"server/bus/redis_library.h\"

const char pl_redis_library[] = {
    ${bytes}'\\0'};
const size_t pl_redis_library_len = ${len};
")
