/* SPDX-License-Identifier: Apache-2.0 */
/* Learning rates against the recorded ones of transformers (record_trajectories.py schedules), and
 * the numbers of steps. */
#include "fixture.h"

#include <math.h>

#include "train/schedule.h"

static void rates_are_transformers(void **state) {
    (void)state;
    struct mil_error err = {0};
    json_t *golden = NULL;
    assert_ok(json_read_file(TEST_DATA "/schedules.json", &golden, &err));
    assert_true(json_array_size(golden) >= 10);
    for (size_t i = 0; i < json_array_size(golden); i++) {
        const json_t *g = json_array_get(golden, i), *rates = json_object_get(g, "rates");
        const char *type = json_string_value(json_object_get(g, "type"));
        struct schedule s = {.kind = schedule_kind_of(type),
                             .base = json_real_value(json_object_get(g, "learning_rate")),
                             .warmup = json_integer_value(json_object_get(g, "warmup")),
                             .total = json_integer_value(json_object_get(g, "total"))};
        for (size_t k = 0; k < json_array_size(rates); k++) {
            double want = json_real_value(json_array_get(rates, k)),
                   got = schedule_rate(&s, (int64_t)k + 1);
            /* The same operations in the same order; cos of two C libraries may differ by an ulp.
             */
            double bound = s.kind == SCHEDULE_COSINE ? 4e-16 * s.base : 0;
            if (!(fabs(got - want) <= bound))
                fail_msg("%s warmup %lld total %lld step %zu: %.17g, want %.17g", type,
                         (long long)s.warmup, (long long)s.total, k + 1, got, want);
        }
    }
    json_decref(golden);
}

static void steps_are_counted_as_by_the_trainer(void **state) {
    (void)state;
    assert_int_equal(schedule_epoch_steps(48, 8), 6);
    assert_int_equal(schedule_epoch_steps(49, 8), 7); /* the incomplete one counts */
    assert_int_equal(schedule_epoch_steps(3, 8), 1);
    assert_int_equal(schedule_total_steps(7, 3, -1), 21);
    assert_int_equal(schedule_total_steps(7, 0.5, -1), 4);
    assert_int_equal(schedule_total_steps(7, 3, 5), 5);
    assert_int_equal(schedule_total_steps(7, 3, 0), 21);
    assert_int_equal(schedule_total_steps(1, 1e300, -1), (int64_t)1 << 53);
    assert_int_equal(schedule_warmup_steps(100, 0.5, 1000), 100);
    assert_int_equal(schedule_warmup_steps(0, 0.03, 101), 4);
    assert_int_equal(schedule_warmup_steps(0, 0, 101), 0);
    assert_true(schedule_depends_on_total(SCHEDULE_LINEAR));
    assert_true(schedule_depends_on_total(SCHEDULE_COSINE));
    assert_false(schedule_depends_on_total(SCHEDULE_CONSTANT_WARMUP));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_transformers),
        cmocka_unit_test(steps_are_counted_as_by_the_trainer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
