# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# Python stubs of protos/*.proto as the package voxgate_protos. The files are copied into a folder
# of that name first: protoc derives a stub's imports from the path below its root, so the stubs
# import each other as voxgate_protos.*.

file(GLOB protos CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/protos/*.proto)
get_filename_component(_bin ${Python_EXECUTABLE} DIRECTORY)
find_program(PROTOC_GEN_MYPY protoc-gen-mypy REQUIRED HINTS ${_bin})
get_filename_component(_plugins ${PROTOC_GEN_MYPY} DIRECTORY)

set(_root ${CMAKE_CURRENT_BINARY_DIR}/protos)
set(_package ${_root}/voxgate_protos)
file(MAKE_DIRECTORY ${_package})
file(WRITE ${_package}/py.typed "")
file(WRITE ${_package}/__init__.py
     "# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0\n"
     "\"\"\"Stubs generated from protos/*.proto.\"\"\"\n")

set(_stubs "")
foreach(proto IN LISTS protos)
  get_filename_component(name ${proto} NAME_WE)
  set(copy ${_package}/${name}.proto)
  set(outputs ${_package}/${name}_pb2.py ${_package}/${name}_pb2.pyi ${_package}/${name}_pb2_grpc.py
              ${_package}/${name}_pb2_grpc.pyi)
  add_custom_command(
    OUTPUT ${outputs}
    COMMAND ${CMAKE_COMMAND} -E copy ${proto} ${copy}
    COMMAND
      ${Python_EXECUTABLE} -m grpc_tools.protoc -I ${_root}
      --plugin=protoc-gen-mypy=${_plugins}/protoc-gen-mypy
      --plugin=protoc-gen-mypy_grpc=${_plugins}/protoc-gen-mypy_grpc --python_out=${_root}
      --mypy_out=quiet:${_root} --grpc_python_out=${_root} --mypy_grpc_out=quiet:${_root} ${copy}
    DEPENDS ${protos}
    COMMENT "Generating voxgate_protos.${name}_pb2"
    VERBATIM)
  list(APPEND _stubs ${outputs})
endforeach()
add_custom_target(voxgate_protos ALL DEPENDS ${_stubs})
install(FILES ${_stubs} ${_package}/__init__.py ${_package}/py.typed DESTINATION voxgate_protos
        COMPONENT python)
