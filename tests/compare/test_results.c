/* SPDX-License-Identifier: Apache-2.0 */
/* results.json from what lies in a folder: nothing, parts, broken files; curves and rows by themselves. */
#include <math.h>

#include "compare/curve.h"
#include "compare/report/report.h"
#include "compare/results.h"
#include "core/mem.h"
#include "rig.h"

static struct mil_error err;
static struct compare_plan plan;
static struct results_store store;

static void open_plan(const char *text) {
    rig_write("plan.yaml", text);
    assert_ok(plan_read("plan.yaml", NULL, 0, &plan, &err));
    assert_ok(results_open(&store, &plan, &err));
}

static void close_plan(void) {
    results_release(&store);
    plan_release_all(&plan);
}

static const json_t *at(const json_t *o, const char *path) {
    char text[200], *part = text;
    snprintf(text, sizeof text, "%s", path);
    for (char *next; part; part = next) {
        next = strchr(part, '/');
        if (next) *next++ = 0;
        o = json_is_array(o) ? json_array_get(o, (size_t)strtoul(part, NULL, 10))
                             : json_object_get(o, part);
    }
    return o;
}

/* ---- curves */

/* 1000 steps of loss i and norm 2 i: 400 points, each the mean of its two or three neighbours, so that the means of all
 * points, weighted by their sizes, are the means of all rows. */
static void test_thinned(void **state) {
    struct str log = {0};
    struct curve_facts f;
    json_t *curve;
    (void)state;
    for (int i = 1; i <= 1000; i++)
        str_addf(&log,
                 "{\"step\": %d, \"loss\": %d.0, \"grad_norm\": %d, \"tokens\": 20, "
                 "\"total_tokens\": %d, "
                 "\"tokens_per_second\": 40}\n",
                 i, i, 2 * i, 20 * i);
    rig_write("log.jsonl", str_c(&log));
    str_release(&log);
    assert_ok(curve_read("log.jsonl", &f, &curve, &err));
    assert_int_equal(f.steps, 1000);
    assert_int_equal(f.tokens, 20000);
    assert_true(f.first_loss == 1 && f.last_loss == 1000 && isnan(f.eval_loss) && f.best_step == 0);
    assert_true(fabs(f.step_seconds - 500) < 1e-9);
    assert_int_equal(json_array_size(at(curve, "step")), CURVE_POINTS);
    double sum = 0, last = 0;
    for (size_t i = 0; i < CURVE_POINTS; i++) {
        double step = json_number_value(json_array_get(at(curve, "step"), i));
        double loss = json_number_value(json_array_get(at(curve, "loss"), i));
        double norm = json_number_value(json_array_get(at(curve, "grad_norm"), i));
        assert_true(loss > last && loss <= step && norm == 2 * loss);
        sum += loss * (step - last);
        last = step;
    }
    assert_true(last == 1000 && fabs(sum - 500500) < 1e-6);
    json_decref(curve);
}

/* Rows of evaluations, values that are not finite, a line that is cut. */
static void test_log_lines(void **state) {
    struct curve_facts f;
    json_t *curve;
    (void)state;
    rig_write("log.jsonl", "{\"step\": 2, \"loss\": 3.5, \"grad_norm\": null, \"tokens\": 10, "
                           "\"tokens_per_second\": 5, \"eval_loss\": 2.5}\n"
                           "{\"step\": 3, \"eval_loss\": 2.0}\n{\"step\": 4, \"loss\": null, "
                           "\"eval_loss\": 2.25}\n{\"step\": 5, \"lo");
    assert_ok(curve_read("log.jsonl", &f, &curve, &err));
    assert_true(f.steps == 4 && f.first_loss == 3.5 && isnan(f.last_loss));
    assert_true(f.eval_loss == 2.25 && f.best_loss == 2 && f.best_step == 3);
    assert_true(f.step_seconds == 8); /* one timed step of 2 s stands for four */
    assert_int_equal(json_array_size(at(curve, "eval_step")), 3);
    assert_true(json_is_null(at(curve, "grad_norm/0")) && json_is_null(at(curve, "loss/1")));
    json_decref(curve);
    assert_ok(curve_read("absent.jsonl", &f, &curve, &err));
    assert_true(!curve && f.steps == 0 && isnan(f.first_loss));
    rig_write("log.jsonl", "no log at all");
    assert_ok(curve_read("log.jsonl", &f, &curve, &err));
    assert_null(curve);
}

/* ---- rows */

