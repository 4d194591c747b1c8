/* SPDX-License-Identifier: Apache-2.0 */
/* test_infer.c - generation's view of the model: whatever the cut of a text into calls and whatever
 * else runs beside it, its logits have the same bits; and they are the training pass's.
 *
 * The training pass's losses against log sum exp - logit of inference's logits, recomputed in f64:
 * both work in f32 on V = 37 terms of size below 30: |difference| <= (V + 30) 2^-24 * 2 = 8e-6. */
#include "model/support.h"

enum { LENGTH = 20, SLOTS = 3 };

struct cached {
    struct opened o;
    struct infer *s;
    int64_t vocab;
};

static struct cached cached_open(const struct model_config *c, enum dtype compute) {
    struct mil_error err = {0};
    struct cached r = {.o = open_random(c, compute), .vocab = c->vocab};
    struct infer_options o = {SLOTS, LENGTH, 2 * LENGTH, 2 * LENGTH};
    assert_ok(infer_new(r.o.m, &o, &r.s, &err));
    return r;
}

static void cached_close(struct cached *r) {
    infer_free(&r->s);
    opened_close(&r->o);
}

/* All rows of one sequence's piece. */
static void run_piece(struct cached *r, int32_t slot, const int32_t *ids, int64_t past, int64_t n,
                      float *logits) {
    struct mil_error err = {0};
    struct infer_call call = {ids, &slot, &past, &n, 1, true, logits};
    assert_ok(infer_run(r->s, &call, &err));
}

static void check_cuts(const struct model_config *c, enum dtype compute) {
    static const int64_t cuts[][4] = {{1, 1, 1, LENGTH - 3}, {7, 1, 4, LENGTH - 12}, {13, 5, 1, 1}};
    struct cached r = cached_open(c, compute);
    int32_t ids[LENGTH];
    size_t row = (size_t)c->vocab * sizeof(float);
    float *whole = mem_alloc(MEM_OTHER, LENGTH, row), *cut = mem_alloc(MEM_OTHER, LENGTH, row);
    random_ids(ids, LENGTH, c->vocab, 70);
    run_piece(&r, 0, ids, 0, LENGTH, whole);
    for (int i = 0; i < 3; i++) {
        int64_t past = 0;
        for (int k = 0; k < 4; past += cuts[i][k++])
            run_piece(&r, 1, ids + past, past, cuts[i][k], cut + past * c->vocab);
        assert_int_equal(past, LENGTH);
        assert_memory_equal(cut, whole, LENGTH * row);
    }
    mem_free(whole);
    mem_free(cut);
    cached_close(&r);
}

static void test_cuts(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_F64, DT_F32, DT_BF16};
    struct model_config wide = wide_config(), tied = tied_config();
    for (int i = 0; i < 3; i++) {
        check_cuts(&wide, types[i]);
        check_cuts(&tied, types[i]); /* with a window of 3 */
    }
}

/* Two prompts and a one-token step of a third sequence in one call; last rows only. */
static void check_company(const struct model_config *c, enum dtype compute) {
    struct mil_error err = {0};
    struct cached r = cached_open(c, compute);
    int32_t a[11], b[7], d[6], all[11 + 7 + 1];
    size_t row = (size_t)c->vocab * sizeof(float);
    float *alone = mem_alloc(MEM_OTHER, 24, row), *together = mem_alloc(MEM_OTHER, 5, row);
    random_ids(a, 11, c->vocab, 71);
    random_ids(b, 7, c->vocab, 72);
    random_ids(d, 6, c->vocab, 73);
    run_piece(&r, 0, a, 0, 11, alone);
    run_piece(&r, 0, b, 0, 7, alone + 11 * c->vocab);
    run_piece(&r, 0, d, 0, 6, alone + 18 * c->vocab);
    memcpy(all, a, sizeof a);
    memcpy(all + 11, b, sizeof b);
    all[18] = d[5];
    int32_t slot[] = {2, 0, 1};
    int64_t past[] = {0, 0, 5}, n[] = {11, 7, 1};
    run_piece(&r, 1, d, 0, 5, together);
    struct infer_call call = {all, slot, past, n, 3, false, together};
    assert_ok(infer_run(r.s, &call, &err));
    assert_memory_equal(together, alone + 10 * c->vocab, row);
    assert_memory_equal(together + c->vocab, alone + 17 * c->vocab, row);
    assert_memory_equal(together + 2 * c->vocab, alone + 23 * c->vocab, row);

    /* A copied slot goes on like the original. */
    infer_copy_slot(r.s, 2, 1, 8);
    run_piece(&r, 1, a + 8, 8, 3, together);
    assert_memory_equal(together, alone + 8 * c->vocab, 3 * row);
    mem_free(alone);
    mem_free(together);
    cached_close(&r);
}

static void test_company(void **state) {
    (void)state;
    static const enum dtype types[] = {DT_F64, DT_F32, DT_BF16};
    struct model_config wide = wide_config(), tied = tied_config();
    for (int i = 0; i < 3; i++) {
        check_company(&wide, types[i]);
        check_company(&tied, types[i]);
    }
}

static void test_training_agrees(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct model_config c = wide_config();
    struct cached r = cached_open(&c, DT_F32);
    struct test_batch b;
    float losses[TEST_MAX_TOKENS], logits[LENGTH * 40];
    double sum, again = 0;
    batch_random(&b, c.vocab, 2);
    struct step *s = open_step(r.o.m, 4, false);
    assert_ok(step_loss(s, &b.b, &sum, losses, &err));
    for (int64_t q = 0; q < b.b.n_seqs; q++) {
        run_piece(&r, 0, b.ids + b.seqs[q].q_row, 0, b.seqs[q].n_q, logits);
        for (int64_t i = 0; i < b.b.n_rows; i++) {
            int64_t at = b.row[i] - b.seqs[q].q_row;
            double z = 0;
            if (at < 0 || at >= b.seqs[q].n_q) continue;
            for (int64_t v = 0; v < c.vocab; v++) z += exp((double)logits[at * c.vocab + v]);
            double want = log(z) - (double)logits[at * c.vocab + b.label[i]];
            if (!(fabs((double)losses[i] - want) <= 8e-6))
                fail_msg("row %lld: loss %.8g, from logits %.8g", (long long)i, (double)losses[i],
                         want);
            again += (double)losses[i];
        }
    }
    assert_true(again == sum); /* row order, in double */
    step_free(&s);
    cached_close(&r);
}

static void test_refusals(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct model_config c = wide_config();
    struct cached r = cached_open(&c, DT_F32);
    struct infer_options o = {1, TEST_MAX_TOKENS + 1, 8, 8};
    struct infer *s = NULL;
    float logits[40];
    int32_t id = 37, slot = 0;
    int64_t past = 0, n = 1;
    struct infer_call call = {&id, &slot, &past, &n, 1, false, logits};
    assert_fails(infer_run(r.s, &call, &err), MIL_INPUT, "token id 37");
    assert_fails(infer_new(r.o.m, &o, &s, &err), MIL_USAGE, "65 tokens");
    o = (struct infer_options){INT32_MAX, 64, 8, 8};
    assert_fails(infer_new(r.o.m, &o, &s, &err), MIL_USAGE, "too many");
    cached_close(&r);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cuts), cmocka_unit_test(test_company),
                                       cmocka_unit_test(test_training_agrees),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
