# The tests that are run with AddressSanitizer and UndefinedBehaviorSanitizer (preset
# `sanitize`): those of what reads bytes and numbers, which need no forward pass, as clang
# cannot read the headers of LibTorch 1.13 as C++20.  Each program is one test: a process
# per test would take longer to start than to run.
#
#   cmake --preset sanitize && cmake --build --preset sanitize && ctest --preset sanitize
set(LINCHPIN_SANITIZED_TESTS
  status_test run_context_test parallel_test
  dtype_test float16_test float8_test tensor_info_test widen_test
  json_test safetensors_test shard_index_test gguf_test
  storage_conformance_test uri_test uri_storage_test local_storage_test local_output_test
  local_faults_test memory_storage_test zeroed_bytes_test stoppable_storage_test scratch_test
  remote_rules_test http_test s3_faults_test
  checkpoint_test model_config_test byte_pair_encoder_test pre_tokenizer_test tokenizer_test
  gguf_checkpoint_test gguf_template_test gguf_tokenizer_test weight_scales_test
  options_test group_encoder_test scale_search_test plan_test packing_oracle_test
  block_encoder_test clipped_blocks_test pruning_test outer_layers_test gguf_plan_test
  digest_test artifact_writer_test manifest_test
  jobs_test metrics_test identity_test service_test
  hostile_checkpoint_test hostile_file_test hostile_gguf_test golden_test)

add_custom_target(sanitized-tests)

function(linchpin_sanitized_test name)
  if(NOT name IN_LIST LINCHPIN_SANITIZED_TESTS)
    set_target_properties(${name} PROPERTIES EXCLUDE_FROM_ALL ON)
    return()
  endif()
  add_dependencies(sanitized-tests ${name})
  add_test(NAME sanitized.${name} COMMAND ${name})
  set_tests_properties(sanitized.${name} PROPERTIES TIMEOUT 300)
  if(name STREQUAL "golden_test")  # the others of it encode the same again, at other speeds
    set_tests_properties(sanitized.${name} PROPERTIES ENVIRONMENT GTEST_FILTER=*.OneThread)
  endif()
endfunction()