static void test_rows(void **state) {
    struct graded_rows a, b, mean;
    double *d;
    size_t n;
    (void)state;
    /* Two outputs a row; the cut last line is left out. */
    rig_write("a.jsonl",
              "{\"row\": 7, \"verdict\": \"right\"}\n{\"row\": 7, \"verdict\": \"wrong\"}\n"
              "{\"row\": 2, \"verdict\": \"right\"}\n{\"row\": 9, \"verd");
    rig_write("b.jsonl",
              "{\"row\": 2, \"verdict\": \"unparsed\"}\n{\"row\": 9, \"verdict\": \"right\"}\n"
              "{\"row\": 7, \"verdict\": \"wrong\"}\n");
    assert_ok(rows_read("a.jsonl", &a, &err));
    assert_ok(rows_read("b.jsonl", &b, &err));
    assert_true(a.n == 2 && a.items[0].row == 2 && a.items[1].right == 0.5);
    assert_true(b.n == 3 && b.items[0].right == 0);
    const struct graded_rows *const both[] = {&a, &b};
    assert_ok(rows_mean(both, 2, &mean, &err));
    assert_true(mean.n == 2 && mean.items[0].right == 0.5 && mean.items[1].right == 0.25);
    assert_ok(rows_difference(&b, &a, &d, &n, &err));
    assert_true(n == 2 && d[0] == -1 && d[1] == -0.5);
    mem_free(d);
    rows_release(&a);
    rows_release(&b);
    rows_release(&mean);
    rig_write("a.jsonl", "{\"row\": 1, \"sample\": 0, \"verdict\": \"passed\"}\n"
                         "{\"row\": 1, \"sample\": 1, \"verdict\": \"failed\"}\n"
                         "{\"row\": 2, \"sample\": 0, \"verdict\": \"timeout\"}\n");
    assert_ok(rows_read("a.jsonl", &a, &err)); /* humaneval's words */
    assert_true(a.n == 2 && a.items[0].right == 0.5 && a.items[1].right == 0);
    rows_release(&a);
    rig_write("a.jsonl", "{\"window\": 0, \"nll\": 1.0}\n");
    assert_ok(rows_read("a.jsonl", &a, &err));
    assert_int_equal(a.n, 0);
    rows_release(&a);
}

static void test_bad_rows(void **state) {
    static const struct {
        const char *text, *message;
    } rows[] = {
        {"{\"row\": 1, \"verdict\": \"right\"}\n[]x\n{}\n", "a.jsonl:2"},
        {"{\"verdict\": \"right\"}\n{}\n", "a.jsonl:1"},
        {"{\"row\": \"x\", \"verdict\": \"right\"}\n{}\n", "row"},
        {"{\"row\": 1, \"verdict\": \"right\"}\n{\"row\": 2, \"verdict\": \"right\"}\n"
         "{\"row\": 1, \"verdict\": \"right\"}\n",
         "row 1 stands at two places"},
    };
    struct graded_rows r;
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        rig_write("a.jsonl", rows[i].text);
        assert_fails(rows_read("a.jsonl", &r, &err), MIL_INPUT, rows[i].message);
        rows_release(&r);
    }
    assert_fails(rows_read("absent.jsonl", &r, &err), MIL_ACCESS, "absent.jsonl");
}

/* ---- the document */

#define TWO RIG_HEAD "methods: [lora, {name: Full, method: full}]\nseeds: [1, 2]\n" RIG_TASKS

static void make_pages(const json_t *root) {
    struct str text = {0};
    assert_ok(report_markdown(root, &text, &err));
    assert_ok(report_html(root, &text, &err));
    assert_ok(str_status(&text, &err));
    str_release(&text);
}

/* Before anything has run there is a document with every cell pending, and pages of it. */
static void test_empty(void **state) {
    json_t *r = NULL;
    (void)state;
    open_plan(TWO);
    assert_ok(results_build(&store, &r, &err));
    assert_int_equal(json_array_size(at(r, "groups")), 2);
    assert_string_equal(json_string_value(at(r, "groups/1/cells/1/status")), "pending");
    assert_string_equal(json_string_value(at(r, "groups/1/cells/1/directory")),
                        "cells/full/seed-2");
    assert_true(json_is_null(at(r, "groups/1/rank")) &&
                json_is_null(at(r, "groups/0/cells/0/train")));
    assert_true(json_is_null(at(r, "groups/0/summary/average/mean")));
    assert_int_equal(json_integer_value(at(r, "groups/0/summary/average/n")), 0);
    assert_string_equal(json_string_value(at(r, "groups/1/baseline")), "lora");
    assert_int_equal(json_integer_value(at(r, "groups/1/difference/average/pairs")), 0);
    assert_string_equal(json_string_value(at(r, "baseline")), "lora");
    assert_true(json_is_object(at(r, "base/scores")) && json_is_null(at(r, "base/base_entropy")));
    make_pages(r);
    json_decref(r);
    close_plan();
}

