/* SPDX-License-Identifier: Apache-2.0 */
/* The table behind --profile: what is counted under which phase and kind, and that nothing is while it
 * is off. */
#include "check.h"

#include <pthread.h>
#include <time.h>

#include "core/profile.h"

static struct profile_row rows[PROFILE_ROWS_MOST];

static const struct profile_row *row_of(enum profile_phase phase, enum profile_op op) {
    size_t n = profile_rows(rows);
    for (size_t i = 0; i < n; i++)
        if (rows[i].phase == phase && rows[i].op == op) return &rows[i];
    return NULL;
}

static void product(bool ta, bool tb, int64_t m, int64_t n, int64_t k) {
    profile_product(profile_begin(), ta, tb, m, n, k);
}

static void off_counts_nothing(void **state) {
    (void)state;
    profile_reset(1000, 4);
    assert_true(profile_begin() == 0);
    profile_end(profile_begin(), PROFILE_COPY, 8);
    profile_end(profile_clock(), PROFILE_COPY, 8);
    product(false, true, 100, 50, 60);
    assert_int_equal(profile_rows(rows), 0);
}

static void calls_time_and_work_add_up(void **state) {
    (void)state;
    profile_reset(1000, 4);
    profile_record(true);
    assert_int_equal(profile_enter(PROFILE_OPTIMISER), PROFILE_OTHER);
    for (int i = 0; i < 3; i++) {
        int64_t begun = profile_begin();
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        profile_end(begun, PROFILE_ADAMW, 700);
    }
    assert_int_equal(profile_enter(PROFILE_DATA), PROFILE_OPTIMISER);
    profile_end(profile_begin(), PROFILE_BATCH, 5);
    profile_record(false);
    const struct profile_row *row = row_of(PROFILE_OPTIMISER, PROFILE_ADAMW);
    assert_non_null(row);
    assert_int_equal(row->calls, 3);
    assert_true(row->work == 2100);
    assert_true(row->ns >= 6000000); /* a sleep is never shorter */
    assert_int_equal(rows[0].phase, PROFILE_DATA);
    assert_int_equal(profile_rows(rows), 2);
    profile_reset(1000, 4);
    assert_int_equal(profile_rows(rows), 0);
}

/* A micro-batch as the model's code queues it: the phases follow from the vocabulary's side. */
static void phases_of_a_micro_batch(void **state) {
    (void)state;
    profile_reset(1000, 4);
    profile_record(true);
    profile_enter(PROFILE_FORWARD);
    profile_end(profile_begin(), PROFILE_NORM_FORWARD, 1);
    product(false, true, 30, 60, 50);  /* x W^T */
    product(false, true, 30, 8, 50);   /* x [A; dA]^T */
    product(false, true, 30, 60, 8);   /* h B^T */
    product(false, true, 3, 1000, 50); /* logits; fewer rows than the rank */
    profile_end(profile_begin(), PROFILE_CROSS_ENTROPY, 1);
    product(false, false, 3, 50, 1000);
    profile_end(profile_begin(), PROFILE_NORM_BACKWARD, 1);
    product(false, true, 3, 1000, 50); /* the next chunk of rows */
    product(false, false, 30, 50, 60); /* dy W */
    profile_end(profile_begin(), PROFILE_NORM_FORWARD, 1);
    product(false, true, 30, 60, 50); /* recomputed */
    product(true, false, 60, 50, 30); /* dy^T x */
    product(true, false, 60, 4, 30);  /* dy^T h */
    profile_record(false);
    assert_int_equal(row_of(PROFILE_FORWARD, PROFILE_PRODUCT_FORWARD)->calls, 1);
    assert_true(row_of(PROFILE_FORWARD, PROFILE_PRODUCT_FORWARD)->work == 2.0 * 30 * 60 * 50);
    assert_int_equal(row_of(PROFILE_FORWARD, PROFILE_PRODUCT_ADAPTER)->calls, 2);
    assert_int_equal(row_of(PROFILE_HEAD, PROFILE_PRODUCT_HEAD)->calls, 3);
    assert_int_equal(row_of(PROFILE_HEAD, PROFILE_CROSS_ENTROPY)->calls, 1);
    assert_int_equal(row_of(PROFILE_HEAD, PROFILE_NORM_BACKWARD)->calls, 1);
    assert_int_equal(row_of(PROFILE_BACKWARD, PROFILE_PRODUCT_BACKWARD)->calls, 1);
    assert_int_equal(row_of(PROFILE_BACKWARD, PROFILE_PRODUCT_FORWARD)->calls, 1);
    assert_int_equal(row_of(PROFILE_BACKWARD, PROFILE_NORM_FORWARD)->calls, 1);
    assert_int_equal(row_of(PROFILE_BACKWARD, PROFILE_PRODUCT_GRADIENT)->calls, 1);
    assert_int_equal(row_of(PROFILE_BACKWARD, PROFILE_PRODUCT_ADAPTER)->calls, 1);
    assert_null(row_of(PROFILE_BACKWARD, PROFILE_PRODUCT_HEAD));
}

static void rows_come_by_phase_and_time(void **state) {
    (void)state;
    profile_reset(0, 0);
    profile_record(true);
    for (int p = PROFILE_PHASES - 1; p >= 0; p--) {
        profile_enter((enum profile_phase)p);
        for (int op = PROFILE_OPS - 1; op >= 0; op--)
            profile_end(profile_clock() - 100000 * (1 + op * 7 % PROFILE_OPS), (enum profile_op)op,
                        1);
    }
    profile_record(false);
    size_t n = profile_rows(rows);
    assert_int_equal(n, PROFILE_ROWS_MOST);
    for (size_t i = 1; i < n; i++) {
        assert_true(rows[i - 1].phase <= rows[i].phase);
        if (rows[i - 1].phase == rows[i].phase) assert_true(rows[i - 1].ns >= rows[i].ns);
    }
    for (int op = 0; op < PROFILE_OPS; op++)
        assert_true(strlen(profile_op_name((enum profile_op)op)) > 0);
    for (int p = 0; p < PROFILE_PHASES; p++)
        assert_true(strlen(profile_phase_name((enum profile_phase)p)) > 0);
}

static void *elsewhere(void *unused) {
    (void)unused;
    profile_end(profile_begin(), PROFILE_COPY, 1);
    return NULL;
}

static void other_threads_are_not_counted(void **state) {
    (void)state;
    pthread_t thread;
    profile_reset(0, 0);
    profile_record(true);
    assert_int_equal(pthread_create(&thread, NULL, elsewhere, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    profile_record(false);
    assert_int_equal(profile_rows(rows), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(off_counts_nothing),
        cmocka_unit_test(calls_time_and_work_add_up),
        cmocka_unit_test(phases_of_a_micro_batch),
        cmocka_unit_test(rows_come_by_phase_and_time),
        cmocka_unit_test(other_threads_are_not_counted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
