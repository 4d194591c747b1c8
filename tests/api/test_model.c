/* SPDX-License-Identifier: Apache-2.0 */
/* test_model.c - the model handle: logits in chunks, adapters on top, merging, the SVD cache. */
#include "check.h"

#include <math.h>

#include "core/mem.h"
#include "io/file.h"
#include "io/npy.h"
#include "milora/adapter.h"
#include "milora/model.h"
#include "milora/tokenizer.h"

#define MODEL TEST_ROOT "/tests/model/data/llama"
enum { VOCAB = 40, POSITIONS = 64, MANY = 600 };

static mil_model *open_model(const char *path, const char *adapter, int64_t positions) {
    struct mil_error err;
    struct mil_model_options o = {
        .path = path, .adapter = adapter, .compute = MIL_F32, .max_positions = positions};
    mil_model *m;
    assert_ok(mil_model_open(&o, &m, &err));
    return m;
}

static void walk(int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)((i * 7 + 3) % VOCAB);
}

/* The logits of a prefix do not depend on what follows, nor on where the chunks are cut: causal
 * attention.  600 tokens are three chunks, 300 two, 40 one.  The same operations in another
 * grouping: a few ulps of logits of order 1 may differ; 1e-4 is a hundred times that, and far below
 * any real mistake (a wrong position or a lost key changes logits by 0.1 and more). */
static void logits_do_not_depend_on_chunks(void **state) {
    (void)state;
    struct mil_error err;
    mil_model *m = open_model(MODEL, NULL, MANY);
    assert_int_equal(mil_model_vocab(m), VOCAB);
    assert_int_equal(mil_model_positions(m), MANY);
    assert_true(mil_model_backend(m)[0] != 0);
    int32_t ids[MANY];
    walk(ids, MANY);
    static float all[MANY * VOCAB], part[MANY * VOCAB];
    assert_ok(mil_logits(m, ids, MANY, all, &err));
    const size_t lengths[] = {1, 40, 256, 257, 300};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        assert_ok(mil_logits(m, ids, lengths[k], part, &err));
        for (size_t i = 0; i < lengths[k] * VOCAB; i++) {
            assert_true(isfinite(all[i]));
            if (fabsf(all[i] - part[i]) > 1e-4f)
                fail_msg("length %zu, element %zu: %g and %g", lengths[k], i, (double)all[i],
                         (double)part[i]);
        }
    }
    mil_model_free(&m);
    assert_null(m);
    mil_model_free(&m);
}

static void logits_to_a_file(void **state) {
    (void)state;
    struct mil_error err;
    char path[600];
    float direct[5 * VOCAB], *read;
    int ndim;
    int64_t shape[4];
    int32_t ids[5];
    mil_model *m = open_model(MODEL, NULL, 0);
    assert_int_equal(mil_model_positions(m), POSITIONS);
    walk(ids, 5);
    snprintf(path, sizeof path, "%s/l.npy", test_tmp_dir());
    assert_ok(mil_logits_save(m, ids, 5, path, &err));
    assert_ok(mil_logits(m, ids, 5, direct, &err));
    assert_ok(npy_read_f32(path, &read, &ndim, shape, &err));
    assert_int_equal(ndim, 2);
    assert_int_equal(shape[0], 5);
    assert_int_equal(shape[1], VOCAB);
    assert_memory_equal(read, direct, sizeof direct);
    mem_free(read);
    mil_model_free(&m);
}

static void wrong_use(void **state) {
    (void)state;
    struct mil_error err;
    float out[VOCAB];
    mil_model *m = open_model(MODEL, NULL, 0);
    int32_t ids[POSITIONS + 1] = {0};
    assert_fails(mil_logits(m, ids, 0, out, &err), MIL_USAGE, "no token ids");
    assert_fails(mil_logits(m, ids, POSITIONS + 1, out, &err), MIL_USAGE, "opened for 64");
    ids[0] = VOCAB;
    assert_fails(mil_logits(m, ids, 1, out, &err), MIL_USAGE, "0 to 39");
    ids[0] = -1;
    assert_fails(mil_logits(m, ids, 1, out, &err), MIL_USAGE, "id -1");
    mil_model_free(&m);
    struct mil_model_options o = {.path = "/nonexistent"};
    assert_fails(mil_model_open(&o, &m, &err), MIL_ACCESS, "/nonexistent");
    assert_null(m);
    o = (struct mil_model_options){.path = MODEL, .adapter = "/nonexistent"};
    assert_fails(mil_model_open(&o, &m, &err), MIL_ACCESS, "/nonexistent");
    o = (struct mil_model_options){.path = MODEL, .max_positions = -1};
    assert_fails(mil_model_open(&o, &m, &err), MIL_USAGE, "max_positions");
}

