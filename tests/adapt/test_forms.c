/* SPDX-License-Identifier: Apache-2.0 */
/* test_forms.c - every method, with its flags, through the files: saved and loaded it is the same adapter and saves
 * the same bytes; merged it computes what it computes attached; several merge as the f64 sum says; exports hold the
 * change or are refused.
 *
 * Tolerances.  Logits 1e-4: test_logits.c.  Merged weights: W + the change in f64, rounded once to f32; the test sums
 * in another order, 2^-50 of the terms, so one f32 rounding, 2^-24 |W'|, and an absolute 1e-9 where terms cancel. */
#include "logits.h"

#include "adapt/files.h"
#include "io/gguf.h"
#include "io/json.h"

static const int64_t one_layer[] = {1};
static const char *const not_v[] = {"v_proj"};
static const char *const both[] = {"embed_tokens", "lm_head"};
static const struct adapter_pattern some_ranks[] = {{"q_proj", 2}, {"layers.1.mlp.up_proj", 6}},
                                    some_alphas[] = {{"k_proj", 3.5}};

static const struct row {
    const char *name, *base, *method;
    struct adapter_options more;
} rows[] = {
    {"lora", "base", "lora", {0}},
    {"lora, patterns",
     "base",
     "lora",
     {.ranks = some_ranks, .n_ranks = 2, .alphas = some_alphas, .n_alphas = 1, .rslora = true}},
    {"lora, some",
     "base",
     "lora",
     {.layers = one_layer, .n_layers = 1, .excluded = not_v, .n_excluded = 1}},
    {"rslora", "base", "rslora", {0}},
    {"lora_plus", "base", "lora_plus", {0}},
    {"dora", "base", "dora", {0}},
    {"dora, rslora, patterns",
     "base",
     "dora",
     {.ranks = some_ranks, .n_ranks = 2, .alphas = some_alphas, .n_alphas = 1, .rslora = true}},
    {"milora", "base", "milora", {0}},
    {"milora, patterns, rslora",
     "base",
     "milora",
     {.ranks = some_ranks, .n_ranks = 2, .alphas = some_alphas, .n_alphas = 1, .rslora = true}},
    {"milora, dora", "base", "milora", {.dora = true}},
    {"pissa, dora, lora+", "base", "pissa", {.dora = true, .lr_ratio = 4}},
    {"olora", "base", "olora", {0}},
    {"mica", "base", "mica", {0}},
    {"mica, rslora", "base", "mica", {.rslora = true}},
    {"adalora", "base", "adalora", {.adalora = {.orth_reg_weight = 0.1, .tinit = 3, .tfinal = 7}}},
    {"lora, embeddings", "base", "lora", {.saved_modules = both, .n_saved_modules = 1}},
    {"milora, head", "base", "milora", {.saved_modules = both + 1, .n_saved_modules = 1}},
    {"adalora, both", "base", "adalora", {.saved_modules = both, .n_saved_modules = 2}},
    {"dora, biases", "base-qwen2", "dora", {.bias = BIAS_ALL}},
    {"lora, biases, both",
     "base-qwen2",
     "lora",
     {.bias = BIAS_LORA_ONLY, .saved_modules = both, .n_saved_modules = 2}},
};
enum { ROWS = sizeof rows / sizeof *rows };

/* ---- making ---- */

static struct checkpoint *open_model(const char *path) {
    struct checkpoint *c;
    assert_ok(checkpoint_open(path, CHECKPOINT_WEIGHTS, &c, &err));
    return c;
}

static struct checkpoint *base_of(const struct row *row) {
    char path[PATH_CAP];
    snprintf(path, sizeof path, "%s/%s", TEST_DATA, row->base);
    return open_model(path);
}

static bool known(const struct row *row) {
    const struct method *method;
    return method_find(row->method, &method, NULL) == MIL_OK;
}

