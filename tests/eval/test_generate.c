/* SPDX-License-Identifier: Apache-2.0 */
/* The scheduler over a fake decoder whose logits depend on the whole sequence: the ids of a prompt
 * are the same alone and in any batch, for greedy, sampling and beams; stops, limits, events and
 * errors are as the header says. */
#include "check.h"

#include <math.h>

#include "core/mem.h"
#include "eval/beam.h"
#include "eval/generate.h"
#include "eval/sampler.h"
#include "fake.h"

#define N 13

static int32_t prompt_ids[N][40];

/* Prompts of 1 to 37 tokens. */
static void prompts_make(struct tokens p[N]) {
    memset(p, 0, N * sizeof *p);
    for (int i = 0; i < N; i++) {
        p[i].n = (size_t)(1 + 3 * i);
        p[i].ids = prompt_ids[i];
        for (size_t t = 0; t < p[i].n; t++)
            prompt_ids[i][t] = (int32_t)((i * 5 + t * 7 + t * t) % FAKE_VOCAB);
    }
}

static struct generate_options options(void) {
    return (struct generate_options){.max_new_tokens = 20, .top_p = 1, .num_beams = 1, .seed = 7};
}

static void run_all(struct fake *f, int64_t slots, int64_t piece, const struct generate_options *o,
                    struct generated out[N]) {
    struct mil_error err;
    struct tokens p[N];
    struct decoder d = fake_decoder(f, slots, piece);
    struct generator *g = NULL;
    prompts_make(p);
    assert_ok(generator_new_over(&d, &g, &err));
    assert_ok(generate(g, p, N, o, NULL, out, &err));
    generator_free(&g);
}

static void same(const struct generated *a, const struct generated *b) {
    for (int i = 0; i < N; i++) {
        assert_int_equal(a[i].n, b[i].n);
        assert_int_equal(a[i].stopped, b[i].stopped);
        assert_memory_equal(a[i].ids, b[i].ids, a[i].n * sizeof(int32_t));
    }
}

static void batch_does_not_matter(void **state) {
    (void)state;
    for (int mode = 0; mode < 3; mode++) {
        struct generate_options o = options();
        if (mode == 1) o.temperature = 1.3, o.top_p = 0.9;
        if (mode == 2) o.num_beams = 3;
        struct fake alone = {.sharpness = 1, .end_bias = 0.5};
        struct generated want[N], got[N];
        run_all(&alone, o.num_beams, 64, &o, want);
        int stopped = 0;
        for (int i = 0; i < N; i++) stopped += want[i].stopped;
        assert_in_range(stopped, 2, N - 1); /* both endings occur */
        for (int64_t slots = 4; slots <= FAKE_SLOTS; slots += 5) {
            for (int64_t piece = 1; piece <= 64; piece = piece * 3 + 1) {
                struct fake f = {.sharpness = 1, .end_bias = 0.5};
                run_all(&f, slots, piece, &o, got);
                same(want, got);
                generated_release(got, N);
            }
        }
        generated_release(want, N);
    }
}

/* Every slot works while prompts are left: the number of calls is near the ideal. */
static void slots_stay_full(void **state) {
    (void)state;
    struct generate_options o = options();
    struct fake f = {.sharpness = 1, .end_bias = -50};
    struct generated out[N];
    run_all(&f, 4, 64, &o, out);
    generated_release(out, N);
    assert_int_equal(f.most_seqs, 4);
    /* 13 prompts of 20 tokens on 4 slots: 4 rounds of 20 calls, and none more than a few. */
    assert_in_range(f.calls, 65, 84);
}

