/* SPDX-License-Identifier: Apache-2.0 */
/* report.h - what an evaluation says while it runs: progress with an estimate of the time left, and
 * one JSON line a row. */
#ifndef MIL_EVAL_REPORT_H
#define MIL_EVAL_REPORT_H

#include <stdbool.h>
#include <stdio.h>

#include "core/str.h"
#include "io/file.h"
#include "milora/eval.h"

struct meter {
    mil_eval_progress_fn fn; /* or NULL */
    void *ctx;
    double start, last;
    int64_t total, before; /* before: done when it began, by an earlier run */
    bool stopped;          /* the receiver asked to stop */
};
void meter_start(struct meter *m, mil_eval_progress_fn fn, void *ctx, int64_t total);
/* Tell the receiver, at most five times a second unless `now`.  false once it asked to stop. */
bool meter_report(struct meter *m, int64_t done, double value, int64_t tokens, bool now);
double meter_seconds(const struct meter *m);

/* JSON Lines, each line whole on disk when written, so that a run can be watched and a stopped one
 * leaves what it had. */
struct sample_file {
    FILE *f;
    const char *path; /* NULL: no file wanted */
    bool rewriting;   /* lines go to `beside` */
    struct atomic_file beside;
    struct str line;
};
/* path NULL: nothing is written. The path is borrowed. MIL_ACCESS when it cannot be created. */
enum mil_status samples_open(struct sample_file *s, const char *path, struct mil_error *err);
/* Lines go to a temporary file until samples_continue puts it in the path's place; then they are
 * appended. */
enum mil_status samples_rewrite(struct sample_file *s, const char *path, struct mil_error *err);
enum mil_status samples_continue(struct sample_file *s, struct mil_error *err);
/* false: a pipe or a device. */
bool samples_are_file(const struct sample_file *s);
/* Members of the object of the present line. Text may be any bytes: what is not UTF-8 becomes
 * U+FFFD; NULL becomes null. */
void samples_text(struct sample_file *s, const char *key, const char *text);
void samples_number(struct sample_file *s, const char *key, double value);
void samples_integer(struct sample_file *s, const char *key, int64_t value);
void samples_bool(struct sample_file *s, const char *key, bool value);
/* An object as a member: what is added until samples_object_end goes into it. */
void samples_object(struct sample_file *s, const char *key);
void samples_object_end(struct sample_file *s);
/* A list as a member, its elements in turn (numbers are finite), its end. */
void samples_list(struct sample_file *s, const char *key);
void samples_list_text(struct sample_file *s, const char *text);
void samples_list_number(struct sample_file *s, double value);
void samples_list_end(struct sample_file *s);
/* End the line and write it. */
enum mil_status samples_end(struct sample_file *s, struct mil_error *err);
enum mil_status samples_close(struct sample_file *s, struct mil_error *err);

#endif
