/* SPDX-License-Identifier: Apache-2.0 */
/* test_step.c - what must not change the result: how sequences are put into batches, the number of
 * threads, recomputation, the head's chunk; and that plans tell the truth.
 *
 * Losses of rows are equal bit for bit, since every operation treats its rows alike.  Gradients of
 * one batch and of its sequences one after another are sums of the same T = 23 terms in another
 * order: |difference| <= 2 T u sum |terms|, u = 2^-24; relative to the largest entry of a gradient
 * of that tensor, sum |terms| is below 20 times it here: 2 * 23 * 2^-24 * 20 = 6e-5. */
#include "model/adapter.h"
#include "model/support.h"

static const double order_bound = 6e-5;
enum { ALL = (1 << MODULES) - 1 };

/* All gradients of a model after step_run, one after another, and the losses. */
struct outcome {
    double loss;
    unsigned char *bytes;
    size_t n;
};

static void outcome_release(struct outcome *r) {
    mem_free(r->bytes);
    memset(r, 0, sizeof *r);
}

static void outcome_add(struct outcome *r, struct tensor t) {
    size_t n = (size_t)(t.rows * t.cols) * dtype_size(t.dtype);
    r->bytes = mem_realloc(MEM_OTHER, r->bytes, r->n + n, 1);
    assert_non_null(r->bytes);
    memcpy(r->bytes + r->n, t.data, n);
    r->n += n;
}

static void assert_same(const char *what, const struct outcome *a, const struct outcome *b) {
    assert_int_equal(a->n, b->n);
    assert_true(a->loss == b->loss);
    for (size_t i = 0; i < a->n; i++)
        if (a->bytes[i] != b->bytes[i]) fail_msg("%s: gradients differ at byte %zu", what, i);
}

/* Gradients of the model's weights (full) or of adapters with dropout on every module. */
static struct outcome run(const struct model_config *c, enum dtype compute, bool full,
                          const struct batch *b, int64_t head_chunk, bool recompute) {
    struct mil_error err = {0};
    struct outcome r = {0};
    struct opened o = open_random(c, compute);
    struct test_adapter adapters[2][MODULES];
    struct trainable *t = full_trainable(o.full);
    if (!full) {
        freeze_weights(o.m);
        adapters_attach(o.m, adapters, ALL, ALL, 0.25);
    }
    struct step *s = open_step(o.m, head_chunk, recompute);
    assert_ok(step_run(s, b, &r.loss, &err));
    for (size_t i = 0; full && i < t->n; i++) outcome_add(&r, t->params[i].grad);
    for (int i = 0; !full && i < 2 * MODULES; i++) {
        outcome_add(&r, adapters[i / MODULES][i % MODULES].da);
        outcome_add(&r, adapters[i / MODULES][i % MODULES].db);
    }
    step_free(&s);
    if (!full) adapters_free(o.m, adapters);
    opened_close(&o);
    return r;
}

static void test_recompute(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_F32, DT_F64, DT_BF16};
    struct model_config c = wide_config();
    struct test_batch b;
    batch_random(&b, c.vocab, 3);
    for (int i = 0; i < 5; i++) {
        bool full = i >= 2; /* the test's adapter needs act == real */
        enum dtype t = types[i % 3];
        struct outcome kept = run(&c, t, full, &b.b, 4, false);
        struct outcome redone = run(&c, t, full, &b.b, 4, true);
        assert_same("recompute", &redone, &kept);
        outcome_release(&kept);
        outcome_release(&redone);
    }
}

static void test_head_chunk(void **state) {
    (void)state;
    struct model_config c = tied_config();
    struct test_batch b;
    batch_random(&b, c.vocab, 3);
    struct outcome whole = run(&c, DT_F32, false, &b.b, 64, false);
    for (int64_t chunk = 1; chunk < 8; chunk += 3) {
        struct outcome cut = run(&c, DT_F32, false, &b.b, chunk, false);
        assert_same("head_chunk", &cut, &whole);
        outcome_release(&cut);
    }
    outcome_release(&whole);
}