static void greedy_is_argmax(void **state) {
    (void)state;
    struct generate_options o = options();
    struct fake f = {.sharpness = 1};
    struct generated out[N];
    struct tokens p[N];
    struct mil_error err;
    run_all(&f, 5, 8, &o, out);
    prompts_make(p);
    for (int i = 0; i < N; i++) {
        int32_t seq[FAKE_LENGTH], id;
        int64_t n = (int64_t)p[i].n;
        memcpy(seq, p[i].ids, p[i].n * sizeof *seq);
        for (size_t t = 0; t <= out[i].n && t < 20; t++) {
            float row[FAKE_VOCAB];
            fake_logits(&f, seq, n, row);
            assert_ok(sample_greedy(row, FAKE_VOCAB, &id, &err));
            if (t == out[i].n) {
                assert_true(out[i].stopped);
                assert_int_equal(id, FAKE_END);
            } else {
                assert_int_equal(id, out[i].ids[t]);
            }
            seq[n++] = id;
        }
    }
    generated_release(out, N);
}

static void seeds(void **state) {
    (void)state;
    struct generate_options o = options();
    struct generated a[N], b[N];
    o.temperature = 1;
    struct fake f = {.sharpness = 0.5, .end_bias = -50};
    run_all(&f, 4, 8, &o, a);
    run_all(&f, 4, 8, &o, b);
    same(a, b);
    generated_release(b, N);
    o.seed++;
    run_all(&f, 4, 8, &o, b);
    int differ = 0;
    for (int i = 0; i < N; i++)
        differ += a[i].n != b[i].n || memcmp(a[i].ids, b[i].ids, a[i].n * sizeof(int32_t)) != 0;
    assert_int_equal(differ, N);
    generated_release(a, N);
    generated_release(b, N);
}

struct seen {
    int64_t tokens[N], done[N], limit;
    int stop_after;
};
static bool on_token(void *ctx, size_t prompt, int32_t id) {
    struct seen *s = ctx;
    assert_int_not_equal(id, FAKE_END);
    return ++s->tokens[prompt] < s->limit;
}
static bool on_done(void *ctx, size_t prompt, const struct generated *result) {
    struct seen *s = ctx;
    assert_int_equal(s->tokens[prompt], result->n);
    s->done[prompt]++;
    return --s->stop_after != 0;
}

static void events(void **state) {
    (void)state;
    struct mil_error err;
    struct fake f = {.sharpness = 1, .end_bias = 0.5};
    struct decoder d = fake_decoder(&f, 6, 8);
    struct generator *g = NULL;
    struct tokens p[N];
    struct generated out[N];
    struct generate_options o = options();
    prompts_make(p);
    assert_ok(generator_new_over(&d, &g, &err));
    for (int beams = 1; beams <= 2; beams++) {
        struct seen s = {.limit = beams == 1 ? 5 : 1000};
        struct generate_events e = {.token = on_token, .done = on_done, .ctx = &s};
        o.num_beams = beams;
        assert_ok(generate(g, p, N, &o, &e, out, &err));
        for (int i = 0; i < N; i++) {
            assert_int_equal(s.done[i], 1);
            if (beams == 1) assert_true(out[i].n <= 5);
        }
        generated_release(out, N);
    }
    struct seen s = {.limit = 1000, .stop_after = 3};
    struct generate_events e = {.token = on_token, .done = on_done, .ctx = &s};
    assert_fails(generate(g, p, N, &o, &e, out, &err), MIL_INTERRUPTED, "3 of 13 prompts");
    assert_null(out[0].ids);
    generator_free(&g);
}

/* A conversation: the second prompt extends the first one and its answer; only the new tokens run.
 */
