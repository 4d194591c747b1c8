/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_compare.c - `compare`: a plan of trainings, gradings and analyses; a line a step on standard error, the table of
 * what came out on standard output. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "panel.h"
#include "verbs.h"

struct compare_args {
    const char *plan, *only;
    struct rest words;
    bool dry_run, json, retry_failed, report_only;
};

/* ---- while it runs */

/* ctx: size_t, the last cell whose beginning was told; a log then shows life before its first step
 * has ended. */
static void on_progress(void *ctx, const struct mil_compare_progress *p) {
    char seconds[32], left[32] = "?", line[1200];
    size_t *begun = ctx;
    mil_format_seconds(seconds, p->seconds);
    if (p->left >= 0) mil_format_seconds(left, p->left);
    switch (p->event) {
    case MIL_COMPARE_BEGIN:
        if (*begun != p->index)
            screen_line("[%zu/%zu] %s | %s begins | ETA %s", p->index, p->total, p->cell, p->step,
                        left);
        *begun = p->index;
        break;
    case MIL_COMPARE_WAIT:
        screen_progress("[%zu/%zu] %s | %s | %s | ETA %s", p->index, p->total, p->cell, p->step,
                        seconds, left);
        break;
    case MIL_COMPARE_STEP:
        screen_line("[%zu/%zu] %s | %s | %s | ETA %s", p->index, p->total, p->cell, p->step,
                    seconds, left);
        break;
    case MIL_COMPARE_FAILED:
        snprintf(line, sizeof line, "%s | %s failed: %.700s (log: %.300s)", p->cell, p->step,
                 p->message, p->log);
        screen_notice(NULL, MIL_NOTICE_WARNING, line);
        break;
    case MIL_COMPARE_SKIPPED:
        screen_line("[%zu/%zu] %s | as it was left before", p->index, p->total, p->cell);
        break;
    case MIL_COMPARE_CELL: break;
    }
}

/* ---- the table */

enum { CELL_WIDTH = 16, FIRST_WIDTH = 34 };

static const json_t *at(const json_t *o, const char *key) {
    return json_object_get(o, key);
}

static const char *text_at(const json_t *o, const char *key) {
    const char *text = json_string_value(at(o, key));
    return text ? text : "";
}

/* "61.25 +- 0.40"; "-" where there is no number. */
static void print_spread(const json_t *spread, double scale, int digits) {
    char text[64] = "-";
    const json_t *mean = at(spread, "mean"), *sd = at(spread, "sd");
    double value = scale * json_number_value(mean), off = scale * json_number_value(sd);
    if (json_is_number(mean) && json_is_number(sd))
        snprintf(text, sizeof text, "%.*f +- %.*f", digits, value, digits, off);
    else if (json_is_number(mean))
        snprintf(text, sizeof text, "%.*f", digits, value);
    printf(" %*s", CELL_WIDTH, text);
}

static void print_ratio(const json_t *cost, const char *key) {
    if (json_is_number(at(cost, key)))
        printf(" %9.2f", json_number_value(at(cost, key)));
    else
        printf(" %9s", "-");
}

static void print_head(const json_t *tasks) {
    printf("%-*s", FIRST_WIDTH, "method");
    for (size_t i = 0; i < json_array_size(tasks); i++)
        printf(" %*.*s", CELL_WIDTH, CELL_WIDTH, text_at(json_array_get(tasks, i), "id"));
    printf(" %*s %*s %9s %9s\n", CELL_WIDTH, "average", CELL_WIDTH, "forgetting", "time x",
           "memory x");
}

/* A task's value of the untouched model. */
static void print_base(const json_t *base, const json_t *tasks) {
    if (!json_is_object(base)) return;
    printf("%-*s", FIRST_WIDTH, "(untouched)");
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *t = json_array_get(tasks, i);
        const json_t *value = at(at(at(base, "scores"), text_at(t, "id")), "value");
        bool share = json_is_true(at(t, "share"));
        if (json_is_number(value))
            printf(" %*.*f", CELL_WIDTH, share ? 2 : 4,
                   (share ? 100 : 1) * json_number_value(value));
        else
            printf(" %*s", CELL_WIDTH, "-");
    }
    printf(" %*s", CELL_WIDTH, "");
    if (json_is_number(at(base, "base_entropy")))
        printf(" %*.4f", CELL_WIDTH, json_number_value(at(base, "base_entropy")));
    putchar('\n');
}

