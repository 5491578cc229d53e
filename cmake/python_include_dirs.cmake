# Two repairs of the include directories that the generated Python support of messages exports.
# Neither changes anything where ROS 2 is installed and the virtual environment is elsewhere.
function(_visa_ros_repair_python_include_dirs)
  # The PyPI wheels of the ROS message packages export the include directories of the machine
  # that built them: drop the ones that do not exist here.
  get_property(targets DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  list(FILTER targets INCLUDE REGEX "__rosidl_generator_py$")
  foreach(target IN LISTS targets)
    get_target_property(dirs ${target} INTERFACE_INCLUDE_DIRECTORIES)
    set(kept "")
    foreach(dir IN LISTS dirs)
      if(NOT IS_ABSOLUTE "${dir}" OR EXISTS "${dir}")
        list(APPEND kept "${dir}")
      endif()
    endforeach()
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
  endforeach()

  # CMake refuses to export a directory inside the source tree, and NumPy's is there when the
  # virtual environment is: keep it for this build only.
  set(target ${PROJECT_NAME}__rosidl_generator_py)
  get_target_property(dirs ${target} INTERFACE_INCLUDE_DIRECTORIES)
  set(kept "")
  foreach(dir IN LISTS dirs)
    cmake_path(IS_PREFIX CMAKE_SOURCE_DIR "${dir}" inside)
    if(inside)
      set(dir "$<BUILD_INTERFACE:${dir}>")
    endif()
    list(APPEND kept "${dir}")
  endforeach()
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
endfunction()
cmake_language(DEFER DIRECTORY "${CMAKE_SOURCE_DIR}" CALL _visa_ros_repair_python_include_dirs)
