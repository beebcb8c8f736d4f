# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# VOXGATE_CUDA=ON|OFF|AUTO: whether to compile for NVIDIA GPUs. AUTO: where there is an nvcc.
# Sets VOXGATE_HAS_CUDA. The runtime is linked statically and CCCL is the toolkit's own, so a host
# without a driver or a toolkit loads the same library.

set(VOXGATE_CUDA AUTO CACHE STRING "Compile for NVIDIA GPUs: ON, OFF or AUTO (where nvcc is found)")
set_property(CACHE VOXGATE_CUDA PROPERTY STRINGS ON OFF AUTO)

set(VOXGATE_HAS_CUDA OFF)
if(VOXGATE_CUDA STREQUAL "AUTO")
  # Only the tests compile the CUDA library so far. A sanitizer's kernels run in emulation.
  if(VOXGATE_BUILD_TESTS AND NOT VOXGATE_SANITIZE)
    find_program(VOXGATE_NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin)
    if(VOXGATE_NVCC)
      set(VOXGATE_HAS_CUDA ON)
    endif()
  endif()
elseif(VOXGATE_CUDA)
  find_program(VOXGATE_NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin REQUIRED)
  set(VOXGATE_HAS_CUDA ON)
endif()

if(VOXGATE_HAS_CUDA)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    set(CMAKE_CUDA_COMPILER ${VOXGATE_NVCC})
  endif()
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    # From A100 to Blackwell, with Orin (87) and Thor (110); the last also as PTX, for what follows.
    set(CMAKE_CUDA_ARCHITECTURES
        80-real 86-real 87-real 89-real 90-real 100-real 103-real 110-real 120
        CACHE STRING "GPU architectures to compile for")
  endif()
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")
endif()

# The floating-point rules and warnings of all CUDA code.
function(voxgate_cuda_compile_options target)
  # No contraction, as for C++ (VoxgateCompileOptions.cmake).
  target_compile_options(
    ${target}
    PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>
            "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings -Xcompiler -Wall,-Wextra>")
endfunction()
