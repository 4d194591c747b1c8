/* SPDX-License-Identifier: Apache-2.0 */
/* test_init.c - the schedule of an initialisation, what stays the same whatever the schedule, and
 * going on after a stop.
 *
 * Bits: a module's factors are those of one thread, or of all threads on it alone; which of the two
 * depends on shapes and threads only.  So two runs with as many threads are equal, and runs with
 * other numbers of threads agree to what a decomposition loses: vectors are determined up to
 * k eps sigma_max / gap.  At 1536 x 1536 Gaussian the values near the bottom are about 1.5 / sqrt(k)
 * apart and sigma_max is 2 sqrt(k): 1536 * 1.1e-16 * 2 * 1536 / 1.5 = 3.5e-10 relative, so 1e-6
 * holds after the rounding to f32 (6e-8), with neighbours ten times closer than the mean. */
#include "fixture.h"

#include "adapt/init_run.h"
#include "core/threads.h"
#include "io/safetensors.h"

/* ---- the schedule ---- */

enum { MANY = 160 };
#define GIB ((size_t)1 << 30)
static struct init_job jobs[MANY];

static void equal_jobs(size_t n, double cost, size_t bytes) {
    for (size_t i = 0; i < n; i++)
        jobs[i] = (struct init_job){.position = i, .cost = cost, .bytes = bytes};
}

static void side_by_side_is_the_rule(void **state) {
    (void)state;
    equal_jobs(MANY, 7e10, GIB / 4);
    assert_int_equal(init_schedule(jobs, MANY, 2, GIB), 0);
    assert_int_equal(init_schedule(jobs, MANY, 1, GIB), 0);
    assert_int_equal(init_schedule(jobs, MANY, 4, GIB), 0);
    for (size_t i = 0; i < MANY; i++) assert_int_equal(jobs[i].position, i); /* canonical order */
    /* Four fit at once: 16 threads are better off together (0.7 * 16 > 4). */
    assert_int_equal(init_schedule(jobs, MANY, 16, GIB), MANY);
    /* Five on four threads: the fifth would take as long as the four before it. */
    assert_int_equal(init_schedule(jobs, 5, 4, 2 * GIB), 1);
    assert_int_equal(init_schedule(jobs, 1, 2, GIB), 1);
    assert_int_equal(init_schedule(jobs, 0, 2, GIB), 0);
    equal_jobs(3, 1e9, GIB / 4); /* small: never alone */
    assert_int_equal(init_schedule(jobs, 3, 16, GIB), 0);
    assert_int_equal(init_schedule(jobs, 1, 2, GIB), 0);
}

static void what_does_not_fit_goes_alone(void **state) {
    (void)state;
    for (size_t i = 0; i < MANY; i++)
        jobs[i] = (struct init_job){
            .position = i, .cost = i % 5 < 3 ? 7e10 : 1.8e11, .bytes = i % 5 < 3 ? GIB / 4 : GIB};
    assert_int_equal(init_schedule(jobs, MANY, 2, GIB), 64);
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(jobs[i].alone, i < 64);
        assert_true(i == 0 || jobs[i].cost <= jobs[i - 1].cost);
        assert_true(i == 0 || jobs[i].cost < jobs[i - 1].cost ||
                    jobs[i].position > jobs[i - 1].position);
    }
    /* One thread: nothing to choose; more threads than the table holds: nothing breaks. */
    init_schedule(jobs, MANY, 1, GIB);
    init_schedule(jobs, MANY, 100000, GIB);
}

static void the_budget_counts_the_factors(void **state) {
    (void)state;
    assert_true(init_budget(0) + GIB / 8 == 3 * GIB / 2);
    assert_true(init_budget(GIB / 2) + GIB / 2 == init_budget(0));
    assert_true(init_budget(100 * (uint64_t)GIB) == GIB / 2);
    assert_true(init_shared_speed(1) == 1 && init_shared_speed(2) > 1);
}

/* ---- the small base: order of rows, cache, stop ---- */

struct seen {
    size_t n, cached, stop_after;
    bool positions[16];
    struct adapter *a;
};

static void see(void *ctx, const struct adapter_init_event *e) {
    struct seen *s = ctx;
    assert_true(e->index == s->n && e->total == 10 && e->position < 10);
    assert_false(s->positions[e->position]);
    s->positions[e->position] = true;
    s->n++;
    s->cached += e->init->cached;
    assert_int_equal(strcmp(e->init->served_by, "cache") == 0, e->init->cached);
    assert_true(e->left >= 0 || e->init->cached);
    if (s->n == e->total && !e->init->cached) assert_true(e->left == 0);
}

