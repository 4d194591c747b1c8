/* SPDX-License-Identifier: Apache-2.0 */
/* test_inspect.c - inspection of models, adapters and files; the environment's facts. */
#include "check.h"

#include <jansson.h>

#include "core/mem.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "milora/env.h"
#include "milora/inspect.h"

#define MODEL TEST_ROOT "/tests/model/data/llama"

static const char *fact(const mil_inspection *in, const char *key) {
    for (size_t i = 0; i < mil_inspect_facts(in); i++)
        if (strcmp(mil_inspect_fact(in, i)->key, key) == 0) return mil_inspect_fact(in, i)->value;
    return "(none)";
}

static void a_model_directory(void **state) {
    (void)state;
    struct mil_error err;
    mil_inspection *in;
    assert_ok(mil_inspect(MODEL, &in, &err));
    assert_int_equal(mil_inspect_kind(in), MIL_INSPECT_MODEL);
    assert_string_equal(fact(in, "supported"), "true");
    assert_string_equal(fact(in, "family"), "llama");
    assert_string_equal(fact(in, "hidden_size"), "16");
    assert_string_equal(fact(in, "rope_scaling"), "linear");
    /* What the tensors hold is what the configuration says. */
    char number[32];
    snprintf(number, sizeof number, "%llu", (unsigned long long)mil_inspect_elements(in));
    assert_string_equal(fact(in, "config_parameters"), number);
    uint64_t bytes = 0;
    for (size_t i = 0; i < mil_inspect_tensors(in); i++) {
        const struct mil_tensor_info *t = mil_inspect_tensor(in, i);
        assert_string_equal(t->dtype, "F32");
        assert_int_equal(t->bytes, 4 * t->elements);
        assert_string_equal(t->file, "model.safetensors");
        bytes += t->bytes;
    }
    assert_int_equal(bytes, mil_inspect_bytes(in));
    assert_null(mil_inspect_tensor(in, mil_inspect_tensors(in)));
    assert_null(mil_inspect_fact(in, mil_inspect_facts(in)));
    assert_null(mil_inspect_metadata(in, mil_inspect_metadata_count(in)));
    mil_inspect_free(&in);
    assert_null(in);
    mil_inspect_free(&in);
}

/* Literal facts are JSON as they stand. */
static void literals_are_json(void **state) {
    (void)state;
    struct mil_error err;
    mil_inspection *in;
    assert_ok(mil_inspect(MODEL, &in, &err));
    for (size_t i = 0; i < mil_inspect_facts(in); i++) {
        const struct mil_fact *f = mil_inspect_fact(in, i);
        json_t *v = f->literal ? json_loads(f->value, JSON_DECODE_ANY, NULL) : json_null();
        if (!v) fail_msg("%s: '%s' is no JSON", f->key, f->value);
        json_decref(v);
    }
    mil_inspect_free(&in);
}