/* ---- adapters */

struct rows {
    size_t n, total;
    double largest;
};

static void on_row(void *ctx, const struct mil_init_row *row) {
    struct rows *r = ctx;
    assert_int_equal(row->index, r->n);
    assert_true(strncmp(row->module, "model.layers.", 13) == 0);
    assert_int_equal(row->rank, 2);
    r->n++;
    r->total = row->total;
    if (row->residual > r->largest) r->largest = row->residual;
}

static void initialise_merge_export(void **state) {
    (void)state;
    struct mil_error err;
    char dir[512], a[600], cached[600], cache[600], merged[600];
    snprintf(dir, sizeof dir, "%s", test_tmp_dir());
    snprintf(a, sizeof a, "%s/a", dir);
    snprintf(cached, sizeof cached, "%s/b", dir);
    snprintf(cache, sizeof cache, "%s/cache", dir);
    snprintf(merged, sizeof merged, "%s/merged", dir);
    struct mil_adapter_options o = {
        .model = MODEL, .out = a, .rank = 2, .seed = 1, .svd_cache = cache};
    struct mil_adapter_result result, again;
    struct rows rows = {0}, replayed = {0};
    assert_ok(mil_adapter_init(&o, on_row, &rows, &result, &err));
    assert_int_equal(rows.n, 10);
    assert_int_equal(rows.total, 10);
    assert_int_equal(result.modules, 10);
    assert_false(result.cached);
    assert_true(result.largest_residual > 0 && result.largest_residual < 1e-10);
    assert_true(result.alpha == 2);
    /* r (m + n): width 16, q 32, kv 16, ffn 24, two layers, modules q k v up down. */
    assert_int_equal(result.trainable, 2 * 2 * (48 + 32 + 32 + 40 + 40));
    o.out = cached;
    assert_ok(mil_adapter_init(&o, on_row, &replayed, &again, &err));
    assert_true(again.cached);
    assert_int_equal(replayed.n, 10);
    assert_true(replayed.largest == rows.largest);
    assert_int_equal(again.trainable, result.trainable);
    assert_fails(mil_adapter_init(&o, NULL, NULL, NULL, &err), MIL_ACCESS, "exists already");

    /* At step 0 the function is the same, bit for bit. */
    float before[5 * VOCAB], after[5 * VOCAB];
    int32_t ids[5];
    walk(ids, 5);
    mil_model *m = open_model(MODEL, NULL, 0);
    assert_ok(mil_logits(m, ids, 5, before, &err));
    mil_model_free(&m);
    m = open_model(MODEL, cached, 0);
    assert_ok(mil_logits(m, ids, 5, after, &err));
    mil_model_free(&m);
    assert_memory_equal(before, after, sizeof before);

    /* Merging nothing changes nothing; the model has no tokenizer: the probe is made of ids. */
    struct mil_merge_options mo = {.model = MODEL, .adapter = a, .out = merged};
    struct mil_merge_result mr;
    assert_ok(mil_merge(&mo, &mr, &err));
    assert_string_equal(mr.dtype, "F32");
    assert_int_equal(mr.probe_tokens, 32);
    assert_true(mr.largest_change == 0);
    assert_true(mr.largest_logit > 0);
    assert_int_equal(mr.argmax_changed, 0);
    assert_fails(mil_merge(&mo, &mr, &err), MIL_ACCESS, "exists already");
    char elsewhere[600];
    snprintf(elsewhere, sizeof elsewhere, "%s/new/place", dir);
    mo.out = elsewhere;
    mo.dtype = "f64";
    mo.no_probe = 1;
    assert_fails(mil_merge(&mo, NULL, &err), MIL_USAGE, "f64");
    snprintf(elsewhere, sizeof elsewhere, "%s/new", dir);
    assert_false(path_exists(elsewhere));
    mo.out = MODEL "/config.json/x/y";
    assert_fails(mil_merge(&mo, NULL, &err), MIL_ACCESS, "not a directory");

    struct mil_export_options e = {.adapter = a, .out = merged, .format = "pefft"};
    assert_fails(mil_export(&e, &err), MIL_USAGE, "pefft");
    e.format = "peft";
    assert_fails(mil_export(&e, &err), MIL_ACCESS, "exists already");
    assert_ok(dir_remove(dir, &err));
}

