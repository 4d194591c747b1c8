/* SPDX-License-Identifier: Apache-2.0 */
/* folder.c - see folder.h: paths, and the small files of a cell. */
#include "compare/folder.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- paths */

void folder_relative(const struct compare_plan *p, size_t cell, char out[COMPARE_ID + 64]) {
    char id[COMPARE_ID + 32];
    if (cell == BASE_CELL) {
        snprintf(out, COMPARE_ID + 64, "base");
        return;
    }
    plan_cell_id(p, cell, id);
    snprintf(out, COMPARE_ID + 64, "cells/%s", id);
}

enum mil_status folder_path(const struct compare_plan *p, size_t cell, const char *name,
                            char out[PATH_CAP], struct mil_error *err) {
    char relative[COMPARE_ID + 64], tail[COMPARE_ID + 64 + 256];
    folder_relative(p, cell, relative);
    snprintf(tail, sizeof tail, "%s%s%.200s", relative, *name ? "/" : "", name);
    return path_join(out, p->output_dir, tail, err);
}

/* ---- small files of a cell */

static enum mil_status read_object(const struct compare_plan *p, size_t cell, const char *name,
                                   json_t **out, struct mil_error *err) {
    char path[PATH_CAP];
    *out = NULL;
    TRY(folder_path(p, cell, name, path, err));
    if (!path_exists(path)) return MIL_OK;
    TRY(json_read_file(path, out, err));
    if (json_is_object(*out)) return MIL_OK;
    json_decref(*out);
    *out = NULL;
    return error_set(err, MIL_INPUT, "%s: must be an object", path);
}

enum mil_status usage_read(const struct compare_plan *p, size_t cell, json_t **out,
                           struct mil_error *err) {
    TRY(read_object(p, cell, "usage.json", out, err));
    if (!*out) *out = json_object();
    return *out ? MIL_OK : error_nomem(err, 0);
}

static double member(const json_t *o, const char *key) {
    return json_number_value(json_object_get(o, key));
}

/* A step's sums with one more process. */
static enum mil_status add_run(json_t *all, const char *step, const struct process_result *run,
                               struct mil_error *err) {
    const json_t *old = json_object_get(all, step);
    double peak = fmax(member(old, "peak_rss_bytes"), (double)run->peak_rss_bytes);
    json_t *now =
        json_pack("{sf sf sI sI sb}", "seconds", member(old, "seconds") + run->seconds,
                  "cpu_seconds", member(old, "cpu_seconds") + run->cpu_seconds, "peak_rss_bytes",
                  (json_int_t)peak, "runs", (json_int_t)member(old, "runs") + 1, "done", run->ok);
    return now && json_object_set_new(all, step, now) == 0 ? MIL_OK : error_nomem(err, 0);
}

static enum mil_status write_usage(const struct compare_plan *p, size_t cell, const json_t *all,
                                   struct mil_error *err) {
    char path[PATH_CAP];
    TRY(folder_path(p, cell, "usage.json", path, err));
    return json_write_file(path, all, err);
}

enum mil_status usage_add(const struct compare_plan *p, size_t cell, const char *step,
                          const struct process_result *run, struct mil_error *err) {
    json_t *all;
    TRY(usage_read(p, cell, &all, err));
    json_object_del(all, "running");
    enum mil_status st = add_run(all, step, run, err);
    if (st == MIL_OK) st = write_usage(p, cell, all, err);
    json_decref(all);
    return st;
}

enum mil_status usage_note(const struct compare_plan *p, size_t cell, const char *step,
                           const struct process_result *so_far, struct mil_error *err) {
    json_t *all;
    TRY(usage_read(p, cell, &all, err));
    json_t *now =
        json_pack("{ss sf sf sI}", "step", step, "seconds", so_far->seconds, "cpu_seconds",
                  so_far->cpu_seconds, "peak_rss_bytes", (json_int_t)so_far->peak_rss_bytes);
    enum mil_status st =
        now && json_object_set_new(all, "running", now) == 0 ? MIL_OK : error_nomem(err, 0);
    if (st == MIL_OK) st = write_usage(p, cell, all, err);
    json_decref(all);
    return st;
}

enum mil_status usage_close(const struct compare_plan *p, size_t cell, struct mil_error *err) {
    json_t *all;
    TRY(usage_read(p, cell, &all, err));
    const json_t *running = json_object_get(all, "running");
    const char *step = json_string_value(json_object_get(running, "step"));
    struct process_result run = {.seconds = member(running, "seconds"),
                                 .cpu_seconds = member(running, "cpu_seconds"),
                                 .peak_rss_bytes = (uint64_t)member(running, "peak_rss_bytes")};
    enum mil_status st = step ? add_run(all, step, &run, err) : MIL_OK;
    if (st == MIL_OK && step) {
        json_object_del(all, "running");
        st = write_usage(p, cell, all, err);
    }
    json_decref(all);
    return st;
}

enum mil_status cell_state_read(const struct compare_plan *p, size_t cell, json_t **out,
                                struct mil_error *err) {
    return read_object(p, cell, "cell.json", out, err);
}

enum mil_status cell_state_write(const struct compare_plan *p, size_t cell, const char *step,
                                 const char *message, struct mil_error *err) {
    char path[PATH_CAP], id[COMPARE_ID + 64];
    TRY(folder_path(p, cell, "cell.json", path, err));
    folder_relative(p, cell, id);
    json_t *root =
        json_pack("{si ss ss}", "version", 1, "cell", id, "status", message ? "failed" : "done");
    enum mil_status st = root ? MIL_OK : error_nomem(err, 0);
    if (root && message &&
        (json_object_set_new(root, "step", json_string(step)) != 0 ||
         json_object_set_new(root, "message", json_string(message)) != 0))
        st = error_nomem(err, 0);
    if (st == MIL_OK) st = json_write_file(path, root, err);
    json_decref(root);
    return st;
}

/* ---- what stays */

static bool goes(const char *name, enum compare_keep keep) {
    if (keep == KEEP_ALL) return false;
    if (str_starts(name, "checkpoint-")) return true;
    return keep == KEEP_NONE &&
           (str_ends(name, ".safetensors") || str_ends(name, ".safetensors.index.json"));
}

enum mil_status folder_thin(const struct compare_plan *p, size_t cell, struct mil_error *err) {
    char train[PATH_CAP], path[PATH_CAP], **names;
    size_t n;
    enum mil_status st = MIL_OK;
    TRY(folder_path(p, cell, "train", train, err));
    if (!path_is_dir(train)) return MIL_OK;
    TRY(dir_list(train, &names, &n, err));
    for (size_t i = 0; i < n && st == MIL_OK; i++) {
        if (!goes(names[i], p->keep)) continue;
        st = path_join(path, train, names[i], err);
        if (st == MIL_OK && path_is_dir(path))
            st = dir_remove(path, err);
        else if (st == MIL_OK && unlink(path) != 0 && errno != ENOENT)
            st = error_errno(err, errno, "%s", path);
    }
    dir_list_free(names, n);
    return st;
}
