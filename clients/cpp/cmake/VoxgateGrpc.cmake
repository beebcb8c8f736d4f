# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# voxgate_find_grpc(): the target voxgate::grpc, gRPC for C++ with protobuf, from their CMake
# packages or else from pkg-config. voxgate_find_build_tools(): what only building needs, which are
# VOXGATE_PROTOC, VOXGATE_GRPC_PLUGIN and nlohmann_json. Both say how to install what is missing.
# Installed beside the package, which finds gRPC for its users with the same function.

include_guard()

function(_voxgate_missing what)
  message(
    FATAL_ERROR
      "The C++ client needs ${what}, which was not found. On Debian and Ubuntu:\n"
      "  sudo apt-get install -y libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc "
      "nlohmann-json3-dev\n"
      "Installed elsewhere: add its prefix, -DCMAKE_PREFIX_PATH=<folder>.")
endfunction()

# A macro: imported targets are visible only in the folder whose scope made them.
macro(voxgate_find_grpc)
  if(NOT TARGET voxgate::grpc)
    find_package(Threads REQUIRED)
    # gRPC's package names what it is linked to; without those, as on a Debian without libssl-dev,
    # its targets cannot be used, and pkg-config's answer can.
    find_package(OpenSSL QUIET)
    find_package(gRPC CONFIG QUIET)
    if(NOT TARGET protobuf::libprotobuf)
      find_package(protobuf CONFIG QUIET)
    endif()
    if(NOT TARGET protobuf::libprotobuf)
      find_package(Protobuf QUIET)
    endif()
    add_library(voxgate::grpc INTERFACE IMPORTED)
    if(TARGET gRPC::grpc++ AND TARGET protobuf::libprotobuf AND TARGET OpenSSL::SSL)
      target_link_libraries(voxgate::grpc INTERFACE gRPC::grpc++ protobuf::libprotobuf)
    else()
      find_package(PkgConfig QUIET)
      if(PkgConfig_FOUND)
        pkg_check_modules(VOXGATE_GRPC QUIET IMPORTED_TARGET grpc++ protobuf)
      endif()
      if(NOT TARGET PkgConfig::VOXGATE_GRPC)
        _voxgate_missing("gRPC for C++ and protobuf")
      endif()
      target_link_libraries(voxgate::grpc INTERFACE PkgConfig::VOXGATE_GRPC)
    endif()
    target_link_libraries(voxgate::grpc INTERFACE Threads::Threads)
  endif()
endmacro()

macro(voxgate_find_build_tools)
  find_program(VOXGATE_PROTOC protoc)
  find_program(VOXGATE_GRPC_PLUGIN grpc_cpp_plugin)
  find_package(nlohmann_json 3.9 CONFIG QUIET)
  if(NOT VOXGATE_PROTOC)
    _voxgate_missing("protoc, the protobuf compiler")
  elseif(NOT VOXGATE_GRPC_PLUGIN)
    _voxgate_missing("grpc_cpp_plugin")
  elseif(NOT nlohmann_json_FOUND)
    _voxgate_missing("nlohmann_json 3.9 or newer")
  endif()
endmacro()