static void print_group(const json_t *g, const json_t *tasks) {
    const json_t *summary = at(g, "summary"), *cost = at(summary, "cost");
    printf("%-*.*s", FIRST_WIDTH, FIRST_WIDTH, text_at(g, "id"));
    for (size_t i = 0; i < json_array_size(tasks); i++) {
        const json_t *t = json_array_get(tasks, i);
        bool share = json_is_true(at(t, "share"));
        print_spread(at(at(summary, "scores"), text_at(t, "id")), share ? 100 : 1, share ? 2 : 4);
    }
    print_spread(at(summary, "average"), 100, 2);
    print_spread(at(summary, "forgetting_loss"), 1, 4);
    print_ratio(cost, "step_seconds");
    print_ratio(cost, "peak_rss_bytes");
    putchar('\n');
}

static void print_table(const json_t *root) {
    const json_t *tasks = at(root, "tasks"), *groups = at(root, "groups");
    const char *baseline = text_at(root, "baseline");
    print_head(tasks);
    print_base(at(root, "base"), tasks);
    for (size_t i = 0; i < json_array_size(groups); i++)
        print_group(json_array_get(groups, i), tasks);
    printf("\nmean +- standard deviation over seeds; shares in %%");
    if (*baseline) printf("; time of the steps and memory relative to %s", baseline);
    putchar('\n');
}

static void print_failures(const json_t *root) {
    const json_t *failures = at(root, "failures");
    for (size_t i = 0; i < json_array_size(failures); i++) {
        const json_t *f = json_array_get(failures, i);
        printf("failed: %s | %s | %s\n", text_at(f, "cell"), text_at(f, "step"),
               text_at(f, "message"));
    }
}

static enum mil_status print_results(const struct compare_args *args,
                                     const struct mil_compare_result *r, struct mil_error *err) {
    json_error_t why;
    json_t *root = json_load_file(r->results, 0, &why);
    if (!root) return cli_fail(err, MIL_INPUT, "%s: %s", r->results, why.text);
    if (args->json) return cli_print_json(root, err);
    print_table(root);
    print_failures(root);
    json_decref(root);
    printf("%s\n%s\n%s\n", r->results, r->markdown, r->html);
    return cli_flush(err);
}

/* ---- the verb */

static enum mil_status compare(const struct compare_args *args, struct mil_error *err) {
    static struct mil_compare_result result;
    char program[4096];
    size_t begun = 0;
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n < 0) return cli_fail(err, MIL_IO, "/proc/self/exe: cannot be read");
    program[n] = '\0';
    struct mil_compare_options options = {.plan = args->plan,
                                          .assignments = (const char *const *)args->words.items,
                                          .n_assignments = args->words.n,
                                          .program = program,
                                          .only = args->only,
                                          .retry_failed = args->retry_failed,
                                          .report_only = args->report_only,
                                          .threads = common.threads};
    cli_catch_stop();
    enum mil_status st = mil_compare_run(&options, on_progress, &begun, &result, err);
    screen_clear();
    if (st == MIL_OK) st = print_results(args, &result, err);
    if (st != MIL_OK || result.failed == 0 || args->report_only) return st;
    return cli_fail(err, MIL_IO, "%zu of %zu failed, %zu are done; --retry-failed tries them again",
                    result.failed, result.failed + result.done + result.pending, result.done);
}

static void print_cells(const struct mil_compare_facts *f) {
    char n[32];
    printf("%s: %zu cells in %zu groups, model %s, into %s\n", f->title, f->n_cells, f->n_groups,
           f->model, f->output_dir);
    printf("each cell:");
    for (size_t i = 0; i < f->n_steps; i++) printf("%s %s", i ? "," : "", f->steps[i]);
    printf("%s\n", f->base ? "; the untouched model is graded too" : "");
    printf("%-40s %9s %14s  %s\n", "cell", "steps", "trainable", "keys");
    for (size_t i = 0; i < f->n_cells; i++) {
        const struct mil_compare_cell *c = &f->cells[i];
        char steps[32] = "by data";
        if (c->steps > 0) snprintf(steps, sizeof steps, "%" PRId64, c->steps);
        printf("%-40s %9s %14s  %s\n", c->id, steps, cli_grouped(n, c->trainable), c->keys);
    }
}