static void reuse(void **state) {
    (void)state;
    struct mil_error err;
    struct fake f = {.sharpness = 1, .end_bias = -50};
    struct decoder d = fake_decoder(&f, 1, 8);
    struct generator *g = NULL;
    struct generated first, second, fresh;
    struct generate_options o = options();
    int32_t ids[FAKE_LENGTH] = {1, 2, 4, 5, 6, 7, 8, 9, 10, 11};
    struct tokens p = {.ids = ids, .n = 10};
    o.reuse = true;
    assert_ok(generator_new_over(&d, &g, &err));
    assert_ok(generate(g, &p, 1, &o, NULL, &first, &err));
    assert_int_equal(generator_held(g), 29); /* the last token was never run */
    memcpy(ids + 10, first.ids, first.n * sizeof *ids);
    ids[30] = 12;
    ids[31] = 13;
    p.n = 32;
    f.tokens = 0;
    assert_ok(generate(g, &p, 1, &o, NULL, &second, &err));
    assert_int_equal(f.tokens, 3 + 19);
    ids[12] = (ids[12] + 1) % FAKE_VOCAB; /* a changed past is run anew from there */
    generated_release(&second, 1);
    f.tokens = 0;
    assert_ok(generate(g, &p, 1, &o, NULL, &second, &err));
    assert_int_equal(f.tokens, 32 - 12 + 19);
    o.reuse = false;
    assert_ok(generate(g, &p, 1, &o, NULL, &fresh, &err));
    assert_int_equal(fresh.n, second.n);
    assert_memory_equal(fresh.ids, second.ids, fresh.n * sizeof *ids);
    generated_release(&first, 1);
    generated_release(&second, 1);
    generated_release(&fresh, 1);
    generator_free(&g);
}

/* Prompts that begin alike, and one that comes back: what some slot holds is not run again, and each
 * ends as it would alone. */
static void shared_beginnings_run_once(void **state) {
    (void)state;
    struct mil_error err;
    struct generate_options o = options();
    enum { PROMPTS = 9, SHARED = 10, OWN = 3, SLOTS = 2 };
    static int32_t ids[PROMPTS][SHARED + OWN];
    struct tokens p[PROMPTS];
    struct generated plain[PROMPTS], reused[PROMPTS], *const out[2] = {plain, reused};
    int64_t ran[2];
    for (int i = 0; i < PROMPTS; i++) {
        p[i] = (struct tokens){.ids = ids[i], .n = SHARED + OWN};
        for (int t = 0; t < SHARED + OWN; t++)
            ids[i][t] = (int32_t)((t < SHARED ? t : t * 3 + 5 * (i < PROMPTS - 1 ? i : i - 1) + 1) %
                                  FAKE_VOCAB);
    }
    for (int turn = 0; turn < 2; turn++) {
        struct fake f = {.sharpness = 1, .end_bias = 0.5};
        struct decoder d = fake_decoder(&f, SLOTS, 8);
        struct generator *g = NULL;
        o.reuse = turn == 1;
        assert_ok(generator_new_over(&d, &g, &err));
        assert_ok(generate(g, p, PROMPTS, &o, NULL, out[turn], &err));
        generator_free(&g);
        ran[turn] = f.tokens;
    }
    /* The last two are one: but for its last token the second is copied from the other slot. */
    assert_int_equal(ran[0] - ran[1], (PROMPTS - SLOTS) * SHARED + OWN - 1);
    for (int i = 0; i < PROMPTS; i++) {
        assert_int_equal(plain[i].n, reused[i].n);
        assert_memory_equal(plain[i].ids, reused[i].ids, plain[i].n * sizeof(int32_t));
    }
    generated_release(plain, PROMPTS);
    generated_release(reused, PROMPTS);
}