static bool enough(void *ctx) {
    const struct seen *s = ctx;
    return s->stop_after && s->n >= s->stop_after;
}

static struct svd_cache *cache_in(const char *dir) {
    struct svd_cache_options o = {.dir = dir};
    struct svd_cache *c;
    assert_ok(svd_cache_open(&o, &c, &err));
    return c;
}

static struct adapter *run(const struct checkpoint *base, const char *method, int64_t r,
                           const char *dir, struct seen *seen) {
    struct adapter_options o = options_of(method, r);
    struct adapter *a;
    *seen = (struct seen){0};
    struct adapter_init_hooks hooks = {.progress = see, .stop = enough, .ctx = seen};
    if (dir) hooks.cache = cache_in(dir);
    assert_ok(adapter_init_with(base, &o, &hooks, &a, &err));
    assert_int_equal(seen->n, 10);
    svd_cache_free(&hooks.cache);
    return a;
}

static void assert_same(const struct adapter *a, const struct adapter *b) {
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        const struct delta *d = &a->deltas[i], *e = &b->deltas[i];
        assert_true(d->layer == e->layer && d->module == e->module);
        assert_memory_equal(d->a0, e->a0, (size_t)(d->r * d->n) * sizeof(float));
        assert_memory_equal(d->b0, e->b0, (size_t)(d->r * d->m) * sizeof(float));
        for (int64_t j = 0; j < d->r * d->n; j++) assert_true(d->da[j] == 0);
        for (int64_t j = 0; j < d->r * d->m; j++) assert_true(d->db[j] == 0);
    }
}

static void methods_and_ranks_share(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    char dir[600];
    struct seen seen;
    snprintf(dir, sizeof dir, "%s/cache", test_tmp_dir());
    static const char *const methods[] = {"milora", "pissa", "mid", "random"};
    for (size_t i = 0; i < 4; i++) {
        struct adapter *plain = run(base, methods[i], 4, NULL, &seen);
        for (int round = 0; round < 2; round++) {
            struct adapter *a = run(base, methods[i], 4, dir, &seen);
            assert_int_equal(seen.cached, round ? 10 : 0);
            assert_same(a, plain);
            adapter_free(&a);
        }
        struct adapter *smaller = run(base, methods[i], 3, dir, &seen);
        assert_int_equal(seen.cached, i < 2 ? 10 : 0);
        adapter_free(&smaller);
        adapter_free(&plain);
    }
    checkpoint_free(&base);
}

static void a_stop_keeps_what_is_done(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    char dir[600], message[64];
    struct seen seen = {.stop_after = 3}, again;
    struct adapter *a;
    snprintf(dir, sizeof dir, "%s/cache", test_tmp_dir());
    struct adapter_init_hooks hooks = {
        .progress = see, .stop = enough, .ctx = &seen, .cache = cache_in(dir)};
    assert_fails(adapter_init_with(base, &o, &hooks, &a, &err), MIL_INTERRUPTED,
                 "stopped on request after");
    svd_cache_free(&hooks.cache);
    snprintf(message, sizeof message, "after %zu of 10 modules", seen.n);
    assert_non_null(strstr(err.message, message));
    /* Those in flight were finished: at most one a thread beyond the request. */
    assert_true(seen.n >= 3 && seen.n < 3 + (size_t)threads_count());
    struct adapter *whole = run(base, "milora", 4, NULL, &again);
    a = run(base, "milora", 4, dir, &again);
    assert_int_equal(again.cached, seen.n);
    assert_same(a, whole);
    adapter_free(&a);
    adapter_free(&whole);
    checkpoint_free(&base);
}

/* Whatever request for memory fails: an error or a whole adapter. */
static void without_memory(void **state) {
    (void)state;
    struct checkpoint *base = open_base();
    struct adapter_options o = options_of("milora", 4);
    enum mil_status st = MIL_NOMEM;
    threads_set(1);
    for (long n = 0; n < 2000 && st != MIL_OK; n += 1 + n / 16) {
        struct adapter *a = NULL;
        mem_fail_after(n);
        st = adapter_init(base, &o, NULL, NULL, &a, &err);
        mem_fail_after(-1);
        assert_true(st == MIL_OK || st == MIL_NOMEM);
        assert_int_equal(a != NULL, st == MIL_OK);
        adapter_free(&a);
    }
    threads_set(0);
    assert_int_equal(st, MIL_OK);
    checkpoint_free(&base);
}

/* ---- one matrix large enough for all threads ---- */

enum { WIDTH = 1536, HEAD = 128, FFN = 64, VOCAB = 32, WEIGHTS = 12 };

