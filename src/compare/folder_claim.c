/* SPDX-License-Identifier: Apache-2.0 */
/* folder_claim.c - whose folder it is, and who works in it: see folder.h.
 *
 * A folder is ours by the first line of its plan.yaml alone, which is looked at before anything is
 * written there; what a user keeps under the names that we use stays.  The lock is flock's: it goes
 * with the last process that has the descriptor, so nothing needs to be cleaned up after a kill. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "compare/folder.h"
#include "core/log.h"

/* ---- whose folder */

/* The first line of a plan.yaml that stands for a folder of ours.  Without it the file is a user's
 * own, and so is what lies beside it. */
#define MARK "# made by milora compare"

static enum mil_status is_ours(const char *plan, bool *out, struct mil_error *err) {
    struct line_reader lines;
    const char *line = NULL;
    size_t n;
    TRY(lines_open(&lines, plan, err));
    enum mil_status st = lines_next(&lines, &line, &n, err);
    *out = st == MIL_OK && line && str_starts(line, MARK);
    lines_close(&lines);
    return st;
}

/* Before anything is written there: the folder is ours, or has nothing that could be taken for a
 * part of it. */
static enum mil_status check_owner(const struct compare_plan *p, struct mil_error *err) {
    char path[PATH_CAP], **names;
    size_t n;
    bool ours = false;
    enum mil_status st = MIL_OK;
    TRY(path_join(path, p->output_dir, "plan.yaml", err));
    if (!path_exists(p->output_dir)) return MIL_OK;
    if (path_exists(path)) TRY(is_ours(path, &ours, err));
    if (ours) return MIL_OK;
    TRY(dir_list(p->output_dir, &names, &n, err));
    for (size_t i = 0; i < n && st == MIL_OK; i++)
        if (names[i][0] != '.' && !str_ends(names[i], ".log"))
            st = error_set(err, MIL_ACCESS,
                           "%s: is not empty (it holds %s) and no comparison's: name another "
                           "output_dir",
                           p->output_dir, names[i]);
    dir_list_free(names, n);
    return st;
}

/* The first member in which two objects differ. */
static const char *difference(const json_t *a, const json_t *b) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value) {
        if (!json_equal(value, json_object_get(b, key))) return key;
    }
    json_object_foreach((json_t *)b, key, value) {
        if (!json_object_get(a, key)) return key;
    }
    return NULL;
}

/* `old`: the document of `path`, the folder's plan.yaml. */
static enum mil_status compare_plans(const struct compare_plan *p, const char *path,
                                     const json_t *old, struct mil_error *err) {
    struct str inner = {0};
    const char *key = difference(old, p->identity);
    if (!key) return MIL_OK;
    const char *sub = difference(json_object_get(old, key), json_object_get(p->identity, key));
    if (sub) str_addf(&inner, ".%s", sub);
    error_set(err, MIL_MISMATCH,
              "%.200s: another plan made this folder ('%.100s%.100s' differs): name another "
              "output_dir, or remove this one",
              path, key, str_c(&inner));
    str_release(&inner);
    return MIL_MISMATCH;
}

static enum mil_status write_plan(const struct compare_plan *p, const char *path,
                                  struct mil_error *err) {
    struct str text = {0};
    str_add(&text, MARK "; another plan is refused here\n");
    if (*p->recipe_path) str_addf(&text, "# recipe: %s\n", p->recipe_path);
    enum mil_status st = yaml_write(p->identity, &text, err);
    if (st == MIL_OK) st = str_status(&text, err);
    if (st == MIL_OK) st = file_write(path, text.data, text.len, err);
    str_release(&text);
    return st;
}

enum mil_status folder_check(const struct compare_plan *p, struct mil_error *err) {
    char path[PATH_CAP];
    bool ours = false;
    TRY(path_join(path, p->output_dir, "plan.yaml", err));
    if (path_exists(path)) TRY(is_ours(path, &ours, err));
    if (!ours) return error_set(err, MIL_ACCESS, "%s: there is no comparison yet", p->output_dir);
    struct yaml_doc old = {0};
    TRY(yaml_read_file(path, &old, err));
    enum mil_status st = compare_plans(p, path, old.root, err);
    yaml_release(&old);
    return st;
}

/* Has a cell made the file? */
static enum mil_status any_has(const struct compare_plan *p, const char *name, bool *out,
                               struct mil_error *err) {
    char path[PATH_CAP];
    *out = false;
    for (size_t i = 0; i < p->n_cells && !*out; i++) {
        TRY(folder_path(p, i, name, path, err));
        *out = path_exists(path);
    }
    return MIL_OK;
}

/* Options of an analysis may be corrected while nothing was analysed by them: trainings that are
 * done would otherwise be lost to a wrong word in the plan's last line. */
