/* SPDX-License-Identifier: Apache-2.0 */
/* test_synth.c - made-up weights (tools/synth): the same bits however they are made, the shapes of
 * the models they stand for, and spectra like those of trained weights.
 *
 * Tolerance of the spectra: the means of nine made-up layers lie within a factor of 1.25 of the
 * real means at the places tested, one layer within 1.35 of the mean of its kind (weights.c), so
 * one made-up layer must lie within 2 > 1.25 * 1.35 of the real mean.  Normal numbers without gains
 * and head fail this for q, k and o: a square one has 0.08 at 0.9 k where q has 0.018. */
#include "check.h"

#include <math.h>

#include "core/mem.h"
#include "core/threads.h"
#include "linalg/svd.h"
#include "synth/weights.h"

static struct mil_error err;

static bf16 *make(const struct synth_spec *s) {
    bf16 *w = mem_alloc(MEM_OTHER, (size_t)(s->m * s->n), sizeof *w);
    assert_ok(synth_weight(s, w, &err));
    return w;
}

struct inside {
    const struct synth_spec *spec;
    bf16 *out[2];
    struct mil_error err[2];
};

static void make_inside(void *ctx, int64_t begin, int64_t end) {
    struct inside *c = ctx;
    for (int64_t i = begin; i < end; i++) synth_weight(c->spec, c->out[i], &c->err[i]);
}

/* One thread, several, and one matrix a thread; shapes around the block sizes 64 and 512. */
static void test_same_bits(void **state) {
    (void)state;
    static const int64_t shapes[][2] = {{1, 1},   {1, 200},  {200, 1},   {63, 64},   {64, 65},
                                        {65, 63}, {130, 70}, {200, 576}, {192, 1100}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        struct synth_spec s = {(enum synth_kind)(i % SYNTH_KINDS), shapes[i][0], shapes[i][1],
                               (int)i, 7};
        size_t bytes = (size_t)(s.m * s.n) * sizeof(bf16);
        threads_set(1);
        bf16 *one = make(&s);
        threads_set(3);
        bf16 *three = make(&s);
        struct inside c = {&s, {make(&s), make(&s)}, {{0}}};
        memset(c.out[0], 0xff, bytes);
        memset(c.out[1], 0xff, bytes);
        parallel_for(2, 1, make_inside, &c);
        assert_memory_equal(one, three, bytes);
        assert_memory_equal(one, c.out[0], bytes);
        assert_memory_equal(one, c.out[1], bytes);
        for (int64_t j = 0; j < s.m * s.n; j++) assert_true(isfinite(bf16_to_f32(one[j])));
        mem_free(one);
        mem_free(three);
        mem_free(c.out[0]);
        mem_free(c.out[1]);
    }
    threads_set(0);
}

/* Kind, layer and seed each give other numbers: unrelated ones agree in sign half of the time, so
 * of 4096 signs 2048 +- 6 * 32 do. */
static void test_other_numbers(void **state) {
    (void)state;
    static const struct synth_spec specs[] = {{SYNTH_Q, 64, 64, 1, 7},
                                              {SYNTH_K, 64, 64, 1, 7},
                                              {SYNTH_Q, 64, 64, 2, 7},
                                              {SYNTH_Q, 64, 64, 1, 8},
                                              {SYNTH_Q, 64, 64, 1, 7 + (1ull << 32)}};
    bf16 *first = make(&specs[0]);
    for (size_t i = 1; i < sizeof specs / sizeof *specs; i++) {
        bf16 *w = make(&specs[i]);
        int same = 0;
        for (int j = 0; j < 4096; j++) same += (w[j] & 0x8000) == (first[j] & 0x8000);
        assert_in_range(same, 2048 - 192, 2048 + 192);
        mem_free(w);
    }
    mem_free(first);
}