static json_t *cells_json(const struct mil_compare_facts *f) {
    json_t *list = json_array();
    for (size_t i = 0; i < f->n_cells; i++) {
        const struct mil_compare_cell *c = &f->cells[i];
        json_t *steps = c->steps > 0 ? json_integer((json_int_t)c->steps) : json_null();
        json_array_append_new(list, json_pack("{ss ss ss sI so sI ss}", "cell", c->id, "group",
                                              c->group, "label", c->label, "seed",
                                              (json_int_t)c->seed, "steps", steps, "trainable",
                                              (json_int_t)c->trainable, "keys", c->keys));
    }
    return list;
}

static enum mil_status print_dry(const struct compare_args *args, const struct mil_compare_facts *f,
                                 const struct mil_train_plan *plan, size_t cell,
                                 struct mil_error *err) {
    if (args->json)
        return cli_print_json(json_pack("{ss ss ss so ss so}", "title", f->title, "model", f->model,
                                        "output_dir", f->output_dir, "cells", cells_json(f),
                                        "largest", f->cells[cell].id, "plan",
                                        panel_plan_json(plan)),
                              err);
    print_cells(f);
    printf("\nmemory of the cell that takes the most, %s\n", f->cells[cell].id);
    panel_print_plan(stdout, plan);
    return cli_flush(err);
}

static enum mil_status dry_run(const struct compare_args *args, struct mil_error *err) {
    struct mil_compare_facts facts = {0};
    struct mil_train_plan plan = {0};
    size_t cell = 0;
    enum mil_status st = mil_compare_check(args->plan, (const char *const *)args->words.items,
                                           args->words.n, false, &facts, err);
    /* What it says of one configuration has been said; it tries one a group. */
    mil_set_notice(NULL, NULL);
    if (st == MIL_OK) st = mil_compare_plan(&facts, &plan, &cell, err);
    mil_set_notice(screen_notice, NULL);
    if (st == MIL_OK) st = print_dry(args, &facts, &plan, cell, err);
    mil_train_plan_release(&plan);
    mil_compare_facts_release(&facts);
    return st;
}

static enum mil_status run_compare(const void *p, struct mil_error *err) {
    const struct compare_args *args = p;
    if (args->dry_run && (args->only || args->retry_failed || args->report_only))
        return cli_usage(err, "--dry-run goes with --json alone");
    if (args->report_only && (args->only || args->retry_failed))
        return cli_usage(err, "--report-only runs nothing: it goes with --json alone");
    return args->dry_run ? dry_run(args, err) : compare(args, err);
}

static const struct option compare_positionals[] = {
    {.name = "PLAN.yaml",
     .type = OPTION_TEXT,
     .offset = offsetof(struct compare_args, plan),
     .help = "what to compare",
     .files = FILES_ANY,
     .required = true},
    {.name = "key=value ...",
     .type = OPTION_REST,
     .offset = offsetof(struct compare_args, words),
     .help = "changes of the plan, such as seeds=[1], train.r=8, tasks.0.limit=20"},
    OPTION_END,
};
static const struct option compare_options[] = {
    {.name = "dry-run",
     .type = OPTION_FLAG,
     .offset = offsetof(struct compare_args, dry_run),
     .help = "print the cells and the memory of the largest, and stop; needs only config.json"},
    {.name = "only",
     .type = OPTION_TEXT,
     .offset = offsetof(struct compare_args, only),
     .value = "PATTERN",
     .help = "only cells whose name, group or method matches this shell pattern"},
    {.name = "retry-failed",
     .type = OPTION_FLAG,
     .offset = offsetof(struct compare_args, retry_failed),
     .help = "try cells again that failed before"},
    {.name = "report-only",
     .type = OPTION_FLAG,
     .offset = offsetof(struct compare_args, report_only),
     .help = "run nothing: results and pages from what is there"},
    OPTION_JSON(compare_args),
    OPTION_END,
};
const struct verb verb_compare = {
    .name = "compare",
    .summary = "methods x seeds over one recipe: trains, grades, analyses, reports",
    .about =
        "Every cell (method, setup, point of the grid, seed) is trained, graded and analysed by\n"
        "processes of its own; one that fails leaves the others alone. Stopped or killed, the "
        "same\n"
        "command goes on where it was. In the plan's output_dir: results.json, results.md and\n"
        "report.html, renewed after every cell.",
    .example = "milora compare plan.yaml --dry-run\n"
               "milora compare plan.yaml\n"
               "milora compare plan.yaml seeds=[1] tasks.0.limit=20 output_dir=runs/try\n"
               "milora compare plan.yaml --only 'milora*' --retry-failed",
    .positionals = compare_positionals,
    .options = compare_options,
    .bytes = sizeof(struct compare_args),
    .run = run_compare,
};
