/* SPDX-License-Identifier: Apache-2.0 */
/* Philox against the known-answer vectors that its authors publish with Random123 (kat_vectors,
 * philox4x32 10), and what the derived streams promise. */
#include "check.h"

#include <math.h>

#include "core/rng.h"

static void philox_gives_the_published_vectors(void **state) {
    (void)state;
    static const struct {
        struct rng_words counter;
        uint32_t key[2];
        struct rng_words want;
    } table[] = {
        {{{0, 0, 0, 0}}, {0, 0}, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}},
        {{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}},
         {0xffffffff, 0xffffffff},
         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}},
        {{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}},
         {0xa4093822, 0x299f31d0},
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct rng_words got = philox4x32_10(table[i].counter, table[i].key[0], table[i].key[1]);
        assert_memory_equal(&got, &table[i].want, sizeof got);
    }
}

/* Seed, stream, step and element are the key and the counter of the bijection: each one matters. */
static void every_argument_enters_the_words(void **state) {
    (void)state;
    struct rng_words base = rng_words(1, 2, 3, 4),
                     others[] = {rng_words(2, 2, 3, 4), rng_words(1ull << 32 | 1, 2, 3, 4),
                                 rng_words(1, 3, 3, 4), rng_words(1, 2, 4, 4),
                                 rng_words(1, 2, 3, 5), rng_words(1, 2, 3, 1ull << 32 | 4)};
    struct rng_words same = rng_words(1, 2, 3, 4);
    assert_memory_equal(&base, &same, sizeof base);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_memory_not_equal(&base, &others[i], sizeof base);
    assert_true(rng_stream(RNG_DROPOUT, 5) != rng_stream(RNG_SHUFFLE, 5));
}

/* Means of N draws: the standard errors are 1/sqrt(12 N) and 1/sqrt(N); for the mean square of a
 * normal sqrt(2/N).  Six of them bound all three: the seed is fixed, so this cannot flicker. */
static void moments_are_those_of_the_distributions(void **state) {
    (void)state;
    enum { N = 100000 };
    double sum = 0, normal = 0, square = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = rng_uniform(42, 1, 0, i), z = rng_normal(42, 2, 0, i);
        assert_true(u > 0 && u < 1 && isfinite(z));
        sum += u;
        normal += z;
        square += z * z;
    }
    assert_true(fabs(sum / N - 0.5) < 6 / sqrt(12.0 * N));
    assert_true(fabs(normal / N) < 6 / sqrt((double)N));
    assert_true(fabs(square / N - 1) < 6 * sqrt(2.0 / N));
    assert_true(rng_unit_f32(0) == 0.0f && rng_unit_f32(UINT32_MAX) < 1.0f);
}

static void permutations_hold_every_index_once(void **state) {
    (void)state;
    enum { N = 1000 };
    int64_t a[N], b[N], fixed = 0;
    unsigned char seen[N] = {0};
    rng_permutation(9, rng_stream(RNG_SHUFFLE, 0), 1, N, a);
    rng_permutation(9, rng_stream(RNG_SHUFFLE, 0), 2, N, b);
    for (int i = 0; i < N; i++) {
        assert_in_range(a[i], 0, N - 1);
        assert_false(seen[a[i]]++);
        fixed += a[i] == i;
    }
    assert_true(fixed < 10); /* one is expected */
    assert_memory_not_equal(a, b, sizeof a);
    rng_permutation(9, 0, 0, 0, NULL);
    rng_permutation(9, 0, 0, 1, a);
    assert_int_equal(a[0], 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_vectors),
        cmocka_unit_test(every_argument_enters_the_words),
        cmocka_unit_test(moments_are_those_of_the_distributions),
        cmocka_unit_test(permutations_hold_every_index_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