static void put(const char *cell, const char *name, const char *text) {
    char path[200];
    snprintf(path, sizeof path, "out/%s", cell);
    assert_ok(dir_make(path, &err));
    snprintf(path, sizeof path, "out/%s/%s", cell, name);
    rig_write(path, text);
}

/* A cell that is half graded has no average; one that has failed later keeps its scores; a training that has not ended
 * shows its curve alone. */
static void test_parts(void **state) {
    json_t *r = NULL;
    (void)state;
    open_plan(TWO "interference: {rank: 2}\nsubspace: true\n");
    put("cells/lora/seed-1", "eval-ppl.json",
        "{\"metric\": \"perplexity\", \"value\": null, \"n\": 3}");
    put("cells/lora/seed-1/train", "trainer_log.jsonl", "{\"step\": 1, \"loss\": 2.0}\n");
    put("cells/full/seed-1", "eval-exact_match.json",
        "{\"metric\": \"accuracy\", \"value\": 0.5, \"std_error\": 0.25, \"n\": 4, \"protocol\": "
        "\"p\"}");
    put("cells/full/seed-1", "cell.json",
        "{\"status\": \"failed\", \"step\": \"forgetting\", \"message\": \"exit code 1\"}");
    put("cells/full/seed-1", "usage.json",
        "{\"train\": {\"seconds\": 3.5, \"cpu_seconds\": 7.0, \"peak_rss_bytes\": 1000, \"done\": "
        "true}}");
    put("cells/full/seed-1", "interference.json",
        "{\"modules\": [{\"module\": \"m\", \"in_w\": 1.5}], \"types\": [], \"mean\": {\"in_w\": "
        "1.5}}");
    put("cells/full/seed-1", "subspace.json", "{\"layers\": [], \"types\": [], \"modules\": []}");
    assert_ok(results_build(&store, &r, &err));
    assert_true(json_is_null(at(r, "groups/0/cells/0/average")));
    assert_true(json_is_null(at(r, "groups/0/cells/0/scores/ppl/value")));
    assert_true(json_is_null(at(r, "groups/0/cells/0/train")));
    assert_int_equal(json_array_size(at(r, "groups/0/cells/0/curve/step")), 1);
    assert_string_equal(json_string_value(at(r, "groups/1/cells/0/status")), "failed");
    assert_true(json_number_value(at(r, "groups/1/cells/0/average")) == 0.5);
    assert_true(json_number_value(at(r, "groups/1/cells/0/train/seconds")) == 3.5);
    assert_true(json_is_null(at(r, "groups/1/cells/0/train/step_seconds")));
    assert_string_equal(json_string_value(at(r, "groups/1/cells/0/interference/module/module")),
                        "m");
    assert_true(json_is_null(at(r, "groups/1/cells/1/subspace")));
    assert_true(json_is_array(at(r, "groups/1/cells/0/subspace/layers")));
    assert_string_equal(json_string_value(at(r, "failures/0/cell")), "full/seed-1");
    assert_string_equal(json_string_value(at(r, "tasks/0/protocol")), "p");
    assert_true(json_number_value(at(r, "groups/1/summary/scores/exact_match/mean")) == 0.5);
    assert_true(json_is_null(at(r, "groups/1/summary/cost/seconds"))); /* LoRA has none yet */
    make_pages(r);
    json_decref(r);
    close_plan();
}

/* The average is of the tasks that count in it; they all have to be there, the others need not. */
static void test_average(void **state) {
    json_t *r = NULL;
    (void)state;
    open_plan(RIG_HEAD "methods: [lora]\nseeds: [1, 2]\ntasks:\n"
                       "  - {name: A, task: exact_match, data: test.jsonl}\n"
                       "  - {name: B, task: exact_match, data: test.jsonl}\n"
                       "  - {name: C, task: exact_match, data: test.jsonl, average: false}\n");
    put("cells/lora/seed-1", "eval-a.json", "{\"metric\": \"accuracy\", \"value\": 0.5}");
    put("cells/lora/seed-1", "eval-b.json", "{\"metric\": \"accuracy\", \"value\": 0.25}");
    put("cells/lora/seed-2", "eval-a.json", "{\"metric\": \"accuracy\", \"value\": 1.0}");
    put("cells/lora/seed-2", "eval-c.json", "{\"metric\": \"accuracy\", \"value\": 1.0}");
    assert_ok(results_build(&store, &r, &err));
    assert_true(json_is_true(at(r, "tasks/1/averaged")) &&
                json_is_false(at(r, "tasks/2/averaged")));
    assert_true(json_number_value(at(r, "groups/0/cells/0/average")) == 0.375);
    assert_true(json_is_null(at(r, "groups/0/cells/1/average")));
    make_pages(r);
    json_decref(r);
    for (size_t i = 0; i < 3; i++) {
        static const char *const names[] = {"out/cells/lora/seed-1/eval-a.json",
                                            "out/cells/lora/seed-1/eval-b.json",
                                            "out/cells/lora/seed-2/eval-c.json"};
        unlink(names[i]);
    }
    close_plan();
}