/* What trains moves by about `size`; of an AdaLoRA some triplets are masked, one module wholly. */
static void move(struct adapter *a, double size, uint32_t seed) {
    for (size_t i = 0; i < adapter_tensor_count(a); i++) {
        struct adapter_tensor t;
        adapter_tensor_at(a, i, &t);
        if (strstr(t.name, ".A0") || strstr(t.name, ".B0") || strstr(t.name, ".pruned")) continue;
        for (int64_t k = 0; k < t.rows * t.cols; k++)
            t.data[k] += (float)(size * normal(seed + (uint32_t)i, k));
    }
    for (size_t i = 0; i < a->n; i++) {
        struct delta *d = &a->deltas[i];
        for (int64_t t = 0; d->pruned && t < d->r; t++) {
            d->pruned[t] = i == 1 || (t + (int64_t)i) % 3 == 0;
            if (d->pruned[t] != 0) d->e[t] = 0;
        }
    }
}

static struct adapter *make(const struct row *row, const struct checkpoint *base, uint32_t seed) {
    struct adapter_options o = row->more;
    struct adapter *a;
    o.method = row->method;
    o.r = 4;
    o.dropout = 0.05;
    o.targets = default_targets;
    o.n_targets = 5;
    o.seed = 42;
    assert_ok(adapter_init(base, &o, NULL, NULL, &a, &err));
    move(a, 0.1, seed);
    return a;
}

static void new_dir(char out[PATH_CAP]) {
    assert_ok(path_join(out, test_tmp_dir(), "adapter", &err));
    assert_ok(dir_make(out, &err));
}

static double distance(struct checkpoint *c, struct adapter *a, struct checkpoint *d,
                       struct adapter *b) {
    float x[IDS * VOCAB], y[IDS * VOCAB];
    double worst = 0;
    logits_of(c, a, DT_F32, some_ids, x);
    logits_of(d, b, DT_F32, some_ids, y);
    for (int i = 0; i < IDS * VOCAB; i++) worst = fmax(worst, fabs((double)x[i] - y[i]));
    return worst;
}

/* ---- round trips ---- */

static void same_options(const struct adapter_options *p, const struct adapter_options *q) {
    assert_string_equal(p->method, q->method);
    assert_true(p->r == q->r && p->alpha == q->alpha && p->dropout == q->dropout);
    assert_true(p->rslora == q->rslora && p->dora == q->dora && p->lr_ratio == q->lr_ratio);
    assert_true(p->bias == q->bias && p->seed == q->seed);
    assert_int_equal(p->n_targets, q->n_targets);
    assert_int_equal(p->n_layers, q->n_layers);
    assert_int_equal(p->n_excluded, q->n_excluded);
    assert_int_equal(p->n_saved_modules, q->n_saved_modules);
    assert_int_equal(p->n_ranks, q->n_ranks);
    assert_int_equal(p->n_alphas, q->n_alphas);
    for (size_t i = 0; i < p->n_ranks; i++) {
        assert_string_equal(p->ranks[i].pattern, q->ranks[i].pattern);
        assert_true(p->ranks[i].value == q->ranks[i].value);
    }
    const struct adalora_options *x = &p->adalora, *y = &q->adalora;
    if (strcmp(p->method, "adalora") != 0) return;
    assert_true(x->target_r == y->target_r && x->init_r == y->init_r && x->tinit == y->tinit &&
                x->tfinal == y->tfinal && x->delta_t == y->delta_t && x->beta1 == y->beta1 &&
                x->beta2 == y->beta2 && x->orth_reg_weight == y->orth_reg_weight);
}

