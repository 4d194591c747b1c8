/* SPDX-License-Identifier: Apache-2.0 */
/* test_config.c - config.json of the families, what is refused and how, and the rotary frequencies.
 */
#include "check.h"

#include <math.h>

#include "io/json.h"
#include "model/config.h"
#include "model/rope.h"

/* The sizes every configuration below begins with. */
#define SIZES                                                                                      \
    "\"vocab_size\":100,\"hidden_size\":64,\"intermediate_size\":96,\"num_hidden_layers\":3,"      \
    "\"num_attention_heads\":4,\"num_key_value_heads\":2"

static enum mil_status read_text(const char *text, struct model_config *c, struct mil_error *err) {
    json_t *root = NULL;
    TRY(json_read_text(text, strlen(text), "text", &root, err));
    enum mil_status st = model_config_from_json(root, "config.json", c, err);
    json_decref(root);
    return st;
}

static struct model_config config_of(const char *text) {
    struct mil_error err = {0};
    struct model_config c;
    assert_ok(read_text(text, &c, &err));
    return c;
}

/* As published, shortened to what is read: LLaMA-1, Llama 2, Llama 3.1, SmolLM2, Mistral, Qwen2. */
static void test_published(void **state) {
    (void)state;
    struct model_config c = config_of(
        "{\"model_type\":\"llama\",\"architectures\":[\"LLaMAForCausalLM\"],\"vocab_size\":32000,"
        "\"hidden_size\":4096,\"intermediate_size\":11008,\"num_hidden_layers\":32,"
        "\"num_attention_heads\":32,\"rms_norm_eps\":1e-06,\"hidden_act\":\"silu\","
        "\"bos_token_id\":0,\"eos_token_id\":1,\"pad_token_id\":-1,\"max_sequence_length\":2048}");
    assert_int_equal(c.kv_heads, 32);
    assert_int_equal(c.head_dim, 128);
    assert_int_equal(c.max_positions, 2048);
    assert_true(!c.tied_head && !c.qkv_bias && !c.mlp_bias && c.window == 0);
    assert_true(c.rope.kind == ROPE_PLAIN && c.rope.theta == 10000.0);
    assert_true(model_config_parameters(&c) == 6738415616);
    c = config_of(
        "{\"model_type\":\"llama\",\"vocab_size\":128256,\"hidden_size\":4096,"
        "\"intermediate_size\":14336,\"num_hidden_layers\":32,\"num_attention_heads\":32,"
        "\"num_key_value_heads\":8,\"rms_norm_eps\":1e-05,\"bos_token_id\":128000,"
        "\"eos_token_id\":[128001,128008,128009],\"max_position_embeddings\":131072,"
        "\"rope_theta\":500000.0,\"rope_scaling\":{\"factor\":8.0,\"low_freq_factor\":1.0,"
        "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192,"
        "\"rope_type\":\"llama3\"},\"pretraining_tp\":1,\"mlp_bias\":false}");
    assert_true(c.rope.kind == ROPE_LLAMA3 && c.rope.factor == 8 && c.rope.theta == 500000);
    assert_int_equal(c.rope.original_positions, 8192);
    assert_true(c.n_eos == 3 && c.eos[2] == 128009);
    assert_true(model_config_parameters(&c) == 8030261248);
    c = config_of("{\"model_type\":\"mistral\",\"vocab_size\":32000,\"hidden_size\":4096,"
                  "\"intermediate_size\":14336,\"num_hidden_layers\":32,\"num_attention_heads\":32,"
                  "\"num_key_value_heads\":8,\"sliding_window\":4096,\"rms_norm_eps\":1e-05,"
                  "\"max_position_embeddings\":32768}");
    assert_int_equal(c.window, 4096);
    assert_true(model_config_parameters(&c) == 7241732096);
    c = config_of(
        "{\"model_type\":\"qwen2\",\"vocab_size\":151936,\"hidden_size\":896,"
        "\"intermediate_size\":4864,\"num_hidden_layers\":24,\"num_attention_heads\":14,"
        "\"num_key_value_heads\":2,\"use_sliding_window\":false,\"sliding_window\":32768,"
        "\"max_window_layers\":21,\"tie_word_embeddings\":true,\"rope_theta\":1000000.0}");
    assert_true(c.qkv_bias && !c.o_bias && !c.mlp_bias && c.window == 0 && c.tied_head);
    assert_true(model_config_parameters(&c) == 494032768);
}

