# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# voxgate_compile_options(<target>): the warnings, floating-point rules and sanitizer of all native code.

include(CheckCXXCompilerFlag)

set(_sanitizers "" thread address)
if(NOT VOXGATE_SANITIZE IN_LIST _sanitizers)
  message(FATAL_ERROR "VOXGATE_SANITIZE is \"${VOXGATE_SANITIZE}\"; it may be empty, thread or address")
endif()

function(voxgate_compile_options target)
  # No contraction: a * b + c becomes one fused operation only where a kernel asks for it, so a
  # result does not change with the compiler's mood.
  target_compile_options(${target} PRIVATE -ffp-contract=off -Wall -Wextra -Wshadow -Wconversion)
  if(VOXGATE_SANITIZE)
    if(VOXGATE_SANITIZE STREQUAL "thread")
      set(flags -fsanitize=thread)
    else()
      set(flags -fsanitize=address,undefined -fno-sanitize-recover=undefined)
    endif()
    # -O1: optimizing the checks as well takes the compiler three times as long and finds no more.
    target_compile_options(${target} PRIVATE ${flags} -O1 -fno-omit-frame-pointer -g1)
    target_link_options(${target} PRIVATE ${flags})
  endif()
endfunction()

# Gives each file of the list the flags of the instruction set that its name ends in. Such a file
# runs only after the processor was asked, so nothing else may be compiled with these flags. Where
# the compiler does not know one of them, the file is compiled without, and compiles to nothing.
function(voxgate_isa_flags)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    return()
  endif()
  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512dq -mavx512vl)
  set(amx ${avx512} -mamx-tile -mamx-bf16)
  foreach(isa avx2 avx512 amx)
    list(JOIN ${isa} " " flags)
    check_cxx_compiler_flag("${flags}" VOXGATE_COMPILER_HAS_${isa})
    if(VOXGATE_COMPILER_HAS_${isa})
      if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        list(APPEND ${isa} -Wno-maybe-uninitialized) # false alarms in GCC 12's own intrinsics
      endif()
      set(sources ${ARGN})
      list(FILTER sources INCLUDE REGEX "_${isa}\\.cc$")
      set_source_files_properties(${sources} PROPERTIES COMPILE_OPTIONS "${${isa}}")
    endif()
  endforeach()
endfunction()