static void same_delta(const struct delta *p, const struct delta *q) {
    struct delta_part parts[DELTA_PARTS];
    assert_true(p->m == q->m && p->n == q->n && p->r == q->r && p->alpha == q->alpha);
    assert_true(p->form == q->form && p->dora == q->dora);
    size_t n = delta_parts(p, parts);
    for (size_t k = 0; k < n; k++) {
        const float *x = *delta_part_data((struct delta *)p, &parts[k]),
                    *y = *delta_part_data((struct delta *)q, &parts[k]);
        /* A0 + dA is one rounding on disk: of A0 it leaves what gives the same sum; a LoRA has it all in A0 */
        if (strcmp(parts[k].name, "A0") == 0) continue;
        bool in_a0 = strcmp(parts[k].name, "delta_A") == 0 &&
                     (p->form == DELTA_LORA || p->form == DELTA_SCALED);
        for (int64_t i = 0; i < parts[k].rows * parts[k].cols; i++)
            assert_true(in_a0 ? y[i] == 0 : x[i] == y[i] || (p->pruned && y[i] == 0));
    }
    for (int64_t i = 0; p->a0 && i < p->r * p->n; i++)
        assert_true(p->a0[i] + p->da[i] == q->a0[i] + q->da[i] ||
                    (p->pruned && p->pruned[i / p->n] != 0));
}

static void round_trip(void **state) {
    const struct row *row = *state;
    if (!known(row)) skip();
    struct checkpoint *base = base_of(row);
    struct adapter *a = make(row, base, 100), *b, *blind;
    static const char *const files[] = {"adapter_model.safetensors", "adapter_config.json",
                                        "milora.json", "README.md"};
    char first[PATH_CAP], second[PATH_CAP];
    new_dir(first);
    new_dir(second);
    assert_ok(adapter_save(a, first, &err));
    assert_ok(adapter_load(first, base, &b, &err));
    assert_ok(adapter_load(first, NULL, &blind, &err));
    same_options(&a->options, &b->options);
    assert_int_equal(a->n, b->n);
    assert_int_equal(a->n_wholes, b->n_wholes);
    for (size_t i = 0; i < a->n; i++) same_delta(&a->deltas[i], &b->deltas[i]);
    for (size_t i = 0; i < a->n_wholes; i++)
        assert_memory_equal(a->wholes[i].value, b->wholes[i].value,
                            (size_t)(a->wholes[i].rows * a->wholes[i].cols) * sizeof(float));
    assert_ok(adapter_save(b, second, &err));
    for (size_t i = 0; i < 4; i++) assert_same_file(first, second, files[i]);
    assert_true(distance(base, a, base, b) < 1e-4);
    assert_true(distance(base, a, base, NULL) > 1e-3);
    adapter_free(&blind);
    adapter_free(&b);
    adapter_free(&a);
    checkpoint_free(&base);
}

/* ---- merging ---- */

static void merges(void **state) {
    const struct row *row = *state;
    if (!known(row)) skip();
    struct checkpoint *base = base_of(row), *merged;
    struct adapter *a = make(row, base, 200);
    char out[PATH_CAP];
    assert_ok(path_join(out, test_tmp_dir(), "merged", &err));
    assert_ok(adapter_merge(base, a, out, DT_F32, &err));
    merged = open_model(out);
    double off = distance(base, a, merged, NULL);
    if (!(off < 1e-4)) fail_msg("merged and attached differ by %g", off);
    checkpoint_free(&merged);
    adapter_free(&a);
    checkpoint_free(&base);
}

/* W' - W of one module in f64, by definition. */
static void add_change(const struct delta *d, const float *w, double weight, double *sum) {
    int64_t k = delta_saved_rank(d);
    double *v = mem_alloc(MEM_OTHER, (size_t)d->n, sizeof *v);
    float *a = mem_alloc(MEM_OTHER, (size_t)(k * d->n), sizeof *a);
    delta_saved_a(d, a);
    for (int64_t i = 0; i < d->m; i++) {
        double norm = 0;
        for (int64_t j = 0; j < d->n; j++) {
            v[j] = w[i * d->n + j];
            for (int64_t t = 0; t < k; t++) {
                double b = d->form == DELTA_FIXED_B ? d->b0[i * d->r + t]
                           : t < d->r               ? d->db[i * d->r + t]
                                                    : d->b0[i * d->r + t - d->r];
                if (d->form == DELTA_SCALED) b *= d->e[t];
                v[j] += delta_scale(d) * b * a[t * d->n + j];
            }
            norm += v[j] * v[j];
        }
        double f = d->dora ? d->magnitude[i] / sqrt(norm) : 1;
        for (int64_t j = 0; j < d->n; j++)
            sum[i * d->n + j] += weight * (f * v[j] - (double)w[i * d->n + j]);
    }
    mem_free(a);
    mem_free(v);
}