static void wrong_adapter_options(void **state) {
    (void)state;
    struct mil_error err;
    char out[600];
    snprintf(out, sizeof out, "%s/a", test_tmp_dir());
    struct mil_adapter_options o = {.model = MODEL, .out = out, .method = "full"};
    assert_fails(mil_adapter_init(&o, NULL, NULL, NULL, &err), MIL_USAGE, "full");
    o.method = "milroa";
    assert_fails(mil_adapter_init(&o, NULL, NULL, NULL, &err), MIL_USAGE, "milora");
    o.method = NULL;
    o.rank = 17;
    assert_fails(mil_adapter_init(&o, NULL, NULL, NULL, &err), MIL_USAGE, "at most 16");
    o.rank = -1;
    assert_fails(mil_adapter_init(&o, NULL, NULL, NULL, &err), MIL_USAGE, "rank");
    static const char *const targets[] = {"q_prj"};
    o = (struct mil_adapter_options){
        .model = MODEL, .out = out, .rank = 2, .targets = targets, .n_targets = 1};
    assert_fails(mil_adapter_init(&o, NULL, NULL, NULL, &err), MIL_USAGE, "q_proj");
    assert_false(path_exists(out));
    struct mil_method_info info;
    size_t n = 0;
    while (mil_method(n, &info)) assert_string_equal(info.name, mil_method_names()[n++]);
    assert_true(n >= 6);
    assert_null(mil_method_names()[n]);
}

static void tokenizer_handle(void **state) {
    (void)state;
    struct mil_error err;
    mil_tokenizer *t;
    assert_ok(mil_tokenizer_open(TEST_ROOT "/tests/text/data/small-bytes", &t, &err));
    struct mil_ids ids = {0};
    struct mil_text text = {0};
    assert_ok(mil_encode(t, "a b<|im_end|>", 13, MIL_PARSE_SPECIAL, &ids, &err));
    assert_int_equal(ids.ids[ids.n - 1], 3);
    assert_ok(mil_decode(t, ids.ids, ids.n, 0, &text, &err));
    assert_string_equal(text.data, "a b<|im_end|>");
    mil_text_reset(&text);
    assert_ok(mil_decode(t, ids.ids, ids.n, 1, &text, &err));
    assert_string_equal(text.data, "a b");
    ids.ids[0] = mil_tokenizer_vocab(t);
    assert_fails(mil_decode(t, ids.ids, ids.n, 0, &text, &err), MIL_INPUT, "");
    assert_fails(mil_encode(t, "\xff", 1, 0, &ids, &err), MIL_INPUT, "UTF-8");
    assert_true(mil_tokenizer_bos(t) == 0 && mil_tokenizer_eos(t) == 1);
    assert_string_equal(mil_tokenizer_kind(t), "byte-level BPE");
    mil_ids_release(&ids);
    mil_text_release(&text);
    mil_tokenizer_free(&t);
    mil_tokenizer_free(&t);
    assert_int_not_equal(mil_tokenizer_open("/nonexistent", &t, &err), MIL_OK);
    assert_null(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_do_not_depend_on_chunks),
        cmocka_unit_test(logits_to_a_file),
        cmocka_unit_test(wrong_use),
        cmocka_unit_test(initialise_merge_export),
        cmocka_unit_test(wrong_adapter_options),
        cmocka_unit_test(tokenizer_handle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
