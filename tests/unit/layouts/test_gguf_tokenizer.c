/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE /* mkdtemp */
#include "layouts/gguf_config.h"

#include "unit/quantizer/quantizer_support.h"

static nvfp4_reason reason;

/* tokenizer.json -> GGUF -> tokenizer.json: the golden tokenizers come back as the same JSON. */
static void tokenizers_come_back(void **state) {
  (void)state;
  char folder[256], path[512];
  nvfp4_checkpoint *tiny = NULL, *file = NULL;
  assert_ok(nvfp4_checkpoint_open(TINY, 0, &tiny, &reason), reason);
  nvfp4_gguf_model model;
  assert_ok(nvfp4_gguf_model_read("x", nvfp4_checkpoint_config(tiny), &model, &reason), reason);
  assert_ok(nvfp4_gguf_tokenizer(tiny, &model, NULL, &reason), reason);
  nvfp4_gguf_writer *writer = NULL;
  path_in(make_folder(folder), "x.gguf", path);
  assert_ok(nvfp4_gguf_writer_create(path, &writer, &reason), reason);
  assert_ok(nvfp4_gguf_tokenizer(tiny, &model, writer, &reason), reason);
  assert_ok(nvfp4_gguf_writer_begin(writer, &reason), reason);
  assert_ok(nvfp4_gguf_writer_finish(writer, &reason), reason);
  nvfp4_gguf_writer_destroy(writer);
  assert_ok(nvfp4_checkpoint_open(path, 0, &file, &reason), reason);
  const nvfp4_model_description description = {.source = file};
  static const char *const names[] = {"tokenizer.json", "tokenizer_config.json"};
  for (int i = 0; i < 2; i++) {
    char *text = NULL;
    assert_ok(i == 0 ? nvfp4_hf_tokenizer(&description, &text, &reason) : nvfp4_hf_tokenizer_config(&description, &text, &reason), reason);
    json_t *ours = json_loads(text, 0, NULL), *theirs = read_json(TINY, names[i]);
    json_object_del(ours, "add_bos_token"); /* said, where tiny says nothing */
    if (!json_equal(ours, theirs)) {
      fail_msg("%s differs: %s", names[i], text);
    }
    json_decref(ours);
    json_decref(theirs);
    free(text);
  }
  nvfp4_checkpoint_close(file);
  nvfp4_checkpoint_close(tiny);
  remove_folder(folder);
}

/* A folder with this tokenizer.json, and a tokenizer_config.json as transformers writes it, beside a model; returns what looking at it
 * gives. */
static nvfp4_status look(const char *tokenizer) {
  static const float zeros[256];
  static const test_tensor tensors[] = {{"proj.weight", NVFP4_DTYPE_F32, 2, {16, 16}, zeros}};
  char folder[256];
  nvfp4_checkpoint *checkpoint = NULL;
  write_tensors(make_folder(folder), "model.safetensors", tensors, 1);
  if (tokenizer != NULL) {
    write_text(folder, "tokenizer.json", tokenizer);
    write_text(folder, "tokenizer_config.json", "{\"model_max_length\": 1000000000000000019884624838656}");
  }
  assert_ok(nvfp4_checkpoint_open(folder, 0, &checkpoint, &reason), reason);
  const nvfp4_gguf_model model = {.vocabulary = 2, .bos = -1, .eos = -1, .pad = -1};
  nvfp4_status status = nvfp4_gguf_tokenizer(checkpoint, &model, NULL, &reason);
  nvfp4_checkpoint_close(checkpoint);
  remove_folder(folder);
  return status;
}

#define GPT2 "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": false, \"use_regex\": true}"

static void tokenizers_of_other_kinds(void **state) {
  (void)state;
  assert_int_equal(look(NULL), NVFP4_OK);
  assert_int_equal(look("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1}}, " GPT2 "}"), NVFP4_OK);
  assert_int_equal(look("{\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 2}}, " GPT2 "}"), NVFP4_E_FORMAT);
  assert_non_null(strstr(reason.text, "id 2"));
  assert_int_equal(look("{\"model\": {\"type\": \"BPE\", \"byte_fallback\": true}, " GPT2 "}"), NVFP4_E_UNSUPPORTED);
  assert_int_equal(look("{\"model\": {\"type\": \"Unigram\"}}"), NVFP4_E_UNSUPPORTED);
  assert_int_equal(look("{\"model\": {\"type\": \"BPE\"}, \"pre_tokenizer\": {\"type\": \"Whitespace\"}}"), NVFP4_E_UNSUPPORTED);
  assert_int_equal(look("{"), NVFP4_E_FORMAT);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tokenizers_come_back),
      cmocka_unit_test(tokenizers_of_other_kinds),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
