/* SPDX-License-Identifier: Apache-2.0 */
/* resume.h - going on where a stopped run ended.
 *
 * Beside a file of samples lies a record of every setting that decides what is in it,
 * "<samples>.run.json" (docs/formats/results.md).  A run that resumes compares its own settings with
 * the record, takes the lines, and computes the rest.  The record is written after the file of
 * samples was emptied and before its first line, so it never vouches for lines of another run. */
#ifndef MIL_EVAL_RESUME_H
#define MIL_EVAL_RESUME_H

#include "eval/report.h"
#include "eval/tasks/task.h"
#include "io/file.h"
#include "io/json.h"

/* What decides the outputs of any task: task, scoring, data (by content), model, adapter, compute
 * type, seed, limit, program.  The task adds its own members.  *out: json_decref. */
enum mil_status resume_settings(const struct task_run *run, json_t **out, struct mil_error *err);

/* There is a file of samples, and its record is one of this version of the program. */
bool resume_by_this_program(const char *samples);

struct resume {
    struct mapped_file file; /* the samples so far */
    size_t at;
    int64_t line; /* returned so far */
    const char *path;
};
/* Nothing to take (resume_next gives NULL at once) when options.resume is 0, or there are no lines.
 * MIL_MISMATCH: another setting, named with both values; limit may grow.  MIL_INPUT: a record that
 * is missing or broken. */
enum mil_status resume_begin(struct resume *r, const struct task_run *run, const json_t *settings,
                             struct mil_error *err);
/* The next line as an object (json_decref), NULL at the end; a last line without its end is as good
 * as not written.  MIL_INPUT names the line. */
enum mil_status resume_next(struct resume *r, json_t **line, struct mil_error *err);
/* MIL_INPUT about the line last returned: the file and the line, what is wrong, the remedy. */
enum mil_status resume_bad(const struct resume *r, const char *what, struct mil_error *err);
void resume_end(struct resume *r);

/* Open the file of samples: emptied, or (when there are lines to take) rewritten beside itself, to
 * be followed by samples_continue once all taken lines are in it again.  Writes the record. */
enum mil_status resume_open_samples(const struct resume *r, const struct task_run *run,
                                    const json_t *settings, struct sample_file *f,
                                    struct mil_error *err);

/* All of the above in turn, for who can take the lines one after the other: begin, open, give every
 * line (borrowed) to `take`, and leave f ready for the rest. */
typedef enum mil_status (*resume_take_fn)(void *ctx, const json_t *line, struct mil_error *err);
enum mil_status resume_take(struct resume *r, const struct task_run *run, const json_t *settings,
                            struct sample_file *f, resume_take_fn take, void *ctx,
                            struct mil_error *err);

#endif
