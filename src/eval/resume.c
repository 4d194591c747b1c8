/* SPDX-License-Identifier: Apache-2.0 */
/* resume.c - the record of a run, and the lines of its file of samples.
 *
 * Settings are a flat JSON object, compared member by member; none but `limit` may change, and it
 * only grow.  The grader is not among them: lines hold outputs, which are judged again.  Nor are
 * batch size, threads and instruction set: the first two never change a bit, the last may change
 * the last bits of a logit, and a run may well be moved to another machine (the record says where
 * it began). */
#include "eval/resume.h"

#include <string.h>

enum { RECORD_VERSION = 1 };
#define RECORD_SUFFIX ".run.json"
#define PROGRAM "milora " MILORA_VERSION

static enum mil_status record_path(const char *samples, char out[PATH_CAP], struct mil_error *err) {
    int n = snprintf(out, PATH_CAP, "%s%s", samples, RECORD_SUFFIX);
    if (n > 0 && n < PATH_CAP) return MIL_OK;
    return error_set(err, MIL_USAGE, "samples_path is longer than %d bytes",
                     (int)(PATH_CAP - sizeof RECORD_SUFFIX));
}

enum mil_status resume_settings(const struct task_run *run, json_t **out, struct mil_error *err) {
    const struct mil_eval_options *o = run->options;
    *out = json_pack("{s:s, s:s, s:s, s:s?, s:s?, s:s?, s:s, s:I, s:I}", "program", PROGRAM, "task",
                     run->task->name, "scoring", o->scoring ? o->scoring : "generate", "data",
                     run->data_hash, "model", run->model_hash, "adapter", run->adapter_hash,
                     "compute_dtype", dtype_name(backend_act(run->model->backend)), "seed",
                     (json_int_t)o->seed, "limit", (json_int_t)o->limit);
    return *out ? MIL_OK : error_nomem(err, 0);
}

bool resume_by_this_program(const char *samples) {
    char path[PATH_CAP];
    json_t *record = NULL;
    if (!path_exists(samples) || record_path(samples, path, NULL) != MIL_OK ||
        json_read_file(path, &record, NULL) != MIL_OK)
        return false;
    const json_t *program = json_object_get(json_object_get(record, "settings"), "program");
    bool same = json_is_string(program) && strcmp(json_string_value(program), PROGRAM) == 0;
    json_decref(record);
    return same;
}

/* ---- comparing ---- */

static enum mil_status differs(const struct resume *r, const char *key, const json_t *had,
                               const json_t *have, struct mil_error *err) {
    struct str a = {0}, b = {0};
    if (had) json_append(had, -1, &a);
    if (have) json_append(have, -1, &b);
    error_set(err, MIL_MISMATCH,
              "%s: cannot be resumed: it was written with %s %.80s, this run has %.80s; set it "
              "back, or leave resume out to begin anew",
              r->path, key, had ? str_c(&a) : "unset", have ? str_c(&b) : "unset");
    str_release(&a);
    str_release(&b);
    return MIL_MISMATCH;
}

/* limit 0 is all rows. */
static bool limit_shrinks(const json_t *had, const json_t *have) {
    json_int_t before = json_integer_value(had), now = json_integer_value(have);
    return !json_is_integer(had) || (now > 0 && (before == 0 || now < before));
}

static enum mil_status compare(const struct resume *r, const json_t *had, const json_t *have,
                               struct mil_error *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)have, key, value) {
        const json_t *before = json_object_get(had, key);
        bool limit = strcmp(key, "limit") == 0;
        if (limit ? limit_shrinks(before, value) : !before || !json_equal(before, value))
            return differs(r, key, before, value, err);
    }
    json_object_foreach((json_t *)had, key, value) if (!json_object_get(have, key)) return differs(
        r, key, value, NULL, err);
    return MIL_OK;
}