static void check_sum(const struct checkpoint *base, const struct checkpoint *merged,
                      const struct adapter_part *parts, size_t n, int64_t layer, enum module m) {
    const struct weight_view *v = checkpoint_module(base, layer, m),
                             *h = checkpoint_module(merged, layer, m);
    int64_t size = v->rows * v->cols;
    double *sum = mem_calloc(MEM_OTHER, (size_t)size, sizeof *sum);
    for (size_t p = 0; p < n; p++)
        for (size_t i = 0; i < parts[p].adapter->n; i++) {
            const struct delta *d = &parts[p].adapter->deltas[i];
            if (d->layer == layer && d->module == m) add_change(d, v->data, parts[p].weight, sum);
        }
    for (int64_t i = 0; i < size; i++) {
        double want = (double)((const float *)v->data)[i] + sum[i],
               have = ((const float *)h->data)[i];
        assert_true(fabs(have - want) <= 0x1p-24 * fabs(want) + 1e-9);
    }
    mem_free(sum);
}

/* Four forms at once, one of them counted against, one with whole tensors. */
static void test_several(void **state) {
    (void)state;
    static const struct row of[] = {
        {"", "base", "lora", {0}},
        {"", "base", "dora", {0}},
        {"", "base", "milora", {.dora = true}},
        {"", "base", "adalora", {.saved_modules = both, .n_saved_modules = 1}}};
    static const double weights[] = {1, 0.5, -0.25, 2};
    struct checkpoint *base = base_of(&of[0]), *merged;
    struct adapter *a[4];
    struct adapter_part parts[4];
    char out[PATH_CAP];
    for (uint32_t i = 0; i < 4; i++) {
        if (!known(&of[i])) skip();
        a[i] = make(&of[i], base, 300 + 50 * i);
        parts[i] = (struct adapter_part){a[i], weights[i]};
    }
    assert_ok(path_join(out, test_tmp_dir(), "merged", &err));
    assert_ok(adapter_merge_parts(base, parts, 4, out, DT_F32, &err));
    merged = open_model(out);
    for (int64_t i = 0; i < base->config.layers * MODULES; i++)
        check_sum(base, merged, parts, 4, i / MODULES, (enum module)(i % MODULES));
    assert_false(merged->config.tied_head); /* embeddings alone moved */
    for (int64_t i = 0; i < base->embed.rows * base->embed.cols; i++) {
        double w = ((const float *)base->embed.data)[i], v = a[3]->wholes[0].value[i];
        assert_true(fabs(((const float *)merged->embed.data)[i] - (w + 2 * (v - w))) <= 1e-6);
        assert_true(((const float *)merged->head.data)[i] == (float)w);
    }
    checkpoint_free(&merged);
    /* weight 0 changes nothing, weight 1 alone is the plain merge */
    char zero[PATH_CAP], plain[PATH_CAP], alone[PATH_CAP];
    const struct adapter_part none = {a[2], 0}, whole = {a[2], 1};
    assert_ok(path_join(zero, test_tmp_dir(), "zero", &err));
    assert_ok(adapter_merge_parts(base, &none, 1, zero, DT_F32, &err));
    merged = open_model(zero);
    for (size_t i = 0; i < checkpoint_count(merged); i++) {
        const struct weight_view *v = checkpoint_at(merged, i), *w = checkpoint_at(base, i);
        assert_memory_equal(v->data, w->data, (size_t)(v->rows * v->cols) * sizeof(float));
    }
    checkpoint_free(&merged);
    assert_ok(path_join(plain, test_tmp_dir(), "plain", &err));
    assert_ok(path_join(alone, test_tmp_dir(), "alone", &err));
    assert_ok(adapter_merge(base, a[2], plain, DT_F32, &err));
    assert_ok(adapter_merge_parts(base, &whole, 1, alone, DT_F32, &err));
    assert_same_file(plain, alone, "model.safetensors");
    for (int i = 0; i < 4; i++) adapter_free(&a[i]);
    checkpoint_free(&base);
}

