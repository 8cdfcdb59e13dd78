# `cmake --install` and, by `cpack` in any build tree, a Debian package for /usr. Files go where Debian has them.
include(GNUInstallDirs)
set(packaged ${PROJECT_BINARY_DIR}/packaged)

set(pages)
foreach(page parleyd.8 parley.1 parley.conf.5)
  add_custom_command(OUTPUT ${packaged}/${page}.gz
    COMMAND gzip -9nc ${PROJECT_SOURCE_DIR}/docs/man/${page} > ${packaged}/${page}.gz
    DEPENDS ${PROJECT_SOURCE_DIR}/docs/man/${page} VERBATIM)
  list(APPEND pages ${packaged}/${page}.gz)
  string(REGEX MATCH "[0-9]$" section ${page})
  install(FILES ${packaged}/${page}.gz DESTINATION share/man/man${section} COMPONENT server)
endforeach()
add_custom_target(man ALL DEPENDS ${pages})

install(TARGETS parleyd parley DESTINATION bin COMPONENT server)
install(FILES conf/nginx.conf conf/haproxy.cfg conf/redis.conf conf/sentinel.conf conf/sysctl.conf
  conf/prometheus.yml conf/prometheus-rules.yml conf/grafana-dashboard.json
  DESTINATION share/doc/parley/examples COMPONENT server)
install(FILES README.md DESTINATION share/doc/parley COMPONENT server)
install(DIRECTORY docs/ DESTINATION share/doc/parley/docs COMPONENT server
  FILES_MATCHING PATTERN *.md PATTERN man EXCLUDE)

# What depends on the prefix is written when that is known, which is at the installation: the configuration of what is
# in /usr is in /etc, and the units say where both are.
install(CODE "set(conf ${PROJECT_SOURCE_DIR}/conf)\nset(packaged ${packaged})" COMPONENT server)
install(CODE [[
  set(etc ${CMAKE_INSTALL_PREFIX}/etc/parley)
  if(CMAKE_INSTALL_PREFIX STREQUAL "/usr")
    set(etc /etc/parley)
  endif()
  foreach(unit parley.service parley.socket)
    file(READ ${conf}/${unit} text)
    string(REPLACE /usr/bin/parleyd ${CMAKE_INSTALL_PREFIX}/bin/parleyd text "${text}")
    string(REPLACE /etc/parley/ ${etc}/ text "${text}")
    file(WRITE ${packaged}/${unit} "${text}")
    file(INSTALL ${packaged}/${unit} DESTINATION ${CMAKE_INSTALL_PREFIX}/lib/systemd/system)
  endforeach()
  file(INSTALL ${conf}/parley.conf DESTINATION ${etc})
]] COMPONENT server)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME parley)
set(CPACK_PACKAGE_CONTACT "The Parley maintainers <maintainers@parley.invalid>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "realtime server for discussions")
set(CPACK_PACKAGE_DESCRIPTION "parleyd delivers a discussion site's events to its users' browsers and apps, by
WebSocket or HTTP long-polling, each event once and in order. Several nodes work
together over Redis. parley is its command-line tool.")
set(CPACK_INSTALL_PREFIX /usr)
set(CPACK_SET_DESTDIR ON) # for /etc
set(CPACK_COMPONENTS_ALL server)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
# libwebsockets loads its event loop by itself, so no library says so.
set(CPACK_DEBIAN_PACKAGE_DEPENDS "libwebsockets-evlib-uv, adduser")
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "redis-server (>= 5:7.0), nginx | haproxy")
set(scripts ${PROJECT_SOURCE_DIR}/conf/debian)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${scripts}/conffiles ${scripts}/postinst ${scripts}/prerm ${scripts}/postrm)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
include(CPack)