static void grade(const char *cell, const char *protocol, const char *data, const char *program) {
    char text[300];
    snprintf(text, sizeof text,
             "{\"metric\": \"accuracy\", \"value\": 0.5, \"protocol\": \"%s\", "
             "\"data_hash\": \"%s\", \"program\": \"%s\"}",
             protocol, data, program);
    put(cell, "eval-exact_match.json", text);
}

/* Evaluations that say otherwise than the first one are listed, and both pages say so. */
static void test_unlike(void **state) {
    json_t *r = NULL;
    struct str page = {0};
    (void)state;
    open_plan(TWO);
    unlink("out/cells/full/seed-1/eval-exact_match.json");
    grade("base", "p", "d", "milora 1");
    grade("cells/lora/seed-1", "p", "d", "milora 1");
    assert_ok(results_build(&store, &r, &err));
    assert_int_equal(json_array_size(at(r, "tasks/0/unlike")), 0);
    assert_string_equal(json_string_value(at(r, "tasks/0/data_hash")), "d");
    assert_ok(report_markdown(r, &page, &err));
    assert_null(strstr(str_c(&page), "comparable with it"));
    json_decref(r);
    grade("cells/lora/seed-2", "p", "e", "milora 2");
    grade("cells/full/seed-1", "p", "", "milora 1"); /* does not say: no difference */
    grade("cells/full/seed-2", "q", "d", "milora 1");
    assert_ok(results_build(&store, &r, &err));
    assert_int_equal(json_array_size(at(r, "tasks/0/unlike")), 2);
    assert_string_equal(json_string_value(at(r, "tasks/0/unlike/0/cell")), "lora/seed-2");
    assert_string_equal(json_string_value(at(r, "tasks/0/unlike/0/what/0")), "data");
    assert_string_equal(json_string_value(at(r, "tasks/0/unlike/0/what/1")), "program");
    assert_string_equal(json_string_value(at(r, "tasks/0/unlike/1/what/0")), "protocol");
    str_reset(&page);
    assert_ok(report_markdown(r, &page, &err));
    assert_non_null(strstr(str_c(&page), "exact\\_match in lora/seed-2 and 1 more (other data, "
                                         "program)"));
    str_release(&page);
    make_pages(r);
    json_decref(r);
    close_plan();
}

/* Files that are not what they should be are named. */
static void test_broken(void **state) {
    static const struct {
        const char *name, *text;
    } rows[] = {
        {"eval-ppl.json", "{"},
        {"usage.json", "[1]"},
        {"cell.json", "7"},
        {"interference.json", "x"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *r = NULL;
        char path[200];
        open_plan(TWO "interference: {rank: 2}\n");
        put("cells/lora/seed-2", rows[i].name, rows[i].text);
        assert_fails(results_build(&store, &r, &err), MIL_INPUT, rows[i].name);
        snprintf(path, sizeof path, "out/cells/lora/seed-2/%s", rows[i].name);
        unlink(path);
        close_plan();
    }
    /* Objects of another kind are no crash. */
    json_t *r = NULL;
    open_plan(TWO "interference: {rank: 2}\nsubspace: {rank: 2}\n");
    put("cells/lora/seed-2", "eval-exact_match.json", "[3]");
    put("cells/lora/seed-2", "interference.json", "{\"modules\": 3, \"types\": \"x\"}");
    put("cells/lora/seed-2", "subspace.json", "[]");
    put("cells/lora/seed-2", "forgetting.json", "{\"forgetting_loss\": \"x\"}");
    assert_ok(results_build(&store, &r, &err));
    make_pages(r);
    json_decref(r);
    close_plan();
}

/* Every allocation may fail: a status, and nothing lost. */
static void test_memory(void **state) {
    (void)state;
    open_plan(TWO);
    for (long n = 0; n < 400; n += 7) {
        json_t *r = NULL;
        mem_fail_after(n);
        enum mil_status st = results_build(&store, &r, &err);
        mem_fail_after(-1);
        if (st == MIL_OK) json_decref(r);
        assert_true(st == MIL_OK || st == MIL_NOMEM || st == MIL_INPUT);
    }
    close_plan();
}

static int setup(void **state) {
    (void)state;
    rig_enter();
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_thinned), cmocka_unit_test(test_log_lines),
        cmocka_unit_test(test_rows),    cmocka_unit_test(test_bad_rows),
        cmocka_unit_test(test_empty),   cmocka_unit_test(test_parts),
        cmocka_unit_test(test_average), cmocka_unit_test(test_unlike),
        cmocka_unit_test(test_broken),  cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
