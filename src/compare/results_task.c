/* SPDX-License-Identifier: Apache-2.0 */
/* results_task.c - a task's object in results.json, and whether all its values were graded alike.
 *
 * A comparison may take days: data files get edited, programs upgraded.  Each evaluation says what
 * it graded (protocol, hash of the data, program); a value whose evaluation says otherwise than the
 * first one's is listed, because the two cannot be compared. */
#include <string.h>

#include "compare/results.h"

static const char *member(const json_t *file, const char *key) {
    const char *text = json_string_value(json_object_get(file, key));
    return text ? text : "";
}

static struct graded_how *slot(const struct results_job *job, size_t cell, size_t task) {
    size_t row = cell == BASE_CELL ? job->plan->n_cells : cell;
    return &job->store->how[row * job->plan->n_tasks + task];
}

void results_note_how(struct results_job *job, size_t cell, size_t task, const json_t *file) {
    struct graded_how *how = slot(job, cell, task);
    const char *protocol = member(file, "protocol");
    struct hash *h = hash_new();
    if (!h) {
        job->status = error_nomem(job->err, 0);
        return;
    }
    hash_add(h, protocol, strlen(protocol));
    hash_hex(h, how->protocol);
    hash_free(&h);
    snprintf(how->data, sizeof how->data, "%s", member(file, "data_hash"));
    snprintf(how->program, sizeof how->program, "%s", member(file, "program"));
    how->known = true;
}

/* The untouched model's evaluation, else the first cell's that has one.  false: there is none. */
static bool reference(const struct results_job *job, size_t task, size_t *cell) {
    *cell = BASE_CELL;
    if (slot(job, BASE_CELL, task)->known) return true;
    for (*cell = 0; *cell < job->plan->n_cells; ++*cell)
        if (slot(job, *cell, task)->known) return true;
    return false;
}

static json_t *what_differs(struct results_job *job, const struct graded_how *a,
                            const struct graded_how *b) {
    json_t *list = json_array();
    if (strcmp(a->protocol, b->protocol) != 0) results_append(job, list, json_string("protocol"));
    if (*a->data && *b->data && strcmp(a->data, b->data) != 0)
        results_append(job, list, json_string("data"));
    if (strcmp(a->program, b->program) != 0) results_append(job, list, json_string("program"));
    return list;
}

static json_t *unlike(struct results_job *job, size_t task, const struct graded_how *first) {
    json_t *list = json_array();
    for (size_t c = 0; c < job->plan->n_cells; c++) {
        const struct graded_how *how = slot(job, c, task);
        if (!how->known) continue;
        json_t *what = what_differs(job, first, how);
        if (json_array_size(what) > 0) {
            char id[COMPARE_ID + 32];
            plan_cell_id(job->plan, c, id);
            results_append(job, list, json_pack("{ss sO}", "cell", id, "what", what));
        }
        json_decref(what);
    }
    return list;
}

static json_t *text_of(const json_t *file, const char *key) {
    const json_t *value = json_object_get(file, key);
    return json_is_string(value) ? json_string(json_string_value(value)) : json_null();
}

json_t *results_task(struct results_job *job, size_t i) {
    const struct compare_task *t = &job->plan->tasks[i];
    size_t first;
    json_t *o = json_object(), *file = NULL;
    bool graded = reference(job, i, &first);
    if (graded) file = results_eval_file(job, first, i);
    const json_t *n = json_object_get(file, "n");
    results_put(job, o, "id", json_string(t->name));
    results_put(job, o, "task", json_string(t->task));
    results_put(job, o, "metric", text_of(file, "metric"));
    results_put(job, o, "protocol", text_of(file, "protocol"));
    results_put(job, o, "data_hash", text_of(file, "data_hash"));
    results_put(job, o, "program", text_of(file, "program"));
    results_put(job, o, "n",
                json_is_integer(n) ? json_integer(json_integer_value(n)) : json_null());
    results_put(job, o, "share", json_boolean(t->share));
    results_put(job, o, "averaged", json_boolean(t->averaged));
    results_put(job, o, "higher_is_better", json_boolean(t->higher_is_better));
    results_put(job, o, "unlike", graded ? unlike(job, i, slot(job, first, i)) : json_array());
    json_decref(file);
    return o;
}
