# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# VOXGATE_CUDA=ON|OFF|AUTO: whether to compile for NVIDIA GPUs. AUTO: where there is an nvcc that works.
# Sets VOXGATE_HAS_CUDA. The runtime is linked statically and CCCL is the toolkit's own, so a host
# without a driver or a toolkit loads the same library.

set(VOXGATE_CUDA AUTO CACHE STRING "Compile for NVIDIA GPUs: ON, OFF or AUTO (where nvcc is found)")
set_property(CACHE VOXGATE_CUDA PROPERTY STRINGS ON OFF AUTO)

set(VOXGATE_CUDA_ARCHITECTURES "" CACHE STRING
    "GPU architectures, as CMake lists them; \"release\"; empty: this machine's, or sm_80 and sm_90")

set(VOXGATE_HAS_CUDA ${VOXGATE_CUDA})
if(VOXGATE_CUDA STREQUAL "AUTO")
  set(VOXGATE_HAS_CUDA ON)
  if(VOXGATE_SANITIZE) # a sanitizer's run is in emulation
    set(VOXGATE_HAS_CUDA OFF)
  endif()
endif()
if(VOXGATE_HAS_CUDA AND NOT CMAKE_CUDA_COMPILER)
  find_program(VOXGATE_NVCC nvcc HINTS ENV CUDACXX PATHS /usr/local/cuda/bin)
  if(VOXGATE_NVCC AND NOT DEFINED ENV{CUDACXX})
    set(ENV{CUDACXX} ${VOXGATE_NVCC})
  endif()
  if(VOXGATE_CUDA STREQUAL "AUTO")
    include(CheckLanguage)
    check_language(CUDA) # an nvcc too old for the C++ compiler must not break the build
    if(NOT CMAKE_CUDA_COMPILER)
      set(VOXGATE_HAS_CUDA OFF)
    endif()
  endif()
endif()

if(VOXGATE_HAS_CUDA)
  enable_language(CUDA)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  set(CMAKE_CUDA_FLAGS_RELEASE "-O3 -DNDEBUG")
  # What the tests see compiled: one architecture before wgmma and one with it, and PTX, so that a
  # build that found no GPU runs on later ones too.
  set(VOXGATE_CHECKED_ARCHITECTURES 80-real 90)
  if(VOXGATE_CUDA_ARCHITECTURES STREQUAL "release")
    # From A100 to Blackwell, with Orin (87) and Thor (110), and PTX for what follows.
    set(CMAKE_CUDA_ARCHITECTURES 80-real 86-real 87-real 89-real)
    if(CMAKE_CUDA_COMPILER_VERSION VERSION_GREATER_EQUAL 13.0)
      list(APPEND CMAKE_CUDA_ARCHITECTURES 90-real 100-real 103-real 110-real 120)
    else()
      list(APPEND CMAKE_CUDA_ARCHITECTURES 90)
    endif()
  elseif(VOXGATE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES ${VOXGATE_CUDA_ARCHITECTURES})
  elseif(CMAKE_CUDA_ARCHITECTURES_NATIVE MATCHES "^[0-9]") # a sentence where there is no GPU
    set(CMAKE_CUDA_ARCHITECTURES ${CMAKE_CUDA_ARCHITECTURES_NATIVE})
  else()
    set(CMAKE_CUDA_ARCHITECTURES ${VOXGATE_CHECKED_ARCHITECTURES})
  endif()
  message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
endif()

# The floating-point rules and warnings of all CUDA code.
function(voxgate_cuda_compile_options target)
  # No contraction, as for C++ (VoxgateCompileOptions.cmake).
  target_compile_options(
    ${target}
    PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:--fmad=false>
            "$<$<COMPILE_LANGUAGE:CUDA>:SHELL:-Werror all-warnings -Xcompiler -Wall,-Wextra>")
endfunction()
