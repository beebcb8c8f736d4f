# Copyright 2026 The Voxgate Authors. SPDX-License-Identifier: Apache-2.0
#
# What find_package(voxgate CONFIG) finds: voxgate::rulebook and voxgate::voxgate_onnxruntime.
#   cmake --install <build> --prefix <where> --component development

include(CMakePackageConfigHelpers)

set(_destination ${CMAKE_INSTALL_LIBDIR}/cmake/voxgate)
set(_libraries rulebook)
if(VOXGATE_BUILD_OPERATORS)
  list(APPEND _libraries voxgate_onnxruntime)
endif()
install(
  TARGETS ${_libraries}
  EXPORT voxgate_targets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development)
install(
  DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}/ops/native/rulebook/include/rulebook
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
  COMPONENT development
  FILES_MATCHING
  PATTERN "*.h")
install(
  EXPORT voxgate_targets
  FILE voxgate-targets.cmake
  NAMESPACE voxgate::
  DESTINATION ${_destination}
  COMPONENT development)
configure_package_config_file(
  ${CMAKE_CURRENT_SOURCE_DIR}/ops/native/cmake/voxgate-config.cmake.in
  ${CMAKE_CURRENT_BINARY_DIR}/voxgate-config.cmake INSTALL_DESTINATION ${_destination})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/voxgate-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(
  FILES ${CMAKE_CURRENT_BINARY_DIR}/voxgate-config.cmake
        ${CMAKE_CURRENT_BINARY_DIR}/voxgate-config-version.cmake
  DESTINATION ${_destination}
  COMPONENT development)