static void test_spellings(void **state) {
    (void)state;
    struct model_config c =
        config_of("{\"model_type\":\"llama\"," SIZES ",\"head_dim\":32,\"eos_token_id\":null,"
                  "\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":4,\"rope_theta\":5000},"
                  "\"attention_bias\":true,\"something_new\":{\"a\":1}}");
    assert_true(c.rope.kind == ROPE_LINEAR && c.rope.factor == 4 && c.rope.theta == 5000);
    assert_true(c.head_dim == 32 && c.qkv_bias && c.o_bias && c.n_eos == 0 && c.bos == -1);
    c = config_of("{\"model_type\":\"llama\"," SIZES ",\"rope_theta\":7000.5,"
                  "\"rope_scaling\":{\"type\":\"linear\",\"factor\":2.0}}");
    assert_true(c.rope.kind == ROPE_LINEAR && c.rope.factor == 2 && c.rope.theta == 7000.5);
    c = config_of("{\"model_type\":\"mistral\"," SIZES "}");
    assert_int_equal(c.window, 4096); /* the class's default */
    c = config_of("{\"model_type\":\"mistral\"," SIZES ",\"sliding_window\":null}");
    assert_int_equal(c.window, 0);
    c = config_of("{\"model_type\":\"qwen2\"," SIZES ",\"use_sliding_window\":true,"
                  "\"sliding_window\":9,\"max_window_layers\":0,"
                  "\"layer_types\":[\"sliding_attention\",\"sliding_attention\","
                  "\"sliding_attention\"]}");
    assert_int_equal(c.window, 9);
}