/* A magnitude over a row of zeros has no direction; one of 0, the row's own, leaves it. */
static void test_zero_row(void **state) {
    (void)state;
    struct checkpoint *base = base_of(&rows[0]);
    struct adapter *a = make(&rows[5], base, 400);
    struct delta *d = a->deltas;
    float *w = mem_calloc(MEM_OTHER, (size_t)(d->m * d->n), sizeof *w);
    memset(d->db, 0, (size_t)(d->m * d->r) * sizeof *d->db);
    assert_fails(delta_add_to(d, w, &err), MIL_NUMERIC, "row 0 of W + s B A is 0");
    memset(d->magnitude, 0, (size_t)d->m * sizeof *d->magnitude);
    assert_ok(delta_add_to(d, w, &err));
    for (int64_t i = 0; i < d->m * d->n; i++) assert_true(w[i] == 0);
    mem_free(w);
    adapter_free(&a);
    checkpoint_free(&base);
}

/* ---- exports ---- */

static void exports(void **state) {
    const struct row *row = *state;
    if (!known(row)) skip();
    struct checkpoint *base = base_of(row), *rest;
    struct adapter *a = make(row, base, 500), *b;
    char out[PATH_CAP], dir[PATH_CAP], gguf[PATH_CAP];
    bool dora = adapter_has_dora(a), pair = a->deltas[0].form == DELTA_PAIR;
    assert_ok(path_join(out, test_tmp_dir(), "peft", &err));
    assert_ok(adapter_export(a, NULL, EXPORT_PEFT, DT_F32, out, &err));
    assert_ok(adapter_load(out, base, &b, &err)); /* without milora.json: PEFT's own */
    assert_null(b->method);
    assert_true(distance(base, a, base, b) < 1e-4);
    adapter_free(&b);

    assert_ok(path_join(out, test_tmp_dir(), "lora", &err));
    if (dora) {
        assert_fails(adapter_export(a, NULL, EXPORT_LORA, DT_F32, out, &err), MIL_UNSUPPORTED,
                     "merge it");
    } else {
        assert_ok(adapter_export(a, NULL, EXPORT_LORA, DT_F32, out, &err));
        assert_ok(adapter_load(out, base, &b, &err));
        assert_int_equal(b->n, a->n - (a->deltas[0].form == DELTA_SCALED)); /* one had no rank */
        assert_true(distance(base, a, base, b) < 1e-4);
        adapter_free(&b);
    }

    assert_ok(path_join(out, test_tmp_dir(), "residual", &err));
    if (!pair) {
        assert_fails(adapter_export(a, base, EXPORT_RESIDUAL, DT_F32, out, &err), MIL_USAGE,
                     "export it as peft");
    } else {
        assert_ok(adapter_export(a, base, EXPORT_RESIDUAL, DT_F32, out, &err));
        rest = open_model(out);
        assert_ok(path_join(dir, out, "adapter", &err));
        assert_ok(adapter_load(dir, rest, &b, &err));
        assert_int_equal(b->deltas[0].r, a->deltas[0].r);
        assert_true(b->deltas[0].dora == dora);
        /* one more weight rounded in f32, W - s B0 A0 of the size of W */
        assert_true(distance(base, a, rest, b) < 1e-4);
        adapter_free(&b);
        checkpoint_free(&rest);
    }

    assert_ok(path_join(gguf, test_tmp_dir(), "lora.gguf", &err));
    if (dora || a->n_wholes) {
        assert_fails(adapter_export(a, base, EXPORT_GGUF, DT_F32, gguf, &err), MIL_UNSUPPORTED,
                     "merge");
        assert_false(path_exists(gguf));
    } else {
        struct gguf_file *f;
        assert_ok(adapter_export(a, base, EXPORT_GGUF, DT_F32, gguf, &err));
        assert_ok(gguf_open(gguf, &f, &err));
        assert_int_equal(gguf_tensor_count(f), 2 * (a->n - (a->deltas[0].form == DELTA_SCALED)));
        gguf_free(&f);
    }
    adapter_free(&a);
    checkpoint_free(&base);
}

