# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# voxgate_onnxruntime_headers(<variable>): the folder of onnxruntime_cxx_api.h. No Python package
# carries these headers, so they come from the caller, from the system, or out of Debian's package.

set(VOXGATE_HEADER_CACHE "${CMAKE_CURRENT_LIST_DIR}/../../../build/onnxruntime-headers"
    CACHE PATH "Where downloaded ONNX Runtime headers are kept between builds")

function(voxgate_onnxruntime_headers result)
  if(ONNXRUNTIME_INCLUDE_DIR)
    if(NOT EXISTS "${ONNXRUNTIME_INCLUDE_DIR}/onnxruntime_cxx_api.h")
      message(
        FATAL_ERROR
          "ONNXRUNTIME_INCLUDE_DIR is ${ONNXRUNTIME_INCLUDE_DIR}, which holds no "
          "onnxruntime_cxx_api.h: name the folder that does (include/ of an ONNX Runtime release "
          "archive), or leave it out (-UONNXRUNTIME_INCLUDE_DIR): the headers are then taken from "
          "the system, else out of Debian's libonnxruntime-dev")
    endif()
    set(${result} "${ONNXRUNTIME_INCLUDE_DIR}" PARENT_SCOPE)
    return()
  endif()

  set(suffixes onnxruntime onnxruntime/core/session)
  find_path(VOXGATE_SYSTEM_ONNXRUNTIME_INCLUDE_DIR onnxruntime_cxx_api.h PATH_SUFFIXES ${suffixes})
  if(VOXGATE_SYSTEM_ONNXRUNTIME_INCLUDE_DIR)
    set(${result} "${VOXGATE_SYSTEM_ONNXRUNTIME_INCLUDE_DIR}" PARENT_SCOPE)
    return()
  endif()

  get_filename_component(cache "${VOXGATE_HEADER_CACHE}" ABSOLUTE)
  set(headers "${cache}/usr/include/onnxruntime")
  if(NOT EXISTS "${headers}/onnxruntime_cxx_api.h")
    message(STATUS "ONNX Runtime headers: unpacking Debian's libonnxruntime-dev into ${cache}")
    execute_process(
      COMMAND sh "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/fetch_onnxruntime_headers.sh" "${cache}"
      RESULT_VARIABLE status
      OUTPUT_VARIABLE output
      ERROR_VARIABLE output)
    if(NOT status EQUAL 0 OR NOT EXISTS "${headers}/onnxruntime_cxx_api.h")
      message(
        FATAL_ERROR
          "ONNX Runtime's C/C++ headers were not found. Any one of these gives them:\n"
          "  1. -DONNXRUNTIME_INCLUDE_DIR=<folder of onnxruntime_cxx_api.h>, for example from an "
          "ONNX Runtime release archive;\n"
          "  2. a system package: apt-get install libonnxruntime-dev (Debian 13 or later);\n"
          "  3. network access on a Debian machine, to unpack Debian's libonnxruntime-dev. "
          "This was tried and failed:\n${output}")
    endif()
  endif()
  set(${result} "${headers}" PARENT_SCOPE)
endfunction()