static void errors(void **state) {
    (void)state;
    struct mil_error err;
    struct fake f = {.sharpness = 1};
    struct decoder d = fake_decoder(&f, 4, 8);
    struct generator *g = NULL;
    struct generated out[2];
    static int32_t ids[FAKE_LENGTH + 1] = {1, 2, 4};
    struct tokens p[2] = {{.ids = ids, .n = 3}, {.ids = ids, .n = 0}};
    struct generate_options o = options();
    assert_ok(generator_new_over(&d, &g, &err));
    assert_fails(generate(g, p, 2, &o, NULL, out, &err), MIL_INPUT, "prompt 2 has no tokens");
    p[1].n = FAKE_LENGTH;
    assert_fails(generate(g, p, 2, &o, NULL, out, &err), MIL_INPUT,
                 "prompt 2 has 96 tokens; a context of 96");
    ids[2] = FAKE_VOCAB;
    assert_fails(generate(g, p, 1, &o, NULL, out, &err), MIL_INPUT, "token 3 is id 17");
    ids[2] = 4;
    o.num_beams = 5;
    assert_fails(generate(g, p, 1, &o, NULL, out, &err), MIL_USAGE, "num_beams is 5");
    o.num_beams = 2;
    o.temperature = 1;
    assert_fails(generate(g, p, 1, &o, NULL, out, &err), MIL_USAGE, "does not sample");
    o = options();
    o.top_p = 0;
    assert_fails(generate(g, p, 1, &o, NULL, out, &err), MIL_USAGE, "top_p is 0");
    o = options();
    o.temperature = NAN;
    assert_fails(generate(g, p, 1, &o, NULL, out, &err), MIL_USAGE, "temperature is");
    o = options();
    o.max_new_tokens = 0;
    assert_fails(generate(g, p, 1, &o, NULL, out, &err), MIL_USAGE, "max_new_tokens is 0");
    o = options();
    f.nan_at_length_9 = true;
    f.end_bias = -50;
    assert_fails(generate(g, p, 1, &o, NULL, out, &err), MIL_NUMERIC, "prompt 1: the logit of");
    assert_null(out[0].ids);
    generator_free(&g);
}

/* The limit of the cache cuts what max_new_tokens allows; other stop tokens count as well. */
static void room_and_stops(void **state) {
    (void)state;
    struct mil_error err;
    struct fake f = {.sharpness = 1, .end_bias = -50};
    struct decoder d = fake_decoder(&f, 2, 8);
    struct generator *g = NULL;
    struct generated out, again;
    static int32_t ids[FAKE_LENGTH] = {1, 2, 4};
    struct tokens p = {.ids = ids, .n = FAKE_LENGTH - 6};
    struct generate_options o = options();
    assert_ok(generator_new_over(&d, &g, &err));
    for (o.num_beams = 1; o.num_beams <= 2; o.num_beams++) {
        assert_ok(generate(g, &p, 1, &o, NULL, &out, &err));
        assert_int_equal(out.n, 6);
        assert_false(out.stopped);
        generated_release(&out, 1);
    }
    o.num_beams = 1;
    assert_ok(generate(g, &p, 1, &o, NULL, &out, &err));
    int32_t stop[2] = {16, out.ids[3]};
    size_t first = 0;
    while (out.ids[first] != stop[1]) first++;
    o.stop = stop;
    o.n_stop = 2;
    assert_ok(generate(g, &p, 1, &o, NULL, &again, &err));
    assert_true(again.stopped && again.n <= first);
    generated_release(&out, 1);
    generated_release(&again, 1);
    generator_free(&g);
}

/* Fail the n-th allocation for n = 0, 1, ... until all succeed: a clean error every time. */
static void out_of_memory(void **state) {
    (void)state;
    struct mil_error err;
    struct tokens p[N];
    struct generated out[N];
    struct generate_options o = options();
    o.num_beams = 2;
    prompts_make(p);
    enum mil_status st = MIL_NOMEM;
    for (long n = 0; st != MIL_OK; n++) {
        struct fake f = {.sharpness = 1};
        struct decoder d = fake_decoder(&f, 4, 8);
        struct generator *g = NULL;
        mem_fail_after(n);
        st = generator_new_over(&d, &g, &err);
        if (st == MIL_OK) st = generate(g, p, 3, &o, NULL, out, &err);
        mem_fail_after(-1);
        assert_true(st == MIL_OK || st == MIL_NOMEM);
        if (st == MIL_OK) generated_release(out, 3);
        generator_free(&g);
        assert_true(n < 200);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(batch_does_not_matter),
                                       cmocka_unit_test(slots_stay_full),
                                       cmocka_unit_test(greedy_is_argmax),
                                       cmocka_unit_test(seeds),
                                       cmocka_unit_test(events),
                                       cmocka_unit_test(reuse),
                                       cmocka_unit_test(shared_beginnings_run_once),
                                       cmocka_unit_test(errors),
                                       cmocka_unit_test(room_and_stops),
                                       cmocka_unit_test(out_of_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
