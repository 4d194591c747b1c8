/* SPDX-License-Identifier: Apache-2.0 */
/* model.c - see model.h.
 *
 * Labels and points are found by comparing texts, which is quadratic in the groups: hence their limit, far beyond what
 * a page can show.  A point is told apart by its set-up and by its grid object as text. */
#include "compare/report/model.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const json_t *report_at(const json_t *object, const char *key) {
    return json_object_get(object, key);
}

double report_num(const json_t *object, const char *key) {
    const json_t *value = json_object_get(object, key);
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    return isfinite(number) ? number : NAN;
}

const char *report_text(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

const json_t *report_group(const struct report *r, size_t group) {
    return group < r->n_groups ? json_array_get(r->groups, group) : NULL;
}

const json_t *report_task(const struct report *r, size_t task) {
    return json_array_get(r->tasks, task);
}

const json_t *report_cells(const json_t *group) {
    return report_at(group, "cells");
}

size_t report_find(const struct report *r, size_t point, size_t label) {
    for (size_t i = 0; i < r->n_groups; i++)
        if (r->point_of[i] == point && r->label_of[i] == label) return i;
    return REPORT_NONE;
}

size_t report_method(const struct report *r, size_t point, const char *method) {
    for (size_t i = 0; i < r->n_groups; i++)
        if (r->point_of[i] == point && !strcmp(report_text(report_group(r, i), "method"), method))
            return i;
    return REPORT_NONE;
}

const json_t *report_baseline(const struct report *r, const json_t *group) {
    const char *id = report_text(group, "baseline");
    for (size_t i = 0; *id && i < r->n_groups; i++)
        if (!strcmp(report_text(report_group(r, i), "id"), id)) return report_group(r, i);
    return NULL;
}

/* ---- reading ---- */

static bool same_point(const json_t *a, const json_t *b) {
    const json_t *x = report_at(a, "grid"), *y = report_at(b, "grid");
    if (strcmp(report_text(a, "setup"), report_text(b, "setup")) != 0) return false;
    return json_object_size(x) == json_object_size(y) && (!json_object_size(x) || json_equal(x, y));
}

static void place_group(struct report *r, size_t i) {
    const json_t *g = report_group(r, i);
    const char *label = report_text(g, "label");
    size_t l = 0, p = 0;
    while (l < r->n_labels && strcmp(r->labels[l], label) != 0) l++;
    if (l == r->n_labels) r->labels[r->n_labels++] = label;
    while (p < r->n_points && !same_point(report_group(r, r->first_of_point[p]), g)) p++;
    if (p == r->n_points) r->first_of_point[r->n_points++] = i;
    r->label_of[i] = l;
    r->point_of[i] = p;
}

/* Style 0 is the baseline's, 1 that of this program's own method (of the first such label); the others come in order. */
static void place_styles(struct report *r) {
    size_t next = 2;
    bool taken[2] = {!*report_text(r->root, "baseline"), false};
    for (size_t l = 0; l < r->n_labels; l++) {
        bool compared = false, own = false;
        for (size_t i = 0; i < r->n_groups; i++) {
            const json_t *g = report_group(r, i);
            if (r->label_of[i] != l) continue;
            compared |= *report_text(g, "baseline") != 0;
            own |= !strcmp(report_text(g, "method"), "milora");
        }
        bool baseline = !compared && !taken[0], first = !baseline && own && !taken[1];
        r->styles[l] = baseline ? 0 : first ? 1 : next;
        taken[0] |= baseline;
        taken[1] |= first;
        if (!baseline && !first) next = next + 1 < REPORT_STYLES ? next + 1 : 2;
    }
}

static void count_cells(struct report *r) {
    for (size_t i = 0; i < r->n_groups; i++) {
        const json_t *cells = report_cells(report_group(r, i));
        for (size_t c = 0; c < json_array_size(cells); c++) {
            const char *status = report_text(json_array_get(cells, c), "status");
            r->n_cells++;
            r->n_done += !strcmp(status, "done");
            r->n_failed += !strcmp(status, "failed");
        }
    }
    r->n_pending = r->n_cells - r->n_done - r->n_failed;
}

enum mil_status report_read(struct report *r, const json_t *results, struct mil_error *err) {
    memset(r, 0, sizeof *r);
    r->root = results;
    r->tasks = report_at(results, "tasks");
    r->groups = report_at(results, "groups");
    if (!json_is_array(r->tasks) || !json_is_array(r->groups))
        return error_set(err, MIL_INPUT,
                         "results: no lists 'tasks' and 'groups': this is not what milora compare "
                         "writes");
    if (report_num(results, "version") != 1)
        return error_set(err, MIL_INPUT,
                         "results: 'version' is %g, this program reads 1: make the report with the "
                         "program that made the results",
                         report_num(results, "version"));
    r->n_tasks = json_array_size(r->tasks);
    r->n_groups = json_array_size(r->groups);
    if (r->n_tasks > REPORT_TASKS || r->n_groups > REPORT_GROUPS)
        return error_set(err, MIL_INPUT,
                         "results: %zu tasks and %zu groups, a report shows at most %d and %d: "
                         "split the plan",
                         r->n_tasks, r->n_groups, REPORT_TASKS, REPORT_GROUPS);
    for (size_t i = 0; i < r->n_groups; i++) place_group(r, i);
    place_styles(r);
    count_cells(r);
    return MIL_OK;
}

/* ---- measures ---- */

size_t report_n_measures(const struct report *r) {
    return r->n_tasks + 2;
}

struct report_measure report_measure(const struct report *r, size_t i) {
    struct report_measure m = {"Average", "average", false, true, true, NULL};
    if (i == r->n_tasks) return m;
    if (i > r->n_tasks)
        return (struct report_measure){
            "Forgetting loss", "forgetting_loss", false, false, false, NULL};
    const json_t *task = report_task(r, i), *averaged = report_at(task, "averaged");
    m.name = m.key = report_text(task, "id");
    m.task = task;
    m.share = json_is_true(report_at(task, "share"));
    m.higher = !json_is_false(report_at(task, "higher_is_better"));
    m.averaged = m.share && !json_is_false(averaged);
    return m;
}

struct report_spread report_summary(const json_t *group, const struct report_measure *m) {
    const json_t *s = report_at(group, "summary");
    if (m->task) s = report_at(s, "scores");
    s = report_at(s, m->key);
    double n = report_num(s, "n");
    return (struct report_spread){report_num(s, "mean"), report_num(s, "sd"), isnan(n) ? 0 : n};
}

static struct report_interval interval_of(const json_t *o, const char *n) {
    return (struct report_interval){report_num(o, "mean"), report_num(o, "low"),
                                    report_num(o, "high"), report_num(o, n)};
}

struct report_interval report_difference(const json_t *group, const struct report_measure *m) {
    return interval_of(report_at(report_at(group, "difference"), m->key), "pairs");
}

struct report_interval report_rows(const json_t *group, const struct report_measure *m) {
    return interval_of(report_at(report_at(report_at(group, "difference"), m->key), "rows"), "n");
}

double report_value(const json_t *cell, const struct report_measure *m) {
    if (m->task) return report_num(report_at(report_at(cell, "scores"), m->key), "value");
    if (!strcmp(m->key, "average")) return report_num(cell, "average");
    return report_num(report_at(cell, "forgetting"), m->key);
}

bool report_has_width(double low, double high) {
    return high - low > 1e-12; /* rounding makes less of equal differences, in per cent too */
}

bool report_beyond_zero(double low, double high) {
    return report_has_width(low, high) && (low > 0 || high < 0);
}

bool report_excludes_zero(const struct report_interval *d) {
    return report_beyond_zero(d->low, d->high);
}

bool report_has(const struct report *r, const struct report_measure *m) {
    for (size_t i = 0; i < r->n_groups; i++)
        if (!isnan(report_summary(report_group(r, i), m).mean)) return true;
    return false;
}

bool report_average_matters(const struct report *r) {
    size_t shares = 0;
    for (size_t i = 0; i < r->n_tasks; i++) shares += report_measure(r, i).averaged;
    struct report_measure average = report_measure(r, r->n_tasks);
    return shares > 1 && report_has(r, &average);
}

double report_cells_mean(const json_t *group, const char *part, const char *inner,
                         const char *key) {
    const json_t *cells = report_cells(group);
    double sum = 0;
    size_t n = 0;
    for (size_t c = 0; c < json_array_size(cells); c++) {
        const json_t *o = report_at(json_array_get(cells, c), part);
        double x = report_num(inner ? report_at(o, inner) : o, key);
        if (isnan(x)) continue;
        sum += x;
        n++;
    }
    return n ? sum / (double)n : NAN;
}

/* ---- words ---- */

static void grid_words(const json_t *grid, bool more, struct str *out) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)grid, key, value) {
        if (more) str_add(out, ", ");
        more = true;
        str_addf(out, "%s = ", key);
        if (json_is_string(value))
            str_add(out, json_string_value(value));
        else
            json_append(value, -1, out);
    }
}