static void test_threads(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_F32, DT_BF16};
    struct model_config c = wide_config();
    struct test_batch b;
    batch_random(&b, c.vocab, 3);
    for (int i = 0; i < 2; i++) {
        threads_set(1);
        struct outcome one = run(&c, types[i], true, &b.b, 4, false);
        threads_set(2);
        struct outcome two = run(&c, types[i], true, &b.b, 4, false);
        threads_set(0);
        assert_same("threads", &two, &one);
        outcome_release(&one);
        outcome_release(&two);
    }
}

/* Three sequences in one batch, and each alone with the same row keys and the same scale. */
static void test_batches(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct model_config c = tied_config();
    struct test_batch all, one;
    int64_t at = 0;
    double sum = 0, part;
    float whole[TEST_MAX_TOKENS], alone[TEST_MAX_TOKENS];
    struct opened o = open_random(&c, DT_F32);
    struct test_adapter a[2][MODULES];
    freeze_weights(o.m);
    adapters_attach(o.m, a, ALL, ALL, 0.25);
    batch_random(&all, c.vocab, 3);
    struct step *s = open_step(o.m, 4, false);
    assert_ok(step_loss(s, &all.b, &sum, whole, &err));
    struct tensor zero = a[0][0].da;
    assert_true(element_of(zero, 0) == 0); /* step_loss leaves gradients alone */
    for (int64_t i = 0; i < all.b.n_seqs; i++) {
        struct attn_seq q = all.seqs[i];
        memset(&one, 0, sizeof one);
        batch_add(&one, all.ids + q.q_row, q.n_q, 2, 1000 * (uint64_t)i);
        one.b.loss_scale = all.b.loss_scale;
        assert_ok(step_loss(s, &one.b, &part, alone, &err));
        assert_memory_equal(alone, whole + at, (size_t)one.b.n_rows * sizeof *alone);
        at += one.b.n_rows;
        assert_ok(step_run(s, &one.b, &part, &err));
    }
    assert_int_equal(at, all.b.n_rows);
    struct tensor da[2 * MODULES], db[2 * MODULES];
    for (int i = 0; i < 2 * MODULES; i++) {
        struct test_adapter *p = &a[i / MODULES][i % MODULES];
        da[i] = p->da;
        da[i].data = bytes_of(p->da);
        db[i] = p->db;
        db[i].data = bytes_of(p->db);
        be_zero(backend_stream(o.b), p->da);
        be_zero(backend_stream(o.b), p->db);
    }
    assert_ok(step_run(s, &all.b, &sum, &err));
    for (int i = 0; i < 2 * MODULES; i++) {
        struct test_adapter *p = &a[i / MODULES][i % MODULES];
        assert_close(module_suffix((enum module)(i % MODULES)), p->da, da[i], order_bound);
        assert_close(module_suffix((enum module)(i % MODULES)), p->db, db[i], order_bound);
        mem_free(da[i].data);
        mem_free(db[i].data);
    }
    step_free(&s);
    adapters_free(o.m, a);
    opened_close(&o);
}

/* The input as embeddings: the rows of the table themselves give the same losses. */
static void test_embeddings_as_input(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct model_config c = wide_config();
    struct test_batch b;
    double want, got;
    struct opened o = open_random(&c, DT_F32);
    batch_random(&b, c.vocab, 2);
    struct step *s = open_step(o.m, 8, true);
    assert_ok(step_loss(s, &b.b, &want, NULL, &err));
    float rows[TEST_MAX_TOKENS * 12];
    struct tensor input = tensor_of(rows, DT_F32, b.b.tokens, c.width);
    be_gather_rows(backend_stream(o.b), input, o.m->embed, b.ids);
    b.b.ids = NULL;
    b.b.embeddings = input;
    assert_ok(step_loss(s, &b.b, &got, NULL, &err));
    assert_true(got == want);
    step_free(&s);
    opened_close(&o);
}