static void write_text(const char *path, const char *text) {
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

/* A family that is not supported is listed with the reason; a broken configuration is an error. */
static void an_unknown_family(void **state) {
    (void)state;
    struct mil_error err;
    mil_inspection *in;
    char dir[512], path[600];
    snprintf(dir, sizeof dir, "%s", test_tmp_dir());
    snprintf(path, sizeof path, "%s/config.json", dir);
    write_text(path, "{\"model_type\": \"rwkv\", \"hidden_size\": 8}");
    assert_ok(mil_inspect(dir, &in, &err));
    assert_string_equal(fact(in, "supported"), "false");
    assert_non_null(strstr(fact(in, "reason"), "rwkv"));
    assert_string_equal(fact(in, "weights"), "none in this directory");
    mil_inspect_free(&in);
    write_text(path, "{\"model_type\": ");
    assert_fails(mil_inspect(dir, &in, &err), MIL_INPUT, "config.json");
    assert_null(in);
    unlink(path);
    assert_fails(mil_inspect(dir, &in, &err), MIL_INPUT, "neither config.json");
    assert_fails(mil_inspect("/nonexistent", &in, &err), MIL_ACCESS, "/nonexistent");
}

static void single_files(void **state) {
    (void)state;
    struct mil_error err;
    mil_inspection *in;
    char dir[512], path[600];
    assert_ok(mil_inspect(MODEL "/model.safetensors", &in, &err));
    assert_int_equal(mil_inspect_kind(in), MIL_INSPECT_FILE);
    assert_string_equal(mil_inspect_format(in), "safetensors file");
    mil_inspect_free(&in);

    snprintf(dir, sizeof dir, "%s", test_tmp_dir());
    snprintf(path, sizeof path, "%s/a.gguf", dir);
    struct gguf_writer *w;
    const float data[6] = {0};
    const int64_t ne[2] = {3, 2};
    assert_ok(gguf_writer_new(path, &w, &err));
    gguf_put_str(w, "general.name", "n\xff");
    gguf_put_u32(w, "some.count", 7);
    gguf_put_bool(w, "some.flag", true);
    gguf_put_tensor(w, "t", DT_F32, 2, ne, data);
    assert_ok(gguf_writer_commit(&w, &err));
    assert_ok(mil_inspect(path, &in, &err));
    assert_string_equal(mil_inspect_format(in), "GGUF file");
    assert_int_equal(mil_inspect_tensors(in), 1);
    /* Row-major: the contiguous dimension last. */
    assert_int_equal(mil_inspect_tensor(in, 0)->shape[0], 2);
    assert_int_equal(mil_inspect_tensor(in, 0)->shape[1], 3);
    bool seen = false;
    for (size_t i = 0; i < mil_inspect_metadata_count(in); i++) {
        const struct mil_fact *f = mil_inspect_metadata(in, i);
        if (strcmp(f->key, "general.name") == 0) assert_string_equal(f->value, "n");
        if (strcmp(f->key, "some.flag") == 0) assert_string_equal(f->value, "true");
        if (strcmp(f->key, "some.count") == 0) {
            assert_string_equal(f->value, "7");
            assert_true(f->literal);
            seen = true;
        }
    }
    assert_true(seen);
    mil_inspect_free(&in);

    snprintf(path, sizeof path, "%s/empty", dir);
    write_text(path, "");
    assert_fails(mil_inspect(path, &in, &err), MIL_INPUT, path);
}

/* Every allocation in turn fails: a status, never a crash or a leak. */
static void without_memory(void **state) {
    (void)state;
    struct mil_error err;
    mil_inspection *in;
    for (long n = 0; n < 2000; n++) {
        mem_fail_after(n);
        enum mil_status st = mil_inspect(MODEL, &in, &err);
        mem_fail_after(-1);
        if (st == MIL_OK) {
            mil_inspect_free(&in);
            assert_true(n > 10);
            return;
        }
        assert_int_equal(st, MIL_NOMEM);
        assert_null(in);
    }
    fail_msg("never succeeded");
}

static void environment(void **state) {
    (void)state;
    static struct mil_env env;
    mil_env_get(&env);
    assert_string_equal(env.version, mil_version());
    assert_true(env.threads >= 1 && env.processors >= 1);
    assert_true(env.memory_total > env.memory_available && env.memory_available > 0);
    assert_true(env.n_libraries >= 8 && env.n_libraries <= MIL_ENV_LIBRARIES);
    for (size_t i = 0; i < env.n_libraries; i++) assert_true(env.libraries[i].version[0] != 0);
    assert_int_equal(env.n_backends, 2);
    assert_true(env.backends[0].available);
    assert_string_equal(env.backends[1].name, "cuda");
    assert_true(env.backends[1].detail[0] != 0);
    assert_true(mil_peak_rss() > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_model_directory), cmocka_unit_test(literals_are_json),
        cmocka_unit_test(an_unknown_family), cmocka_unit_test(single_files),
        cmocka_unit_test(without_memory),    cmocka_unit_test(environment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