void report_point_name(const struct report *r, size_t point, struct str *out) {
    if (r->n_points < 2) return;
    const json_t *g = report_group(r, r->first_of_point[point]);
    const char *setup = report_text(g, "setup");
    str_add(out, setup);
    grid_words(report_at(g, "grid"), *setup != 0, out);
}

void report_group_name(const struct report *r, size_t group, struct str *out) {
    str_add(out, r->labels[r->label_of[group]]);
    if (r->n_points < 2) return;
    str_add(out, " (");
    report_point_name(r, r->point_of[group], out);
    str_add(out, ")");
}

static void number(struct str *out, double value, int digits, bool sign) {
    if (!isfinite(value)) {
        str_add(out, "\u2013");
        return;
    }
    char text[400];
    snprintf(text, sizeof text, "%.*f", digits, fabs(value));
    bool zero = strspn(text, "0.") == strlen(text);
    if (value < 0 && !zero)
        str_add(out, "\u2212");
    else if (sign && !zero)
        str_add(out, "+");
    str_add(out, text);
}

void report_fixed(struct str *out, double value, int digits) {
    number(out, value, digits, false);
}

void report_signed(struct str *out, double value, int digits) {
    number(out, value, digits, true);
}

/* Of what is no share: three digits of everyday losses, two of small differences between them. */
static int digits_of(double value) {
    double size = fabs(value);
    if (size >= 10) return size >= 100 ? 1 : 2;
    return size >= 0.01 || size == 0 ? 3 : size >= 0.001 ? 4 : 5;
}

void report_measured(struct str *out, const struct report_measure *m, double value) {
    number(out, m->share ? 100 * value : value, m->share ? 1 : digits_of(value), false);
}

void report_measured_signed(struct str *out, const struct report_measure *m, double value) {
    number(out, m->share ? 100 * value : value, m->share ? 1 : digits_of(value), true);
}

void report_general(struct str *out, double value) {
    if (!isfinite(value)) {
        str_add(out, "\u2013");
        return;
    }
    char text[40];
    snprintf(text, sizeof text, "%.4g", fabs(value));
    if (value < 0) str_add(out, "\u2212");
    str_add(out, text);
}