static void write_weights(const char *path) {
    static const struct st_decl decls[WEIGHTS] = {
        {"model.embed_tokens.weight", DT_BF16, 2, {VOCAB, WIDTH}},
        {"model.norm.weight", DT_BF16, 1, {WIDTH}},
        {"lm_head.weight", DT_BF16, 2, {VOCAB, WIDTH}},
        {"model.layers.0.input_layernorm.weight", DT_BF16, 1, {WIDTH}},
        {"model.layers.0.post_attention_layernorm.weight", DT_BF16, 1, {WIDTH}},
        {"model.layers.0.self_attn.q_proj.weight", DT_BF16, 2, {WIDTH, WIDTH}},
        {"model.layers.0.self_attn.k_proj.weight", DT_BF16, 2, {HEAD, WIDTH}},
        {"model.layers.0.self_attn.v_proj.weight", DT_BF16, 2, {HEAD, WIDTH}},
        {"model.layers.0.self_attn.o_proj.weight", DT_BF16, 2, {WIDTH, WIDTH}},
        {"model.layers.0.mlp.gate_proj.weight", DT_BF16, 2, {FFN, WIDTH}},
        {"model.layers.0.mlp.up_proj.weight", DT_BF16, 2, {FFN, WIDTH}},
        {"model.layers.0.mlp.down_proj.weight", DT_BF16, 2, {WIDTH, FFN}}};
    struct st_writer *w;
    bf16 *row = mem_alloc(MEM_OTHER, WIDTH, sizeof *row);
    assert_ok(st_writer_new(path, NULL, decls, WEIGHTS, &w, &err));
    for (uint32_t t = 0; t < WEIGHTS; t++) {
        int64_t rows = decls[t].ndim == 2 ? decls[t].shape[0] : 1;
        int64_t cols = decls[t].shape[decls[t].ndim - 1];
        for (int64_t i = 0; i < rows; i++) {
            for (int64_t j = 0; j < cols; j++)
                row[j] = bf16_from_f32((float)normal(t, i * cols + j));
            assert_ok(st_writer_put(w, row, (size_t)cols * sizeof *row, &err));
        }
    }
    assert_ok(st_writer_commit(&w, &err));
    mem_free(row);
}

static struct checkpoint *open_wide(void) {
    static const char config[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_act\": "
        "\"silu\", \"vocab_size\": 32, \"hidden_size\": 1536, \"intermediate_size\": 64, "
        "\"num_hidden_layers\": 1, \"num_attention_heads\": 12, \"num_key_value_heads\": 1, "
        "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, "
        "\"tie_word_embeddings\": false, \"torch_dtype\": \"bfloat16\"}";
    char dir[512], path[600];
    struct checkpoint *c;
    snprintf(dir, sizeof dir, "%s", test_tmp_dir());
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_ok(file_write(path, config, sizeof config - 1, &err));
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    write_weights(path);
    assert_ok(checkpoint_open(dir, CHECKPOINT_WEIGHTS, &c, &err));
    assert_ok(dir_remove(dir, &err)); /* what is mapped stays */
    return c;
}

static void assert_close(const float *x, const float *y, int64_t n) {
    float largest = 0;
    for (int64_t i = 0; i < n; i++) largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    for (int64_t i = 0; i < n; i++) assert_true(fabsf(x[i] - y[i]) <= 1e-6f * largest);
}

static void threads_agree(void **state) {
    (void)state;
    static const char *const targets[] = {"q_proj"};
    struct checkpoint *base = open_wide();
    struct adapter_options o = {.method = "milora", .r = 8, .targets = targets, .n_targets = 1};
    struct adapter *a[3];
    for (int t = 0; t < 3; t++) {
        threads_set(t == 0 ? 1 : 2);
        a[t] = make_adapter(base, &o, 0);
    }
    threads_set(0);
    assert_same(a[1], a[2]);
    assert_close(a[0]->deltas[0].a0, a[1]->deltas[0].a0, 8 * WIDTH);
    assert_close(a[0]->deltas[0].b0, a[1]->deltas[0].b0, 8 * WIDTH);
    for (int t = 0; t < 3; t++) adapter_free(&a[t]);
    checkpoint_free(&base);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(side_by_side_is_the_rule),
        cmocka_unit_test(what_does_not_fit_goes_alone),
        cmocka_unit_test(the_budget_counts_the_factors),
        cmocka_unit_test(methods_and_ranks_share),
        cmocka_unit_test(a_stop_keeps_what_is_done),
        cmocka_unit_test(without_memory),
        cmocka_unit_test(threads_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