static enum mil_status may_correct(const struct compare_plan *p, const json_t *old, bool *out,
                                   struct mil_error *err) {
    json_t *corrected = json_copy((json_t *)old);
    enum mil_status st = corrected ? MIL_OK : error_nomem(err, 0);
    for (int i = 0; i < COMPARE_ANALYSES && st == MIL_OK; i++) {
        char name[64];
        bool used = false;
        const char *key = compare_analysis_names[i];
        json_t *now = json_object_get(p->identity, key);
        snprintf(name, sizeof name, "%s.json", key);
        st = any_has(p, name, &used, err);
        if (st != MIL_OK || used) continue;
        if (!now)
            json_object_del(corrected, key);
        else if (json_object_set(corrected, key, now) != 0)
            st = error_nomem(err, 0);
    }
    *out = st == MIL_OK && json_equal(corrected, p->identity);
    json_decref(corrected);
    return st;
}

/* Files of the untouched model's folder that a comparison writes; others stay. */
static enum mil_status remove_base(const struct compare_plan *p, struct mil_error *err) {
    static const char *const begins[] = {
        "eval-", "samples-", "model_outputs-", "log.txt", "usage.json", "cell.json", "tmp-"};
    char base[PATH_CAP], path[PATH_CAP], **names;
    size_t n;
    enum mil_status st = MIL_OK;
    TRY(folder_path(p, BASE_CELL, "", base, err));
    if (!path_is_dir(base)) return MIL_OK;
    TRY(dir_list(base, &names, &n, err));
    for (size_t i = 0; i < n && st == MIL_OK; i++) {
        bool ours = false;
        for (size_t k = 0; k < sizeof begins / sizeof *begins; k++)
            ours = ours || str_starts(names[i], begins[k]);
        if (ours) st = path_join(path, base, names[i], err);
        if (ours && st == MIL_OK && unlink(path) != 0) st = error_errno(err, errno, "%s", path);
    }
    dir_list_free(names, n);
    return st;
}

/* As long as no cell was begun, a plan may be corrected: what was graded of the base goes. */
static enum mil_status claim_other(const struct compare_plan *p, const char *path,
                                   const json_t *old, struct mil_error *err) {
    char cells[PATH_CAP];
    bool may;
    TRY(may_correct(p, old, &may, err));
    TRY(path_join(cells, p->output_dir, "cells", err));
    if (!may && path_exists(cells)) return compare_plans(p, path, old, err);
    if (!may) TRY(remove_base(p, err));
    return write_plan(p, path, err);
}

static enum mil_status claim_again(const struct compare_plan *p, const char *path,
                                   struct mil_error *err) {
    struct yaml_doc old = {0};
    TRY(yaml_read_file(path, &old, err));
    enum mil_status st = MIL_OK;
    if (!json_equal(old.root, p->identity)) st = claim_other(p, path, old.root, err);
    yaml_release(&old);
    return st;
}

static enum mil_status claim(const struct compare_plan *p, struct mil_error *err) {
    char path[PATH_CAP];
    TRY(check_owner(p, err));
    TRY(path_join(path, p->output_dir, "plan.yaml", err));
    return path_exists(path) ? claim_again(p, path, err) : write_plan(p, path, err);
}

/* ---- the lock */

/* The process that wrote the lock's file. */
static long owner_of(int fd) {
    char text[32] = "";
    if (pread(fd, text, sizeof text - 1, 0) <= 0) return 0;
    return strtol(text, NULL, 10);
}

static enum mil_status wait_lock(const struct compare_plan *p, int fd, struct mil_error *err) {
    enum { MOST_SECONDS = 120 };
    struct timespec nap = {0, 50000000};
    for (int i = 0; i < MOST_SECONDS * 20; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return MIL_OK;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return error_errno(err, errno, "%s: cannot be locked", p->output_dir);
        long owner = owner_of(fd);
        if (owner > 0 && (kill((pid_t)owner, 0) == 0 || errno != ESRCH))
            return error_set(err, MIL_ACCESS,
                             "%s: another 'milora compare' (process %ld) works in it; wait for it, "
                             "or name another output_dir",
                             p->output_dir, owner);
        if (i == 10) log_info("waiting for a step of a killed comparison to end");
        nanosleep(&nap, NULL);
    }
    return error_set(err, MIL_ACCESS,
                     "%s: a step of a killed comparison still runs in it; wait for it, or end it",
                     p->output_dir);
}

enum mil_status folder_open(const struct compare_plan *p, int *lock, struct mil_error *err) {
    char path[PATH_CAP], text[32];
    *lock = -1;
    TRY(check_owner(p, err)); /* a lock is a file, too */
    TRY(dir_make(p->output_dir, err));
    TRY(path_join(path, p->output_dir, ".lock", err));
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return error_errno(err, errno, "%s", path);
    enum mil_status st = wait_lock(p, fd, err);
    if (st == MIL_OK) {
        int n = snprintf(text, sizeof text, "%ld\n", (long)getpid());
        if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)n, 0) != n)
            st = error_errno(err, errno, "%s", path);
    }
    if (st == MIL_OK) st = claim(p, err);
    if (st != MIL_OK) {
        close(fd);
        return st;
    }
    *lock = fd;
    return MIL_OK;
}