static void test_refused_batches(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct model_config c = wide_config();
    struct test_batch b;
    double sum;
    struct opened o = open_random(&c, DT_F32);
    struct step *s = open_step(o.m, 8, false);
    batch_random(&b, c.vocab, 1);
    b.ids[3] = (int32_t)c.vocab;
    assert_fails(step_run(s, &b.b, &sum, &err), MIL_INPUT, "token id 37");
    batch_random(&b, c.vocab, 1);
    b.position[3] = TEST_MAX_TOKENS;
    assert_fails(step_run(s, &b.b, &sum, &err), MIL_INPUT, "position 64");
    batch_random(&b, c.vocab, 1);
    b.label[0] = -1;
    assert_fails(step_run(s, &b.b, &sum, &err), MIL_INPUT, "label -1");
    memset(&b, 0, sizeof b); /* nothing at all is a batch too */
    assert_ok(step_run(s, &b.b, &sum, &err));
    assert_true(sum == 0);
    step_free(&s);
    opened_close(&o);
}

/* ---- plans ---- */

static size_t now(enum mem_category c) {
    return mem_stats(c).now;
}

static void check_step_plan(struct model *m, bool recompute) {
    struct mil_error err = {0};
    struct step_options o = {50, 20, 7, recompute};
    struct plan plan = {0};
    struct step *s = NULL;
    size_t step = now(MEM_STEP), scratch = now(MEM_SCRATCH);
    step_plan(m, &o, &plan);
    assert_int_equal(plan.status, MIL_OK);
    assert_ok(step_new(m, &o, &s, &err));
    assert_int_equal(plan_bytes(&plan, PLAN_STEP), now(MEM_STEP) - step);
    assert_int_equal(plan_bytes(&plan, PLAN_CALL), now(MEM_SCRATCH) - scratch);
    step_free(&s);
    assert_int_equal(now(MEM_STEP), step);
    plan_release(&plan);
}

static void check_infer_plan(struct model *m) {
    struct mil_error err = {0};
    struct infer_options o = {3, 40, 30, 10};
    struct plan plan = {0};
    struct infer *s = NULL;
    size_t step = now(MEM_STEP), scratch = now(MEM_SCRATCH);
    infer_plan(m, &o, &plan);
    assert_ok(infer_new(m, &o, &s, &err));
    assert_int_equal(plan_bytes(&plan, PLAN_SESSION), now(MEM_STEP) - step);
    assert_int_equal(plan_bytes(&plan, PLAN_CALL), now(MEM_SCRATCH) - scratch);
    infer_free(&s);
    assert_int_equal(now(MEM_SCRATCH), scratch);
    plan_release(&plan);
}

static void test_plans(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_F32, DT_BF16};
    struct mil_error err = {0};
    struct model_config c = wide_config();
    struct test_adapter adapters[2][MODULES];
    for (int i = 0; i < 2; i++) {
        struct plan plan = {0};
        struct backend *b;
        struct model *m;
        struct full *full;
        assert_ok(backend_open("cpu", types[i], &b, &err));
        assert_ok(model_new_fresh(&c, b, 64, 1, &m, &err));
        size_t before = now(MEM_ADAPTER) + now(MEM_WEIGHTS);
        full_plan(&c, b, &plan);
        assert_ok(full_new(m, &full, &err));
        /* The table of params is small and not the arenas'. */
        size_t table = full_trainable(full)->n * sizeof(struct param);
        assert_int_equal(plan_bytes(&plan, PLAN_SESSION) + table,
                         now(MEM_ADAPTER) + now(MEM_WEIGHTS) - before);
        plan_release(&plan);
        check_step_plan(m, false);
        check_step_plan(m, true);
        check_infer_plan(m);
        freeze_weights(m);
        adapters_attach(m, adapters, 1u << MODULE_Q, ALL, 0);
        check_step_plan(m, false);
        check_step_plan(m, true);
        check_infer_plan(m);
        adapters_free(m, adapters);
        full_free(&full);
        model_free(&m);
        backend_free(&b);
    }
}

