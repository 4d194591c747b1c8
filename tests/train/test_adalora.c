/* SPDX-License-Identifier: Apache-2.0 */
/* What a run with AdaLoRA tells and refuses: penalty and budget of each step as PEFT has them
 * (tools/golden/record_methods.py), ranks at the end, gradients that are rightly zero, schedules that do not fit. */
#include "fixture.h"

#include <math.h>

#include "core/threads.h"

static struct mil_error err;

static void start(struct config *c, const char *out, const char *const *more) {
    static const char *const adalora[] = {"method=adalora", NULL};
    tiny_config(c, out, adalora);
    for (size_t i = 0; more && more[i]; i++) assert_ok(config_assign(c, more[i], &err));
}

/* ---- penalty and budget ---- */

static double number_at(const json_t *o, const char *key, size_t i) {
    const json_t *v = json_array_get(json_object_get(o, key), i);
    if (!json_is_number(v)) fail_msg("the recording lacks %s[%zu]", key, i);
    return json_number_value(v);
}

/* The penalty sums 2 norms of r^2 entries a module in f64, from factors that err by 2^-24 at the start and by their
 * gradients' error after it (1e-6 of a step of 1e-2): 1e-6 relative is allowed. */
static void penalty_and_budget_are_peft_s(void **state) {
    (void)state;
    json_t *golden = NULL;
    struct config c;
    struct run *r = calloc(1, sizeof *r);
    assert_non_null(r);
    assert_ok(json_read_file(TEST_DATA "/methods_tiny.json", &golden, &err));
    const json_t *want = json_object_get(json_object_get(golden, "cases"), "adalora"), *item;
    char text[64];
    size_t i;
    assert_non_null(want);
    start(&c, test_tmp_dir(), NULL);
    snprintf(text, sizeof text, "r=%d", (int)json_number_value(json_object_get(golden, "r")));
    assert_ok(config_assign(&c, text, &err));
    char targets[256] = "target_modules=[";
    json_array_foreach(json_object_get(golden, "targets"), i, item) {
        strcat(targets, i ? ", " : "");
        strcat(targets, json_string_value(item));
    }
    strcat(targets, "]");
    assert_ok(config_assign(&c, targets, &err));
    json_array_foreach(json_object_get(want, "settings"), i, item)
        assert_ok(config_assign(&c, json_string_value(item), &err));
    assert_ok(run_open(r, &c, NULL, NULL, &err));
    for (i = 0; i < json_array_size(json_object_get(want, "loss")); i++) {
        struct mil_train_step row;
        double penalty = number_at(want, "penalty", i);
        assert_ok(run_update(r, &row, &err));
        if (!(fabs(row.regularizer - penalty) <= 1e-6 * penalty))
            fail_msg("step %zu: the penalty is %.9g, recorded %.9g", i + 1, row.regularizer,
                     penalty);
        assert_int_equal(row.adalora_budget, (int64_t)number_at(want, "budget", i));
    }
    run_release(r);
    free(r);
    config_release(&c);
    json_decref(golden);
}

/* ---- what is told ---- */

struct told {
    size_t rows;
    int64_t rank, first, elements;
};

static void take_rank(void *ctx, const struct mil_rank_row *row) {
    struct told *t = ctx;
    assert_int_equal(row->index, t->rows++);
    assert_int_equal(row->start, 6);
    assert_true(row->rank >= 0 && row->rank <= 6 && row->elements % (row->rank + !row->rank) == 0);
    assert_non_null(strstr(row->module, "model.layers."));
    t->rank += row->rank;
    t->first += row->start;
    t->elements += row->elements;
}