static void test_spectra(void **state) {
    (void)state;
    /* SmolLM2-135M, means over layers 2 to 28: values at 8, 32, k/4, k/2, 3k/4, 0.9k, k-8 over the
     * largest. */
    static const double real[SYNTH_KINDS][7] = {
        [SYNTH_Q] = {.709, .542, .279, .136, .0521, .0180, .0021},
        [SYNTH_K] = {.626, .481, .416, .273, .157, .0901, .0636},
        [SYNTH_V] = {.884, .773, .715, .564, .408, .305, .251},
        [SYNTH_O] = {.731, .617, .371, .183, .0725, .0264, .0033},
        [SYNTH_GATE] = {.627, .520, .380, .278, .193, .142, .0879},
        [SYNTH_UP] = {.711, .649, .507, .380, .269, .200, .131},
        [SYNTH_DOWN] = {.591, .516, .393, .292, .205, .150, .0999},
    };
    const struct synth_model *model;
    assert_ok(synth_model_find("smollm2-135m", &model, &err));
    for (int kind = 0; kind < SYNTH_KINDS; kind++) {
        struct synth_spec s = {.kind = (enum synth_kind)kind, .layer = 15, .seed = 1};
        synth_module_shape(model, s.kind, &s.m, &s.n);
        int64_t k = s.m < s.n ? s.m : s.n;
        int64_t at[7] = {8, 32, k / 4, k / 2, 3 * k / 4, 9 * k / 10, k - 8};
        bf16 *w = make(&s);
        double *sigma = mem_alloc(MEM_OTHER, (size_t)k, sizeof *sigma);
        assert_ok(svd_values(&(struct svd_matrix){w, DT_BF16, s.m, s.n}, sigma, &err));
        for (int i = 0; i < 7; i++) {
            double ratio = sigma[at[i]] / sigma[0] / real[kind][i];
            if (!(ratio > 0.5 && ratio < 2))
                fail_msg("%s: value %lld is %g of the largest, real ones %g",
                         synth_kind_name(s.kind), (long long)at[i], sigma[at[i]] / sigma[0],
                         real[kind][i]);
        }
        mem_free(sigma);
        mem_free(w);
    }
}

/* Published numbers of parameters. */
static void test_models(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t parameters;
    } known[] = {{"smollm2-135m", 134515008},
                 {"llama2-7b", 6738415616},
                 {"llama3-8b", 8030261248},
                 {"llama3-70b", 70553706496}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        const struct synth_model *s;
        assert_ok(synth_model_find(known[i].name, &s, &err));
        int64_t layer = 2 * s->width, m, n;
        for (int kind = 0; kind < SYNTH_KINDS; kind++) {
            synth_module_shape(s, (enum synth_kind)kind, &m, &n);
            layer += m * n;
        }
        int64_t tables = (s->tied ? 1 : 2) * s->vocab * s->width;
        assert_int_equal(layer * s->layers + tables + s->width, known[i].parameters);
    }
    const struct synth_model *none;
    assert_fails(synth_model_find("llama9", &none, &err), MIL_USAGE, "llama2-7b");
}

static void test_lists(void **state) {
    (void)state;
    unsigned set;
    assert_ok(synth_kinds_parse("q,down", &set, &err));
    assert_int_equal(set, 1u << SYNTH_Q | 1u << SYNTH_DOWN);
    assert_fails(synth_kinds_parse("q,,k", &set, &err), MIL_USAGE, "'' is no module");
    assert_fails(synth_kinds_parse("", &set, &err), MIL_USAGE, "no module");
    assert_fails(synth_kinds_parse("qq", &set, &err), MIL_USAGE, "'qq'");
}

static void test_no_memory(void **state) {
    (void)state;
    struct synth_spec s = {SYNTH_Q, 64, 64, 1, 7};
    bf16 *w = make(&s);
    mem_fail_after(0);
    enum mil_status st = synth_weight(&s, w, &err);
    mem_fail_after(-1);
    assert_int_equal(st, MIL_NOMEM);
    mem_free(w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bits), cmocka_unit_test(test_other_numbers),
        cmocka_unit_test(test_spectra),   cmocka_unit_test(test_models),
        cmocka_unit_test(test_lists),     cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
