/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes that could overflow, accounting, failing on request, and the arena's promise: the plan's
 * bytes are the run's bytes. */
#include "check.h"

#include "core/arena.h"
#include "core/mem.h"

static void sizes_are_checked(void **state) {
    (void)state;
    size_t x;
    assert_false(checked_mul(SIZE_MAX / 2 + 1, 2, &x));
    assert_true(checked_mul(SIZE_MAX, 1, &x) && x == SIZE_MAX);
    assert_false(checked_add(SIZE_MAX, 1, &x));
    int64_t i;
    assert_false(checked_mul_i64(INT64_MIN, -1, &i));
    assert_true(range_within(10, 0, 10) && range_within(0, 10, 10));
    assert_false(range_within(11, 0, 10));
    assert_false(range_within(5, UINT64_MAX, 10));
    assert_int_equal(align_up(65, 64), 128);
    assert_null(mem_alloc(MEM_OTHER, SIZE_MAX / 2, 3));
    assert_null(mem_alloc(MEM_OTHER, SIZE_MAX, 1));
    assert_null(mem_strndup(MEM_OTHER, "", SIZE_MAX));
}

static void blocks_are_aligned_and_accounted(void **state) {
    (void)state;
    size_t before = mem_stats(MEM_SCRATCH).now;
    char *p = mem_alloc(MEM_SCRATCH, 100, 1), *empty = mem_alloc(MEM_SCRATCH, 0, 8);
    assert_true(p && empty && (uintptr_t)p % MEM_ALIGN == 0 && (uintptr_t)empty % MEM_ALIGN == 0);
    assert_int_equal(mem_stats(MEM_SCRATCH).now, before + 100);
    memset(p, 7, 100);
    p = mem_realloc(MEM_SCRATCH, p, 1000, 1);
    for (int i = 0; i < 100; i++) assert_int_equal(p[i], 7);
    p = mem_realloc(MEM_SCRATCH, p, 10, 1);
    assert_int_equal(mem_stats(MEM_SCRATCH).now, before + 10);
    assert_true(mem_stats(MEM_SCRATCH).peak >= before + 1000);
    mem_free(p);
    mem_free(empty);
    mem_free(NULL);
    assert_int_equal(mem_stats(MEM_SCRATCH).now, before);
    int *zero = mem_calloc(MEM_SCRATCH, 50, sizeof *zero);
    for (int i = 0; i < 50; i++) assert_int_equal(zero[i], 0);
    mem_free(zero);
}

static void requests_fail_on_demand(void **state) {
    (void)state;
    mem_fail_after(2);
    void *a = mem_alloc(MEM_OTHER, 1, 1), *b = mem_alloc(MEM_OTHER, 1, 1);
    assert_true(a && b);
    assert_null(mem_alloc(MEM_OTHER, 1, 1));
    assert_null(mem_realloc(MEM_OTHER, a, 9, 1)); /* a stays valid */
    assert_null(mem_strdup(MEM_OTHER, "x"));
    mem_fail_after(-1);
    mem_free(a);
    mem_free(b);
    a = mem_alloc(MEM_OTHER, 1, 1);
    assert_non_null(a);
    mem_free(a);
}

/* One layout for both passes, as arena.h demands. */
static void lay_out(struct arena *a, unsigned char *p[4]) {
    static const size_t bytes[4] = {1, 64, 0, 1000};
    for (int i = 0; i < 4; i++) p[i] = arena_take(a, bytes[i], "buffer %d", i);
}

static void the_plan_is_what_the_run_takes(void **state) {
    (void)state;
    struct mil_error err = {0};
    struct plan plan = {0};
    struct arena sizing, run;
    unsigned char *p[4];
    arena_init_sizing(&sizing, &plan, PLAN_STEP);
    lay_out(&sizing, p);
    for (int i = 0; i < 4; i++) assert_null(p[i]);
    assert_int_equal(plan.n, 4);
    assert_int_equal(plan_bytes(&plan, PLAN_STEP), sizing.used);
    assert_int_equal(plan_bytes(&plan, PLAN_CALL), 0);
    assert_string_equal(plan.entries[3].name, "buffer 3");
    assert_ok(arena_init(&run, MEM_STEP, sizing.peak, &err));
    lay_out(&run, p);
    assert_int_equal(run.used, sizing.used);
    assert_int_equal(run.used, run.cap);
    for (int i = 0; i < 4; i++) assert_int_equal((uintptr_t)p[i] % MEM_ALIGN, 0);
    memset(p[0], 1, 1);
    memset(p[3], 3, 1000);
    assert_int_equal(*p[0], 1);
    size_t mark = arena_mark(&run);
    arena_rewind(&run, 64);
    assert_ptr_equal(arena_take(&run, 64, "again"), p[1]);
    arena_reset(&run);
    assert_true(run.used == 0 && run.peak == mark);
    arena_release(&run);
    plan_release(&plan);
    mem_fail_after(0);
    assert_fails(arena_init(&run, MEM_STEP, 10, &err), MIL_NOMEM, "out of memory");
    arena_init_sizing(&sizing, &plan, PLAN_STEP);
    lay_out(&sizing, p);
    mem_fail_after(-1);
    assert_int_equal(plan.status, MIL_NOMEM);
    arena_release(&run);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_are_checked),
        cmocka_unit_test(blocks_are_aligned_and_accounted),
        cmocka_unit_test(requests_fail_on_demand),
        cmocka_unit_test(the_plan_is_what_the_run_takes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
