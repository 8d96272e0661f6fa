# SPDX-License-Identifier: Apache-2.0
# Installs libpyneo (shared and static), pyneo.h, a CMake package (find_package(pyneo)) and a pkg-config file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS pyneo pyneo_static EXPORT pyneo-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY csrc/include/pyneo DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT pyneo-targets NAMESPACE pyneo:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pyneo)

write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/pyneo-config-version.cmake
                                 VERSION ${PROJECT_VERSION} COMPATIBILITY SameMajorVersion)
file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/pyneo-config.cmake
     "include(CMakeFindDependencyMacro)\nfind_dependency(Threads)\n"
     "include(\"\${CMAKE_CURRENT_LIST_DIR}/pyneo-targets.cmake\")\n")
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/pyneo-config.cmake ${CMAKE_CURRENT_BINARY_DIR}/pyneo-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pyneo)

configure_file(cmake/pyneo.pc.in pyneo.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/pyneo.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
