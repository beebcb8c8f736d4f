# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# voxgate_compile_options(<target>): the warnings, floating-point rules and sanitizer of all native code.

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
    target_compile_options(${target} PRIVATE ${flags} -fno-omit-frame-pointer -g1)
    target_link_options(${target} PRIVATE ${flags})
  endif()
endfunction()

# Gives each file of the list the flags of the instruction set that its name ends in. Such a file
# runs only after the processor was asked, so nothing else may be compiled with these flags.
function(voxgate_isa_flags)
  if(NOT CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
    return()
  endif()
  foreach(source IN LISTS ARGN)
    if(source MATCHES "_avx2\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma;-mf16c")
    elseif(source MATCHES "_avx512\\.cc$")
      set_source_files_properties(
        ${source} PROPERTIES COMPILE_OPTIONS
                             "-mavx512f;-mavx512bw;-mavx512dq;-mavx512vl;-mavx2;-mfma;-mf16c")
    endif()
  endforeach()
endfunction()
