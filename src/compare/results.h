/* SPDX-License-Identifier: Apache-2.0 */
/* results.h - results.json from what lies in the folder, and the pages made of it.
 *
 * Built anew from files each time; what cannot change any more (cells that are done) is kept in the
 * store between calls. */
#ifndef MIL_COMPARE_RESULTS_H
#define MIL_COMPARE_RESULTS_H

#include "compare/folder.h"
#include "compare/rows.h"
#include "io/hash.h"

/* What an evaluation says of itself: two values are comparable only where these agree. */
struct graded_how {
    bool known;
    char protocol[HASH_HEX]; /* hash of its words */
    char data[HASH_HEX];     /* "" where the file does not say */
    char program[64];
};

struct results_store {
    const struct compare_plan *plan;
    json_t **cells;           /* of cells that are done */
    struct graded_rows *rows; /* by cell and task */
    bool *rows_read;
    struct graded_how *how; /* by cell and task; the untouched model's after all cells */
    json_t *machine;
};
enum mil_status results_open(struct results_store *s, const struct compare_plan *p,
                             struct mil_error *err);
void results_release(struct results_store *s);
/* The document (a new reference). */
enum mil_status results_build(struct results_store *s, json_t **out, struct mil_error *err);
/* results.json, results.md, report.html, each written whole. */
enum mil_status results_write(struct results_store *s, struct mil_error *err);
/* The machine is the one that results.json names already, not this one. */
enum mil_status results_keep_machine(struct results_store *s, struct mil_error *err);

/* ---- parts, used by results_*.c alone */

/* Building objects: one failed allocation marks the job, looked at in the end. */
struct results_job {
    struct results_store *store;
    const struct compare_plan *plan;
    struct mil_error *err;
    enum mil_status status;
};
/* Takes the reference; NULL marks the job. */
void results_put(struct results_job *job, json_t *object, const char *key, json_t *value);
void results_append(struct results_job *job, json_t *list, json_t *value);
/* null where it is not finite */
json_t *results_number(double value);
/* The number at a path of keys ("scores", "gsm8k", "value", NULL); NaN: none. */
double results_at(const json_t *object, const char *const *path);
/* results_cell.c: a cell's object; the same `scores` of the untouched model. */
json_t *results_cell(struct results_job *job, size_t cell);
json_t *results_scores(struct results_job *job, size_t cell);
/* A cell's evaluation file of a task: new reference or NULL. */
json_t *results_eval_file(struct results_job *job, size_t cell, size_t task);
/* results_task.c: keep how that file was graded; a task's object, once all cells are noted. */
void results_note_how(struct results_job *job, size_t cell, size_t task, const json_t *file);
json_t *results_task(struct results_job *job, size_t task);
/* results_group.c: `summary` and `difference` of groups whose `cells` are there. */
void results_summarise(struct results_job *job, json_t *groups);

#endif
