/* SPDX-License-Identifier: Apache-2.0 */
/* Sorting a step's samples into micro-batches, against the definition of first-fit decreasing. */
#include "fixture.h"

#include "core/rng.h"
#include "train/loader.h"

enum { MOST = 600 };

/* A set of samples with these lengths; ids and labels are not looked at. */
static void make_data(struct dataset *d, const int64_t *lengths, int64_t n) {
    static int64_t begin[MOST + 1];
    *d = (struct dataset){.begin = begin, .n = n};
    for (int64_t i = 0; i < n; i++) begin[i + 1] = begin[i] + lengths[i];
}

static void assert_packed(const struct packing *p, const int64_t *sample, const int64_t *begin,
                          int64_t n) {
    assert_int_equal(p->n, n);
    assert_memory_equal(p->begin, begin, (size_t)(n + 1) * sizeof *begin);
    assert_memory_equal(p->sample, sample, (size_t)begin[n] * sizeof *sample);
}

/* Lengths 5 3 9 4 2, limit 8: 9 is longer than the limit and alone; then 5 with 3; 4 with 2. */
static void first_fit_decreasing(void **state) {
    (void)state;
    static const int64_t lengths[] = {5, 3, 9, 4, 2}, order[] = {0, 1, 2, 3, 4};
    static const int64_t by_8[] = {2, 0, 1, 3, 4}, ends_8[] = {0, 1, 3, 5};
    static const int64_t by_1[] = {2, 0, 3, 1, 4}, ends_1[] = {0, 1, 2, 3, 4, 5},
                         ends_all[] = {0, 5};
    struct mil_error err = {0};
    struct dataset d;
    struct packing p;
    make_data(&d, lengths, 5);
    assert_ok(packing_init(&p, 5, &err));
    packing_fill(&p, &d, order, 5, 8);
    assert_packed(&p, by_8, ends_8, 3);
    packing_fill(&p, &d, order, 5, 1);
    assert_packed(&p, by_1, ends_1, 5);
    packing_fill(&p, &d, order, 5, 1000);
    assert_packed(&p, by_1, ends_all, 1);
    assert_int_equal(packing_tokens(&p, &d, 0), 23);
    packing_fill(&p, &d, order + 3, 1, 8);
    assert_int_equal(p.n, 1);
    assert_int_equal(p.sample[0], 3);
    packing_release(&p);
}

/* Of equal lengths the earlier one of the step comes first. */
static void ties_keep_the_order(void **state) {
    (void)state;
    static const int64_t lengths[] = {4, 4, 4, 4}, order[] = {2, 0, 3, 1}, ends[] = {0, 2, 4};
    struct mil_error err = {0};
    struct dataset d;
    struct packing p;
    make_data(&d, lengths, 4);
    assert_ok(packing_init(&p, 4, &err));
    packing_fill(&p, &d, order, 4, 9);
    assert_packed(&p, order, ends, 2);
    packing_release(&p);
}

/* First-fit decreasing as its definition says, by looking at everything. */
static int64_t by_definition(const struct dataset *d, const int64_t *order, int64_t n,
                             int64_t limit, int64_t *sample, int64_t *begin) {
    static int64_t batch[MOST], by_length[MOST], room[MOST];
    static bool taken[MOST];
    int64_t batches = 0, at = 0;
    memset(taken, 0, sizeof taken);
    for (int64_t i = 0; i < n; i++) {
        int64_t best = -1;
        for (int64_t k = 0; k < n; k++)
            if (!taken[k] &&
                (best < 0 || sample_tokens(d, order[k]) > sample_tokens(d, order[best])))
                best = k;
        taken[best] = true;
        by_length[i] = order[best];
        int64_t tokens = sample_tokens(d, order[best]), b = 0;
        while (b < batches && room[b] < tokens) b++;
        if (b == batches) room[batches++] = limit > tokens ? limit : tokens;
        room[b] -= tokens;
        batch[i] = b;
    }
    for (int64_t b = 0; b < batches; b++) {
        begin[b] = at;
        for (int64_t i = 0; i < n; i++)
            if (batch[i] == b) sample[at++] = by_length[i];
    }
    begin[batches] = at;
    return batches;
}

/* Also with samples above the limit, with equal lengths, and after another step was packed. */
static void random_steps(void **state) {
    (void)state;
    static int64_t lengths[MOST], order[MOST], sample[MOST], begin[MOST + 1];
    struct mil_error err = {0};
    struct dataset d;
    struct packing p;
    assert_ok(packing_init(&p, MOST, &err));
    for (int64_t n = 1; n <= MOST; n = n * 3 / 2 + 1) {
        int64_t limit = 1 + n * 7 % 1000;
        for (int64_t i = 0; i < n; i++)
            lengths[i] = 1 + (int64_t)(400 * rng_uniform(3, 1, (uint32_t)n, (uint64_t)i));
        make_data(&d, lengths, n);
        rng_permutation(5, 1, (uint32_t)n, n, order);
        int64_t batches = by_definition(&d, order, n, limit, sample, begin);
        packing_fill(&p, &d, order, n, limit);
        assert_packed(&p, sample, begin, batches);
        for (int64_t b = 0; b < batches; b++)
            assert_true(begin[b + 1] - begin[b] == 1 || packing_tokens(&p, &d, b) <= limit);
        packing_fill(&p, &d, order, n / 2 + 1, 1 + limit / 2);
        packing_fill(&p, &d, order, n, limit);
        assert_packed(&p, sample, begin, batches);
    }
    packing_release(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(first_fit_decreasing),
        cmocka_unit_test(ties_keep_the_order),
        cmocka_unit_test(random_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