static void assert_same_plan(const struct plan *a, const struct plan *b) {
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        assert_string_equal(a->entries[i].name, b->entries[i].name);
        assert_int_equal(a->entries[i].bytes, b->entries[i].bytes);
        assert_int_equal(a->entries[i].lifetime, b->entries[i].lifetime);
    }
}

/* What a plan of model_plan says will be allocated: all but the file's own pages. */
static size_t allocated_bytes(const struct plan *plan) {
    size_t sum = plan_bytes(plan, PLAN_SESSION);
    for (size_t i = 0; i < plan->n; i++)
        if (strstr(plan->entries[i].name, "in place")) sum -= plan->entries[i].bytes;
    return sum;
}

/* From config.json alone the same plan comes out as with the weights at hand. */
static void test_skeleton(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_F32, DT_BF16};
    struct mil_error err = {0};
    for (int i = 0; i < 2; i++) {
        struct plan plans[2] = {{0}, {0}};
        for (int with = 0; with < 2; with++) {
            struct opened o = {0};
            struct step_options so = {50, 20, 7, false};
            struct infer_options io = {3, 40, 30, 10};
            assert_ok(backend_open("cpu", types[i], &o.b, &err));
            assert_ok(checkpoint_open(TEST_DATA "/mistral",
                                      with ? CHECKPOINT_WEIGHTS : CHECKPOINT_CONFIG_ONLY, &o.c,
                                      &err));
            size_t before = now(MEM_WEIGHTS);
            assert_ok(model_new(o.c, o.b, 64, &o.m, &err));
            assert_true(tensor_present(o.m->embed) == (with == 1));
            o.m->train_all = true;
            model_plan(o.c, o.b, 64, &plans[with]);
            if (with) assert_int_equal(allocated_bytes(&plans[with]), now(MEM_WEIGHTS) - before);
            step_plan(o.m, &so, &plans[with]);
            infer_plan(o.m, &io, &plans[with]);
            assert_int_equal(plans[with].status, MIL_OK);
            opened_close(&o);
        }
        assert_same_plan(&plans[0], &plans[1]);
        plan_release(&plans[0]);
        plan_release(&plans[1]);
    }
}

/* Every allocation of opening and running, failing in turn, is a clean MIL_NOMEM. */
static void test_out_of_memory(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct step_options so = {16, 8, 4, false};
    struct infer_options io = {2, 16, 16, 4};
    enum mil_status st = MIL_NOMEM;
    struct backend *b;
    assert_ok(backend_open("cpu", DT_BF16, &b, &err));
    for (long n = 0; st != MIL_OK; n++) {
        struct checkpoint *c = NULL;
        struct model *m = NULL;
        struct full *full = NULL;
        struct step *s = NULL;
        struct infer *f = NULL;
        mem_fail_after(n);
        st = checkpoint_open(TEST_DATA "/qwen2", CHECKPOINT_WEIGHTS, &c, &err);
        if (st == MIL_OK) st = model_new(c, b, 16, &m, &err);
        if (st == MIL_OK) st = full_new(m, &full, &err);
        if (st == MIL_OK) st = step_new(m, &so, &s, &err);
        if (st == MIL_OK) st = infer_new(m, &io, &f, &err);
        mem_fail_after(-1);
        infer_free(&f);
        step_free(&s);
        full_free(&full);
        model_free(&m);
        checkpoint_free(&c);
        if (st != MIL_OK && st != MIL_NOMEM) fail_msg("allocation %ld: %s", n, err.message);
        assert_true(n < 100000);
    }
    backend_free(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_recompute),
                                       cmocka_unit_test(test_head_chunk),
                                       cmocka_unit_test(test_threads),
                                       cmocka_unit_test(test_batches),
                                       cmocka_unit_test(test_embeddings_as_input),
                                       cmocka_unit_test(test_refused_batches),
                                       cmocka_unit_test(test_plans),
                                       cmocka_unit_test(test_skeleton),
                                       cmocka_unit_test(test_out_of_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