/* ---- what PEFT is told ---- */

static json_t *config_of(const struct row *row) {
    struct checkpoint *base = base_of(row);
    struct adapter *a = make(row, base, 600);
    char dir[PATH_CAP], path[PATH_CAP];
    json_t *c;
    new_dir(dir);
    assert_ok(adapter_save(a, dir, &err));
    assert_ok(path_join(path, dir, "adapter_config.json", &err));
    assert_ok(json_read_file(path, &c, &err));
    adapter_free(&a);
    checkpoint_free(&base);
    return c;
}

static void test_config(void **state) {
    (void)state;
    static const struct row dora = {"", "base", "pissa", {.dora = true, .rslora = true}},
                            ada = {"", "base", "adalora", {0}},
                            whole = {
                                "",
                                "base-qwen2",
                                "lora",
                                {.bias = BIAS_ALL, .saved_modules = both, .n_saved_modules = 2}};
    json_t *c = config_of(&dora);
    assert_true(json_is_true(json_object_get(c, "use_dora")));
    assert_true(json_is_false(json_object_get(c, "use_rslora"))); /* folded: 2 x 4 x sqrt(4) */
    assert_true(json_number_value(json_object_get(c, "lora_alpha")) == 16);
    assert_int_equal(json_integer_value(json_object_get(c, "r")), 8);
    json_decref(c);
    c = config_of(&whole);
    assert_string_equal(json_string_value(json_object_get(c, "bias")), "all");
    assert_int_equal(json_array_size(json_object_get(c, "modules_to_save")), 2);
    json_decref(c);
    if (!known(&ada)) skip();
    c = config_of(&ada);
    assert_string_equal(json_string_value(json_object_get(c, "peft_type")), "ADALORA");
    const json_t *masks = json_object_get(c, "rank_pattern");
    assert_int_equal(json_object_size(masks), 10);
    const json_t *mask = json_object_get(masks, "model.layers.0.self_attn.k_proj.lora_E");
    assert_int_equal(json_array_size(mask), json_integer_value(json_object_get(c, "init_r")));
    assert_true(json_is_false(json_array_get(mask, 0))); /* module 1: nothing left */
    json_decref(c);
}

int main(void) {
    struct CMUnitTest tests[3 * ROWS + 3] = {cmocka_unit_test(test_several),
                                             cmocka_unit_test(test_zero_row),
                                             cmocka_unit_test(test_config)};
    static char names[3][ROWS][64];
    static const struct {
        const char *what;
        CMUnitTestFunction run;
    } kinds[] = {{"saved", round_trip}, {"merged", merges}, {"exported", exports}};
    for (size_t k = 0; k < 3; k++)
        for (size_t i = 0; i < ROWS; i++) {
            snprintf(names[k][i], sizeof names[k][i], "%s: %s", kinds[k].what, rows[i].name);
            tests[3 + k * ROWS + i] =
                (struct CMUnitTest){names[k][i], kinds[k].run, NULL, NULL, (void *)&rows[i]};
        }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
