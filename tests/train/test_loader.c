/* SPDX-License-Identifier: Apache-2.0 */
/* Data order, the cut into micro-batches, and the arrays of one. */
#include "fixture.h"

#include "core/rng.h"
#include "train/loader.h"

/* Samples of these lengths; token t of sample i is 100 i + t, the last two tokens are supervised.
 */
static void make_data(struct dataset *d, const int64_t *lengths, int64_t n) {
    static int32_t ids[1024];
    static uint8_t labels[1024];
    static int64_t begin[128];
    *d = (struct dataset){.ids = ids, .labels = labels, .begin = begin, .n = n};
    begin[0] = 0;
    for (int64_t i = 0; i < n; i++) {
        begin[i + 1] = begin[i] + lengths[i];
        for (int64_t t = 0; t < lengths[i]; t++) {
            ids[begin[i] + t] = (int32_t)(100 * i + t);
            labels[begin[i] + t] = t + 2 >= lengths[i];
        }
    }
}

static const int64_t five[] = {5, 3, 9, 4, 2};

static void every_sample_once_an_epoch(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct dataset d;
    struct loader l;
    make_data(&d, five, 5);
    assert_ok(loader_init(&l, &d, 2, true, 42, &err));
    assert_int_equal(l.epoch_steps, 3);
    for (int64_t epoch = 0; epoch < 4; epoch++) {
        int seen[5] = {0};
        int64_t want[5], at = 0, n;
        rng_permutation(42, rng_stream(RNG_SHUFFLE, 0), (uint32_t)epoch, 5, want);
        for (int64_t s = 1; s <= 3; s++) {
            const int64_t *samples = loader_step(&l, epoch * 3 + s, &n);
            assert_int_equal(n, s == 3 ? 1 : 2); /* the rest is used, not dropped */
            for (int64_t i = 0; i < n; i++) {
                assert_int_equal(samples[i], want[at++]);
                seen[samples[i]]++;
            }
        }
        for (int i = 0; i < 5; i++) assert_int_equal(seen[i], 1);
    }
    loader_release(&l);
}

/* Any step can be asked for first: that is what resuming does. */
static void steps_need_no_history(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct dataset d;
    struct loader through, direct;
    make_data(&d, five, 5);
    assert_ok(loader_init(&through, &d, 2, true, 7, &err));
    for (int64_t s = 1; s <= 30; s++) {
        int64_t n, m;
        const int64_t *a = loader_step(&through, s, &n);
        assert_ok(loader_init(&direct, &d, 2, true, 7, &err));
        const int64_t *b = loader_step(&direct, s, &m);
        assert_int_equal(n, m);
        assert_memory_equal(a, b, (size_t)n * sizeof *a);
        loader_release(&direct);
    }
    loader_release(&through);
}

static void without_shuffling_file_order(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct dataset d;
    struct loader l;
    int64_t n;
    make_data(&d, five, 5);
    assert_ok(loader_init(&l, &d, 3, false, 42, &err));
    const int64_t *s = loader_step(&l, 4, &n); /* second epoch, last step */
    assert_int_equal(n, 2);
    assert_int_equal(s[0], 3);
    assert_int_equal(s[1], 4);
    loader_release(&l);
}

static void arrays_of_a_micro_batch(void **state) {
    (void)state;
    static const int64_t samples[] = {3, 0};
    static const int32_t position[] = {0, 1, 2, 3, 0, 1, 2, 3, 4},
                         ids[] = {300, 301, 302, 303, 0, 1, 2, 3, 4}, row[] = {1, 2, 6, 7},
                         label[] = {302, 303, 3, 4};
    struct mil_error err = {0};
    struct dataset d;
    struct micro_batch m;
    struct batch b;
    make_data(&d, five, 5);
    assert_ok(micro_batch_init(&m, 9, 2, &err));
    micro_batch_fill(&m, &d, samples, 2, &b);
    assert_int_equal(b.tokens, 9);
    assert_int_equal(b.n_rows, 4);
    assert_int_equal(b.n_seqs, 2);
    assert_memory_equal(b.ids, ids, sizeof ids);
    assert_memory_equal(b.position, position, sizeof position);
    assert_memory_equal(b.row, row, sizeof row);
    assert_memory_equal(b.label, label, sizeof label);
    assert_int_equal(b.seqs[1].q_row, 4);
    assert_int_equal(b.seqs[1].n_q, 5);
    assert_int_equal(b.seqs[1].k_row, 4);
    assert_int_equal(b.seqs[1].n_kv, 5);
    assert_true(b.row_key[0] == (uint64_t)3 << 24);
    assert_true(b.row_key[8] == 4);
    assert_int_equal(sample_rows(&d, 4), 1); /* both of two tokens are marked: one is predicted */
    micro_batch_release(&m);
}

/* The dropout key of a token is the same whatever it is batched with. */
static void keys_do_not_depend_on_the_cut(void **state) {
    (void)state;
    static const int64_t samples[] = {2, 1};
    struct mil_error err = {0};
    struct dataset d;
    struct micro_batch a, b;
    struct batch x, y;
    make_data(&d, five, 5);
    assert_ok(micro_batch_init(&a, 12, 2, &err));
    assert_ok(micro_batch_init(&b, 12, 2, &err));
    micro_batch_fill(&a, &d, samples, 2, &x);
    micro_batch_fill(&b, &d, samples + 1, 1, &y);
    assert_memory_equal(x.row_key + 9, y.row_key, 3 * sizeof *y.row_key);
    micro_batch_release(&a);
    micro_batch_release(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_sample_once_an_epoch),    cmocka_unit_test(steps_need_no_history),
        cmocka_unit_test(without_shuffling_file_order),  cmocka_unit_test(arrays_of_a_micro_batch),
        cmocka_unit_test(keys_do_not_depend_on_the_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