static enum mil_status check_record(const struct resume *r, const json_t *settings,
                                    struct mil_error *err) {
    char path[PATH_CAP];
    json_t *record = NULL;
    int64_t version = 0;
    TRY(record_path(r->path, path, err));
    if (!path_exists(path))
        return error_set(err, MIL_INPUT,
                         "%s: cannot be resumed: %s, the record of its settings, is missing; leave "
                         "resume out to begin anew",
                         r->path, path);
    TRY(json_read_file(path, &record, err));
    enum mil_status st = json_member_i64(record, path, "version", true, RECORD_VERSION,
                                         RECORD_VERSION, &version, err);
    const json_t *had = json_object_get(record, "settings");
    if (st == MIL_OK && !json_is_object(had))
        st = error_set(err, MIL_INPUT, "%s: `settings` is missing, or no object", path);
    if (st == MIL_OK) st = compare(r, had, settings, err);
    json_decref(record);
    return st;
}

/* ---- lines ---- */

/* Is there a whole line left? */
static bool has_line(const struct resume *r) {
    return r->at < r->file.size && memchr(r->file.data + r->at, '\n', r->file.size - r->at) != NULL;
}

enum mil_status resume_begin(struct resume *r, const struct task_run *run, const json_t *settings,
                             struct mil_error *err) {
    memset(r, 0, sizeof *r);
    r->path = run->options->samples_path;
    if (!run->options->resume) return MIL_OK;
    if (!path_exists(r->path)) return MIL_OK;
    TRY(file_map(r->path, &r->file, err));
    if (has_line(r)) return check_record(r, settings, err);
    file_unmap(&r->file); /* it is about to be emptied */
    return MIL_OK;
}

enum mil_status resume_bad(const struct resume *r, const char *what, struct mil_error *err) {
    return error_set(err, MIL_INPUT,
                     "%s: line %lld: %s; take that line and those after it away, or leave resume "
                     "out to begin anew",
                     r->path, (long long)r->line, what);
}

enum mil_status resume_next(struct resume *r, json_t **line, struct mil_error *err) {
    *line = NULL;
    if (!has_line(r)) return MIL_OK;
    const char *text = (const char *)r->file.data + r->at;
    size_t n = (size_t)((const char *)memchr(text, '\n', r->file.size - r->at) - text);
    r->at += n + 1;
    r->line++;
    enum mil_status st = json_read_text(text, n, r->path, line, NULL);
    if (st == MIL_NOMEM) return error_nomem(err, n);
    if (st != MIL_OK) return resume_bad(r, "is no JSON", err);
    if (json_is_object(*line)) return MIL_OK;
    json_decref(*line);
    *line = NULL;
    return resume_bad(r, "is no object", err);
}

void resume_end(struct resume *r) {
    file_unmap(&r->file);
    memset(r, 0, sizeof *r);
}

/* ---- writing ---- */

static enum mil_status write_record(const struct task_run *run, const json_t *settings,
                                    struct mil_error *err) {
    char path[PATH_CAP];
    TRY(record_path(run->options->samples_path, path, err));
    json_t *root =
        json_pack("{s:i, s:s, s:s, s:O}", "version", RECORD_VERSION, "data_path", run->data_path,
                  "backend", backend_describe(run->model->backend), "settings", settings);
    if (!root) return error_nomem(err, 0);
    enum mil_status st = json_write_file(path, root, err);
    json_decref(root);
    return st;
}

enum mil_status resume_open_samples(const struct resume *r, const struct task_run *run,
                                    const json_t *settings, struct sample_file *f,
                                    struct mil_error *err) {
    const char *path = run->options->samples_path;
    if (has_line(r)) {
        TRY(samples_rewrite(f, path, err));
        return write_record(run, settings, err);
    }
    TRY(samples_open(f, path, err));
    return samples_are_file(f) ? write_record(run, settings, err) : MIL_OK;
}

enum mil_status resume_take(struct resume *r, const struct task_run *run, const json_t *settings,
                            struct sample_file *f, resume_take_fn take, void *ctx,
                            struct mil_error *err) {
    json_t *line = NULL;
    TRY(resume_begin(r, run, settings, err));
    TRY(resume_open_samples(r, run, settings, f, err));
    enum mil_status st = resume_next(r, &line, err);
    while (st == MIL_OK && line) {
        st = take(ctx, line, err);
        json_decref(line);
        if (st == MIL_OK) st = resume_next(r, &line, err);
    }
    return st == MIL_OK ? samples_continue(f, err) : st;
}
