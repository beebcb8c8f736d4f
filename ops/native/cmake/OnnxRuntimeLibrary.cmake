# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# voxgate_onnxruntime_library(<variable>): the ONNX Runtime library to link programs with, from
# -DONNXRUNTIME_LIBRARY, else the one inside the onnxruntime package of Python_EXECUTABLE, else the
# system's. The package's file has another name than programs ask the loader for, so a link of that
# name is made in the build folder and linked instead; CMake puts its folder into the run path.

function(voxgate_onnxruntime_library result)
  if(NOT ONNXRUNTIME_LIBRARY AND Python_EXECUTABLE)
    execute_process(
      COMMAND
        ${Python_EXECUTABLE} -c
        "import importlib.util as u; print(u.find_spec('onnxruntime').submodule_search_locations[0])"
      OUTPUT_VARIABLE package
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    file(GLOB inside ${package}/capi/libonnxruntime.so.*)
    if(inside)
      list(GET inside 0 file)
      set(ONNXRUNTIME_LIBRARY ${CMAKE_BINARY_DIR}/onnxruntime/libonnxruntime.so.1)
      file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/onnxruntime)
      file(CREATE_LINK ${file} ${ONNXRUNTIME_LIBRARY} SYMBOLIC)
    endif()
  endif()
  if(NOT ONNXRUNTIME_LIBRARY)
    find_library(ONNXRUNTIME_LIBRARY onnxruntime)
  endif()
  if(NOT ONNXRUNTIME_LIBRARY)
    message(FATAL_ERROR "No ONNX Runtime library to link with. Give -DONNXRUNTIME_LIBRARY=<file>, "
                        "or -DPython_EXECUTABLE=<a Python that has onnxruntime installed>.")
  endif()
  set(${result} "${ONNXRUNTIME_LIBRARY}" PARENT_SCOPE)
endfunction()
