# The LibTorch of a PyTorch wheel, whose folder TORCH_WHEEL names.  The wheel's own TorchConfig.cmake asks for the CUDA
# toolkit where it was built for CUDA, as PyPI's for x86_64 is; what runs on the CPU needs none of it.
#
# Sets Torch_VERSION and TORCH_LIBRARIES, as that file does.
include(FindPackageHandleStandardArgs)

set(Torch_VERSION "")
if(EXISTS ${TORCH_WHEEL}/version.py)
  file(STRINGS ${TORCH_WHEEL}/version.py line REGEX "^__version__ = '[0-9.]+")
  string(REGEX MATCH "[0-9][0-9.]*[0-9]" Torch_VERSION "${line}")
endif()
foreach(name c10 torch_cpu)
  find_library(Torch_${name}_LIBRARY ${name} PATHS ${TORCH_WHEEL}/lib NO_DEFAULT_PATH)
endforeach()
find_package_handle_standard_args(Torch VERSION_VAR Torch_VERSION
  REQUIRED_VARS TORCH_WHEEL Torch_torch_cpu_LIBRARY Torch_c10_LIBRARY Torch_VERSION)

if(NOT TARGET torch_cpu)
  foreach(name c10 torch_cpu)
    add_library(${name} SHARED IMPORTED)
    set_target_properties(${name} PROPERTIES
      IMPORTED_LOCATION ${Torch_${name}_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES
        "${TORCH_WHEEL}/include;${TORCH_WHEEL}/include/torch/csrc/api/include")
  endforeach()
endif()
set(TORCH_LIBRARIES torch_cpu c10)
