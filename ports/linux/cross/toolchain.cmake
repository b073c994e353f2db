# SPDX-License-Identifier: MIT
#
# toolchain.cmake - for programs that CMake builds for a board, against the sysroot that `make cross` uses
# or one of one's own.
#
#   cmake -DCMAKE_TOOLCHAIN_FILE=.../toolchain.cmake -DCROSS_COMPILE=arm-linux-gnueabihf- \
#         -DSYSROOT=/path/to/sysroot [-DEMULATOR='qemu-arm -L /path/to/sysroot'] ...
#
# The three are those of `make`. Libraries and headers are looked for in the sysroot alone, programs on this
# machine alone.
foreach(name CROSS_COMPILE SYSROOT)
    if(NOT DEFINED ${name})
        message(FATAL_ERROR "Say -D${name}=..., as to make: see ports/linux/cross/README.md")
    endif()
endforeach()
# CMake reads this file once more for each compiler that it tries, and knows no variables then but these.
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES CROSS_COMPILE SYSROOT EMULATOR)

string(REGEX REPLACE "^(.*/)?([^/]*)-$" "\\2" triplet "${CROSS_COMPILE}")
string(REGEX REPLACE "-.*" "" CMAKE_SYSTEM_PROCESSOR "${triplet}")
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_LIBRARY_ARCHITECTURE "${triplet}") # Debian keeps its libraries under this name
set(CMAKE_C_COMPILER "${CROSS_COMPILE}gcc")
set(CMAKE_SYSROOT "${SYSROOT}")
if(DEFINED EMULATOR)
    string(REPLACE " " ";" CMAKE_CROSSCOMPILING_EMULATOR "${EMULATOR}")
endif()
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
foreach(kind LIBRARY INCLUDE PACKAGE)
    set(CMAKE_FIND_ROOT_PATH_MODE_${kind} ONLY)
endforeach()