static const struct {
    const char *members;
    enum mil_status status;
    const char *part;
} refused[] = {
    {"\"model_type\":\"gemma\"," SIZES, MIL_UNSUPPORTED, "\"gemma\" is not supported"},
    {SIZES, MIL_INPUT, "model_type"},
    {"\"model_type\":\"llama\"", MIL_INPUT, "vocab_size"},
    {"\"model_type\":\"mistral\",\"vocab_size\":9,\"hidden_size\":8,\"intermediate_size\":8,"
     "\"num_hidden_layers\":1,\"num_attention_heads\":2",
     MIL_INPUT, "num_key_value_heads"},
    {"\"model_type\":\"llama\"," SIZES ",\"hidden_act\":\"gelu\"", MIL_UNSUPPORTED, "\"gelu\""},
    {"\"model_type\":\"llama\"," SIZES ",\"pretraining_tp\":2", MIL_UNSUPPORTED, "pretraining_tp"},
    {"\"model_type\":\"llama\"," SIZES ",\"quantization_config\":{\"bits\":4}", MIL_UNSUPPORTED,
     "quantization_config"},
    {"\"model_type\":\"llama\"," SIZES ",\"partial_rotary_factor\":0.5", MIL_UNSUPPORTED,
     "partial_rotary_factor"},
    {"\"model_type\":\"llama\"," SIZES ",\"attention_dropout\":0.1", MIL_UNSUPPORTED,
     "attention_dropout"},
    {"\"model_type\":\"llama\"," SIZES ",\"sliding_window\":512", MIL_UNSUPPORTED,
     "sliding_window"},
    {"\"model_type\":\"mistral\"," SIZES ",\"attention_bias\":true", MIL_UNSUPPORTED,
     "attention_bias"},
    {"\"model_type\":\"qwen2\"," SIZES ",\"use_sliding_window\":true,\"sliding_window\":9,"
     "\"max_window_layers\":1",
     MIL_UNSUPPORTED, "max_window_layers 1"},
    {"\"model_type\":\"qwen2\"," SIZES ",\"layer_types\":[\"full_attention\",\"linear\"]",
     MIL_UNSUPPORTED, "layer_types[1]"},
    {"\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":{\"rope_type\":\"yarn\",\"factor\":2}",
     MIL_UNSUPPORTED, "\"yarn\""},
    {"\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2}",
     MIL_UNSUPPORTED, "\"dynamic\""},
    {"\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":{\"rope_type\":\"longrope\"}",
     MIL_UNSUPPORTED, "\"longrope\""},
    {"\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":{\"factor\":2}", MIL_INPUT,
     "without rope_type"},
    {"\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":{\"rope_type\":\"linear\"}", MIL_INPUT,
     "factor"},
    {"\"model_type\":\"llama\"," SIZES
     ",\"rope_parameters\":{\"rope_type\":\"default\",\"mrope_section\":[1]}",
     MIL_UNSUPPORTED, "mrope_section"},
    {"\"model_type\":\"llama\"," SIZES ",\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
     "\"low_freq_factor\":4,\"high_freq_factor\":4}",
     MIL_INPUT, "low_freq_factor 4 is not below"},
    {"\"model_type\":\"llama\"," SIZES ",\"head_dim\":7", MIL_INPUT, "head_dim 7 is odd"},
    {"\"model_type\":\"llama\"," SIZES ",\"head_dim\":100000", MIL_INPUT, "head_dim"},
    {"\"model_type\":\"llama\"," SIZES ",\"eos_token_id\":100", MIL_INPUT, "eos_token_id 100"},
    {"\"model_type\":\"llama\"," SIZES ",\"eos_token_id\":[1,\"x\"]", MIL_INPUT, "eos_token_id[1]"},
    {"\"model_type\":\"llama\"," SIZES ",\"eos_token_id\":[1,2,3,4,5,6,7,8,9]", MIL_INPUT,
     "more than 8"},
    {"\"model_type\":\"llama\"," SIZES ",\"bos_token_id\":100", MIL_INPUT, "bos_token_id"},
    {"\"model_type\":\"llama\",\"vocab_size\":9223372036854775807,\"hidden_size\":8,"
     "\"intermediate_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":2",
     MIL_INPUT, "vocab_size"},
    {"\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":10,\"intermediate_size\":8,"
     "\"num_hidden_layers\":1,\"num_attention_heads\":3",
     MIL_INPUT, "not a multiple of num_attention_heads"},
    {"\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":12,\"intermediate_size\":8,"
     "\"num_hidden_layers\":1,\"num_attention_heads\":3,\"num_key_value_heads\":2",
     MIL_INPUT, "not a multiple of num_key_value_heads"},
};

static void test_refused(void **state) {
    (void)state;
    struct mil_error err;
    struct model_config c;
    char text[800];
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        snprintf(text, sizeof text, "{%s}", refused[i].members);
        assert_fails(read_text(text, &c, &err), refused[i].status, refused[i].part);
        assert_non_null(strstr(err.message, "config.json"));
    }
    assert_fails(read_text("[1]", &c, &err), MIL_INPUT, "no JSON object");
}

/* Written and read back; fields that a family does not have stay away. */
static void test_written(void **state) {
    (void)state;
    static const char *const texts[] = {
        "{\"model_type\":\"llama\"," SIZES ",\"attention_bias\":true,\"mlp_bias\":true,"
        "\"head_dim\":24,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
        "\"low_freq_factor\":1,\"high_freq_factor\":4},\"eos_token_id\":[5,6],\"bos_token_id\":4}",
        "{\"model_type\":\"mistral\"," SIZES ",\"sliding_window\":33,\"tie_word_embeddings\":true,"
        "\"rope_scaling\":{\"rope_type\":\"linear\",\"factor\":3}}",
        "{\"model_type\":\"qwen2\"," SIZES ",\"eos_token_id\":7,\"rms_norm_eps\":1e-5}"};
    for (int i = 0; i < 3; i++) {
        struct mil_error err = {0};
        struct model_config c = config_of(texts[i]), back;
        json_t *json = model_config_to_json(&c, DT_BF16);
        assert_non_null(json);
        assert_ok(model_config_from_json(json, "written", &back, &err));
        assert_int_equal(c.window, back.window);
        assert_int_equal(c.head_dim, back.head_dim);
        assert_int_equal(c.rope.kind, back.rope.kind);
        assert_int_equal(c.rope.original_positions, back.rope.original_positions);
        assert_true(c.rope.factor == back.rope.factor && c.norm_eps == back.norm_eps);
        assert_true(c.qkv_bias == back.qkv_bias && c.o_bias == back.o_bias);
        assert_true(c.mlp_bias == back.mlp_bias && c.tied_head == back.tied_head);
        assert_true(c.n_eos == back.n_eos && c.eos[0] == back.eos[0] && c.bos == back.bos);
        json_decref(json);
    }
}

/* Llama 3.1 (D 128, theta 500000, factor 8): frequencies by transformers in f32, at i = 0, 28, 32,
 * 36, 40, 63; one unit in the last place of f32 is 1.2e-7 of a value. */
static void test_frequencies(void **state) {
    (void)state;
    static const struct {
        int i;
        double f;
    } want[] = {{0, 1.0},
                {28, 0.003211446106},
                {32, 0.000524846022},
                {36, 7.78465546e-05},
                {40, 3.42810235e-05},
                {63, 3.06892588e-07}};
    struct rope_config r = {ROPE_LLAMA3, 500000, 8, 1, 4, 8192};
    float f[64];
    double divisors[64], row[128];
    rope_frequencies(&r, 128, f);
    rope_llama3_divisors(&r, 128, divisors);
    for (size_t k = 0; k < sizeof want / sizeof want[0]; k++)
        assert_true(fabs((double)f[want[k].i] - want[k].f) <= 3 * 1.2e-7 * want[k].f);
    assert_true(divisors[0] == 1 && divisors[63] == 8);
    rope_row_f64(f, 128, 1000, row);
    for (int i = 0; i < 64; i++)
        assert_true(fabs(row[i] * row[i] + row[64 + i] * row[64 + i] - 1) < 1e-15);
    r.kind = ROPE_LINEAR;
    rope_frequencies(&r, 128, f);
    assert_true(f[0] == 0.125f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published), cmocka_unit_test(test_spellings),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_written),
        cmocka_unit_test(test_frequencies)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
