# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# What find_package(voxgate_client CONFIG) finds: voxgate::voxgate_client.
#   cmake --install <build> --prefix <where>

include(CMakePackageConfigHelpers)

set(_destination ${CMAKE_INSTALL_LIBDIR}/cmake/voxgate_client)
install(
  TARGETS voxgate_client voxgate_stream
  EXPORT voxgate_client_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
  RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/include/voxgate_client
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(
  EXPORT voxgate_client_targets
  FILE voxgate_client-targets.cmake
  NAMESPACE voxgate::
  DESTINATION ${_destination})
configure_package_config_file(
  ${CMAKE_CURRENT_SOURCE_DIR}/cmake/voxgate_client-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/voxgate_client-config.cmake INSTALL_DESTINATION ${_destination})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/voxgate_client-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(
  FILES ${CMAKE_CURRENT_BINARY_DIR}/voxgate_client-config.cmake
        ${CMAKE_CURRENT_BINARY_DIR}/voxgate_client-config-version.cmake
        ${CMAKE_CURRENT_SOURCE_DIR}/cmake/VoxgateGrpc.cmake
  DESTINATION ${_destination})