static void ranks_and_log(void **state) {
    (void)state;
    static const char *const more[] = {"max_steps=8", "tinit=2",        "tfinal=2",
                                       "deltaT=1",    "warmup_steps=0", NULL};
    struct told told = {0};
    const struct mil_train_callbacks on = {.ctx = &told, .on_rank = take_rank};
    struct config c;
    struct str log = {0};
    char dir[512];
    strcpy(dir, test_tmp_dir());
    start(&c, dir, more);
    listen_to_notices();
    assert_ok(train_run(&c, NULL, &on, NULL, &err));
    log_set_sink(NULL, NULL);
    /* 2 layers of 5 modules, r = 4 of init_r = 6 */
    assert_int_equal(told.rows, 10);
    assert_int_equal(told.first, 60);
    assert_int_equal(told.rank, 40);
    assert_true(told.elements > 0);
    assert_non_null(strstr(notices, "ranks: 6 a module, reduced after step 2 to an average of 4 at "
                                    "step 6 of 8"));
    assert_null(strstr(notices, "exactly zero"));
    read_whole(dir, "trainer_log.jsonl", &log);
    assert_non_null(strstr(str_c(&log), "\"regularizer\": 0."));
    assert_non_null(strstr(str_c(&log), "\"adalora_budget\": 60"));
    assert_non_null(strstr(str_c(&log), "\"adalora_budget\": 40"));
    str_release(&log);
    config_release(&c);
}

/* P and Q have no gradient from the data while Lambda is 0, which warm-up prolongs: no cause for a warning, with
 * the penalty or without.  A tensor that stays dead is one. */
static void zero_gradients_that_are_right(void **state) {
    (void)state;
    static const char *const weights[] = {"orth_reg_weight=0", "orth_reg_weight=0.5"};
    for (size_t i = 0; i < 2; i++) {
        const char *const more[] = {weights[i], "max_steps=6", "warmup_steps=3",
                                    "lr_scheduler_type=constant_with_warmup", NULL};
        struct config c;
        start(&c, test_tmp_dir(), more);
        listen_to_notices();
        assert_ok(train_run(&c, NULL, NULL, NULL, &err));
        log_set_sink(NULL, NULL);
        assert_null(strstr(notices, "exactly zero"));
        config_release(&c);
    }
}

static void schedules_are_checked_first(void **state) {
    (void)state;
    static const char *const late[] = {"max_steps=8", "tinit=5", "tfinal=3", NULL},
                             *const low[] = {"max_steps=8", "init_r=3", NULL},
                             *const fits[] = {"max_steps=4", "save_steps=2", NULL};
    struct config c;
    char dir[512];
    strcpy(dir, test_tmp_dir());
    start(&c, dir, late);
    assert_fails(train_run(&c, NULL, NULL, NULL, &err), MIL_USAGE, "lower tinit or tfinal");
    config_release(&c);
    start(&c, dir, low);
    assert_fails(train_run(&c, NULL, NULL, NULL, &err), MIL_USAGE, "init_r is 3");
    config_release(&c);
    start(&c, dir, fits);
    assert_ok(train_run(&c, NULL, NULL, NULL, &err));
    assert_ok(config_assign(&c, "max_steps=6", &err));
    assert_fails(train_run(&c, "last", NULL, NULL, &err), MIL_MISMATCH, "reduces ranks");
    config_release(&c);
}

/* Bits do not depend on threads, nor on how a step is cut: scores, masks and penalty are of whole steps. */
static void threads_and_accumulation_do_not_matter(void **state) {
    (void)state;
    static const char *const ways[][4] = {
        {"threads=1", NULL},
        {"threads=2", NULL},
        {"per_device_train_batch_size=1", "gradient_accumulation_steps=8", NULL}};
    static const char *const common[] = {"max_steps=6", "tinit=1",          "tfinal=2",
                                         "deltaT=1",    "lora_dropout=0.1", NULL};
    char dirs[3][512];
    for (size_t i = 0; i < 3; i++) {
        struct config c;
        strcpy(dirs[i], test_tmp_dir());
        start(&c, dirs[i], common);
        for (size_t k = 0; ways[i][k]; k++) assert_ok(config_assign(&c, ways[i][k], &err));
        assert_ok(train_run(&c, NULL, NULL, NULL, &err));
        config_release(&c);
        if (i > 0) assert_same_file(dirs[0], dirs[i], "adapter_model.safetensors");
    }
    threads_set(0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(penalty_and_budget_are_peft_s),
        cmocka_unit_test(ranks_and_log),
        cmocka_unit_test(zero_gradients_that_are_right),
        cmocka_unit_test(schedules_are_checked_first),
        cmocka_unit_test(threads_and_accumulation_do_not_matter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
