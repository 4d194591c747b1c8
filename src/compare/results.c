/* SPDX-License-Identifier: Apache-2.0 */
/* results.c - the document of docs/formats/compare.md, and its three files. */
#include "compare/results.h"

#include <math.h>
#include <string.h>

#include "backend/backend.h"
#include "compare/report/report.h"
#include "core/cpu.h"
#include "core/mem.h"
#include "core/threads.h"

enum { RESULTS_VERSION = 1 };

/* ---- helpers */

void results_put(struct results_job *job, json_t *object, const char *key, json_t *value) {
    if (job->status != MIL_OK) {
        json_decref(value);
        return;
    }
    if (!value || json_object_set_new(object, key, value) != 0)
        job->status = error_nomem(job->err, 0);
}

void results_append(struct results_job *job, json_t *list, json_t *value) {
    if (job->status != MIL_OK) {
        json_decref(value);
        return;
    }
    if (!value || json_array_append_new(list, value) != 0) job->status = error_nomem(job->err, 0);
}

json_t *results_number(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

double results_at(const json_t *object, const char *const *path) {
    for (; *path; path++) object = json_object_get(object, *path);
    return json_is_number(object) ? json_number_value(object) : NAN;
}

static json_t *text_or_null(const char *text) {
    return text ? json_string(text) : json_null();
}

/* ---- the store */

enum mil_status results_open(struct results_store *s, const struct compare_plan *p,
                             struct mil_error *err) {
    size_t n = p->n_cells * p->n_tasks;
    *s = (struct results_store){.plan = p};
    s->cells = mem_calloc(MEM_OTHER, p->n_cells, sizeof *s->cells);
    s->rows = mem_calloc(MEM_OTHER, n, sizeof *s->rows);
    s->rows_read = mem_calloc(MEM_OTHER, n, sizeof *s->rows_read);
    s->how = mem_calloc(MEM_OTHER, n + p->n_tasks, sizeof *s->how);
    return s->cells && s->rows && s->rows_read && s->how ? MIL_OK : error_nomem(err, 0);
}

void results_release(struct results_store *s) {
    for (size_t i = 0; s->cells && i < s->plan->n_cells; i++) json_decref(s->cells[i]);
    for (size_t i = 0; s->rows && i < s->plan->n_cells * s->plan->n_tasks; i++)
        rows_release(&s->rows[i]);
    mem_free(s->cells);
    mem_free(s->rows);
    mem_free(s->rows_read);
    mem_free(s->how);
    json_decref(s->machine);
    memset(s, 0, sizeof *s);
}

/* ---- the machine */

static json_t *this_machine(const struct compare_plan *p) {
    struct backend *b = NULL;
    enum dtype compute = !strcmp(plan_compute_type(p->common), "f32") ? DT_F32 : DT_BF16;
    if (backend_open("cpu", compute, &b, NULL) != MIL_OK) return json_object();
    json_t *out = json_pack("{ss si ss}", "backend", backend_describe(b), "threads",
                            threads_count(), "processor", cpu_model_name());
    backend_free(&b);
    return out;
}

enum mil_status results_keep_machine(struct results_store *s, struct mil_error *err) {
    char path[PATH_CAP];
    json_t *old = NULL;
    TRY(path_join(path, s->plan->output_dir, "results.json", err));
    if (!path_exists(path) || json_read_file(path, &old, NULL) != MIL_OK) return MIL_OK;
    s->machine = json_incref(json_object_get(old, "machine"));
    json_decref(old);
    return MIL_OK;
}

/* ---- tasks */

static json_t *tasks_json(struct results_job *job) {
    json_t *list = json_array();
    for (size_t i = 0; i < job->plan->n_tasks; i++) results_append(job, list, results_task(job, i));
    return list;
}

/* ---- groups */

static json_t *group_json(struct results_job *job, const struct compare_group *g) {
    const struct compare_plan *p = job->plan;
    json_t *o = json_object(), *cells = json_array();
    const char *baseline = g->baseline == NO_GROUP ? NULL : p->groups[g->baseline].id;
    results_put(job, o, "id", json_string(g->id));
    results_put(job, o, "label", json_string(p->methods[g->method].name));
    results_put(job, o, "method", json_string(g->method_name));
    results_put(job, o, "setup", text_or_null(p->n_setups ? p->setups[g->setup].name : NULL));
    results_put(job, o, "rank", g->rank ? json_integer((json_int_t)g->rank) : json_null());
    results_put(job, o, "learning_rate", results_number(g->learning_rate));
    results_put(job, o, "alpha", g->rank ? results_number(g->alpha) : json_null());
    results_put(job, o, "grid", g->grid ? json_incref(g->grid) : json_object());
    results_put(job, o, "trainable",
                g->trainable ? json_integer((json_int_t)g->trainable) : json_null());
    results_put(job, o, "baseline", text_or_null(baseline));
    for (size_t i = 0; i < p->seeds.n; i++)
        results_append(job, cells, results_cell(job, g->first + i));
    results_put(job, o, "cells", cells);
    return o;
}

static json_t *groups_json(struct results_job *job) {
    json_t *list = json_array();
    for (size_t i = 0; i < job->plan->n_groups && job->status == MIL_OK; i++)
        results_append(job, list, group_json(job, &job->plan->groups[i]));
    results_summarise(job, list);
    return list;
}

/* ---- base and failures */

/* The entropy of the untouched model is the same in every analysis of forgetting. */
static double base_entropy(const json_t *groups) {
    static const char *const path[] = {"forgetting", "base_entropy", NULL};
    for (size_t g = 0; g < json_array_size(groups); g++) {
        const json_t *cells = json_object_get(json_array_get(groups, g), "cells");
        for (size_t i = 0; i < json_array_size(cells); i++) {
            double value = results_at(json_array_get(cells, i), path);
            if (isfinite(value)) return value;
        }
    }
    return NAN;
}

static json_t *base_json(struct results_job *job, const json_t *groups) {
    json_t *o = json_object();
    if (!job->plan->base) {
        json_decref(o);
        return json_null();
    }
    results_put(job, o, "scores", results_scores(job, BASE_CELL));
    results_put(job, o, "base_entropy", results_number(base_entropy(groups)));
    return o;
}

static void add_failure(struct results_job *job, size_t cell, json_t *list) {
    json_t *state = NULL;
    char id[COMPARE_ID + 64];
    if (job->status == MIL_OK) job->status = cell_state_read(job->plan, cell, &state, job->err);
    const char *step = json_string_value(json_object_get(state, "step"));
    const char *message = json_string_value(json_object_get(state, "message"));
    folder_relative(job->plan, cell, id);
    if (message)
        results_append(job, list,
                       json_pack("{ss ss ss}", "cell",
                                 cell == BASE_CELL ? id : id + strlen("cells/"), "step",
                                 step ? step : "", "message", message));
    json_decref(state);
}

static json_t *failures_json(struct results_job *job) {
    json_t *list = json_array();
    if (job->plan->base) add_failure(job, BASE_CELL, list);
    for (size_t i = 0; i < job->plan->n_cells; i++) add_failure(job, i, list);
    return list;
}

/* ---- the document */

enum mil_status results_build(struct results_store *s, json_t **out, struct mil_error *err) {
    struct results_job job = {.store = s, .plan = s->plan, .err = err};
    json_t *o = json_object();
    if (!s->machine) s->machine = this_machine(s->plan);
    results_put(&job, o, "version", json_integer(RESULTS_VERSION));
    results_put(&job, o, "program", json_string("milora " MILORA_VERSION));
    results_put(&job, o, "title", json_string(s->plan->title));
    results_put(&job, o, "plan", json_string(s->plan->path));
    results_put(&job, o, "model", json_string(s->plan->model));
    results_put(&job, o, "machine", json_incref(s->machine));
    results_put(&job, o, "baseline", text_or_null(s->plan->baseline));
    json_t *groups = groups_json(&job), *base = base_json(&job, groups);
    results_put(&job, o, "tasks", tasks_json(&job)); /* of evaluations that were read by now */
    results_put(&job, o, "base", base);
    results_put(&job, o, "groups", groups);
    results_put(&job, o, "failures", failures_json(&job));
    if (job.status != MIL_OK) {
        json_decref(o);
        return job.status;
    }
    *out = o;
    return MIL_OK;
}

static enum mil_status write_page(const struct results_store *s, const char *name,
                                  enum mil_status (*make)(const json_t *, struct str *,
                                                          struct mil_error *),
                                  const json_t *root, struct mil_error *err) {
    char path[PATH_CAP];
    struct str text = {0};
    enum mil_status st = path_join(path, s->plan->output_dir, name, err);
    if (st == MIL_OK) st = make(root, &text, err);
    if (st == MIL_OK) st = str_status(&text, err);
    if (st == MIL_OK) st = file_write(path, text.data, text.len, err);
    str_release(&text);
    return st;
}

enum mil_status results_write(struct results_store *s, struct mil_error *err) {
    char path[PATH_CAP];
    json_t *root = NULL;
    TRY(path_join(path, s->plan->output_dir, "results.json", err));
    TRY(results_build(s, &root, err));
    enum mil_status st = json_write_file(path, root, err);
    if (st == MIL_OK) st = write_page(s, "results.md", report_markdown, root, err);
    if (st == MIL_OK) st = write_page(s, "report.html", report_html, root, err);
    json_decref(root);
    return st;
}
