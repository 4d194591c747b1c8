/* SPDX-License-Identifier: Apache-2.0 */
/* results_cell.c - a cell's object in results.json, read from the files of its folder.
 *
 * Files are written whole by the verbs, so one that is there counts, in a cell that has failed
 * later too; the training's numbers only count once it has ended. */
#include <math.h>
#include <string.h>

#include "compare/curve.h"
#include "compare/results.h"

/* A document of the cell: new reference, NULL where there is none. */
static json_t *read_file(struct results_job *job, size_t cell, const char *name) {
    char path[PATH_CAP];
    json_t *root = NULL;
    if (job->status == MIL_OK) job->status = folder_path(job->plan, cell, name, path, job->err);
    if (job->status != MIL_OK || !path_exists(path)) return NULL;
    job->status = json_read_file(path, &root, job->err);
    return root;
}

json_t *results_eval_file(struct results_job *job, size_t cell, size_t task) {
    char name[COMPARE_SLUG + 16];
    snprintf(name, sizeof name, "eval-%s.json", job->plan->tasks[task].slug);
    return read_file(job, cell, name);
}

/* Copies of some members; what is missing is null. */
static json_t *pick(struct results_job *job, const json_t *from, const char *const *keys) {
    json_t *o = json_object();
    for (; *keys; keys++) {
        json_t *value = json_object_get(from, *keys);
        results_put(job, o, *keys, value ? json_incref(value) : json_null());
    }
    return o;
}

json_t *results_scores(struct results_job *job, size_t cell) {
    static const char *const keys[] = {"value", "std_error", "n", NULL};
    json_t *o = json_object();
    for (size_t i = 0; i < job->plan->n_tasks; i++) {
        json_t *file = results_eval_file(job, cell, i);
        if (file) results_put(job, o, job->plan->tasks[i].name, pick(job, file, keys));
        if (file) results_note_how(job, cell, i, file);
        json_decref(file);
    }
    return o;
}

/* Of the shares that the plan averages, once all of them are there: else a cell that is half done would be
 * compared by its easy half. */
static double average(const struct compare_plan *p, const json_t *scores) {
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < p->n_tasks; i++) {
        const char *const path[] = {p->tasks[i].name, "value", NULL};
        if (!p->tasks[i].averaged) continue;
        sum += results_at(scores, path);
        n++;
    }
    return n ? sum / (double)n : NAN;
}

/* ---- training */

static json_t *train_json(struct results_job *job, size_t cell, const struct curve_facts *f) {
    json_t *usage = NULL, *o = NULL;
    if (job->status == MIL_OK) job->status = usage_read(job->plan, cell, &usage, job->err);
    const json_t *spent = json_object_get(usage, "train");
    if (json_is_true(json_object_get(spent, "done"))) {
        static const char *const keys[] = {"seconds", "cpu_seconds", "peak_rss_bytes", NULL};
        const json_t *best =
            json_object_get(plan_group_of(job->plan, cell)->keys, "load_best_model_at_end");
        bool chosen = json_is_true(best) && f->best_step > 0;
        o = pick(job, spent, keys);
        results_put(job, o, "step_seconds", results_number(f->step_seconds));
        results_put(job, o, "steps", json_integer((json_int_t)f->steps));
        results_put(job, o, "tokens", json_integer((json_int_t)f->tokens));
        results_put(job, o, "first_loss", results_number(f->first_loss));
        results_put(job, o, "last_loss", results_number(f->last_loss));
        results_put(job, o, "eval_loss", results_number(chosen ? f->best_loss : f->eval_loss));
        results_put(job, o, "best_step",
                    chosen ? json_integer((json_int_t)f->best_step) : json_null());
    }
    json_decref(usage);
    return o ? o : json_null();
}

static void put_training(struct results_job *job, size_t cell, json_t *o) {
    char path[PATH_CAP];
    struct curve_facts facts;
    json_t *curve = NULL;
    if (job->status == MIL_OK)
        job->status = folder_path(job->plan, cell, "train/trainer_log.jsonl", path, job->err);
    if (job->status == MIL_OK) job->status = curve_read(path, &facts, &curve, job->err);
    if (job->status != MIL_OK) return;
    results_put(job, o, "train", train_json(job, cell, &facts));
    results_put(job, o, "curve", curve ? curve : json_null());
}

/* ---- analyses */

static json_t *forgetting_json(struct results_job *job, const json_t *file) {
    static const char *const keys[] = {"forgetting_loss", "base_entropy", "divergence", "tokens",
                                       NULL};
    return pick(job, file, keys);
}

static json_t *interference_json(struct results_job *job, const json_t *file) {
    static const char *const keys[] = {"types", "mean", NULL};
    json_t *o = pick(job, file, keys), *first = json_array_get(json_object_get(file, "modules"), 0);
    results_put(job, o, "module", first ? json_incref(first) : json_null());
    return o;
}

static json_t *subspace_json(struct results_job *job, const json_t *file) {
    static const char *const keys[] = {"layers", "types", NULL};
    return pick(job, file, keys);
}

static void put_analyses(struct results_job *job, size_t cell, json_t *o) {
    static json_t *(*const make[])(struct results_job *, const json_t *) = {
        forgetting_json, interference_json, subspace_json};
    for (int i = 0; i < COMPARE_ANALYSES; i++) {
        char name[64];
        if (!job->plan->analyses[i]) continue;
        snprintf(name, sizeof name, "%s.json", compare_analysis_names[i]);
        json_t *file = read_file(job, cell, name);
        results_put(job, o, compare_analysis_names[i], file ? make[i](job, file) : json_null());
        json_decref(file);
    }
}

/* ---- the cell */

static json_t *make_cell(struct results_job *job, size_t cell, const char *status) {
    char directory[COMPARE_ID + 64];
    json_t *o = json_object(), *scores = results_scores(job, cell);
    folder_relative(job->plan, cell, directory);
    results_put(job, o, "seed", json_integer((json_int_t)plan_seed_of(job->plan, cell)));
    results_put(job, o, "status", json_string(status));
    results_put(job, o, "directory", json_string(directory));
    results_put(job, o, "average", results_number(average(job->plan, scores)));
    results_put(job, o, "scores", scores);
    put_training(job, cell, o);
    put_analyses(job, cell, o);
    return o;
}

json_t *results_cell(struct results_job *job, size_t cell) {
    json_t *state = NULL;
    if (job->store->cells[cell]) return json_incref(job->store->cells[cell]);
    if (job->status == MIL_OK) job->status = cell_state_read(job->plan, cell, &state, job->err);
    const char *status = json_string_value(json_object_get(state, "status"));
    bool done = status && strcmp(status, "done") == 0;
    json_t *o = make_cell(job, cell, done ? "done" : status ? "failed" : "pending");
    if (done && job->status == MIL_OK) job->store->cells[cell] = json_incref(o);
    json_decref(state);
    return o;
}
