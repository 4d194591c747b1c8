/* SPDX-License-Identifier: Apache-2.0 */
/* The one parallel loop covers each item once, in chunks that do not depend on the threads; levels
 * of instruction sets can be lowered but not raised. */
#include "check.h"

#include "core/cpu.h"
#include "core/log.h"
#include "core/threads.h"

#define N 1003

struct work {
    unsigned char seen[N];
    int64_t ends[N]; /* of the chunk that begins there */
    int threads;
};

static void mark(void *ctx, int64_t begin, int64_t end) {
    struct work *w = ctx;
    if (threads_index() < 0 || threads_index() >= w->threads) return;
    w->ends[begin] = end;
    for (int64_t i = begin; i < end; i++) w->seen[i]++;
}

static void each_item_is_worked_on_once(void **state) {
    (void)state;
    static struct work one, many;
    for (int64_t grain = 1; grain <= 2 * N; grain = 3 * grain + 1) {
        memset(&one, 0, sizeof one);
        memset(&many, 0, sizeof many);
        threads_set(one.threads = 1);
        parallel_for(N, grain, mark, &one);
        threads_set(many.threads = 4);
        assert_int_equal(threads_count(), 4);
        parallel_for(N, grain, mark, &many);
        for (int i = 0; i < N; i++) assert_true(one.seen[i] == 1 && many.seen[i] == 1);
        assert_memory_equal(one.ends, many.ends, sizeof one.ends);
    }
    parallel_for(0, 1, mark, NULL);
    threads_set(0);
    assert_true(threads_count() >= 1);
}

static void a_level_is_lowered_only(void **state) {
    (void)state;
    struct mil_error err = {0};
    cpu_isa_limit(ISA_REF);
    assert_int_equal(cpu_isa_used(), ISA_REF);
    cpu_isa_limit(ISA_LEVELS);
    assert_int_equal(cpu_isa_used(), cpu_isa_found());
    setenv("MILORA_ISA", "ref", 1);
    assert_ok(cpu_isa_from_environment(&err));
    assert_int_equal(cpu_isa_used(), ISA_REF);
    setenv("MILORA_ISA", "fast", 1);
    assert_fails(cpu_isa_from_environment(&err), MIL_USAGE, "MILORA_ISA=fast: no such level");
    unsetenv("MILORA_ISA");
    assert_string_equal(isa_name(ISA_AVX512_BF16), "avx512_bf16");
    assert_true(strlen(cpu_model_name()) > 0);
}

static char heard[256];

static void listen(void *ctx, enum log_level level, const char *line) {
    assert_ptr_equal(ctx, heard);
    snprintf(heard, sizeof heard, "%d %s", (int)level, line);
}

static void notices_reach_the_sink(void **state) {
    (void)state;
    log_warning("dropped");
    log_set_sink(listen, heard);
    log_warning("tensor %d", 5);
    assert_non_null(strstr(heard, "2 tensor 5"));
    log_info("two\nlines");
    assert_int_equal(heard[0], '1');
    log_set_sink(NULL, NULL);
    log_info("dropped");
    assert_int_equal(heard[0], '1');
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_item_is_worked_on_once),
        cmocka_unit_test(a_level_is_lowered_only),
        cmocka_unit_test(notices_reach_the_sink),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
