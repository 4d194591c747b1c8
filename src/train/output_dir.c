/* SPDX-License-Identifier: Apache-2.0 */
/* output_dir.c - an output directory: may a run start in it, which checkpoints are there, which of
 * them go.  Only names that a run itself makes are ever removed, and to make room for a fresh run
 * only beside the train_config.yaml that every run writes first: model.safetensors or a directory
 * `runs` may as well be somebody's model and results. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "train/run.h"

static const char mark[] = "train_config.yaml", tensorboard[] = "runs";

static const char *const own_files[] = {
    "trainer_log.jsonl",
    "profile.json",
    mark,
    "adapter_model.safetensors",
    "adapter_config.json",
    "milora.json",
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "added_tokens.json",
    "vocab.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "merges.txt",
    tensorboard,
    "trainer_state.json",
};

/* N of "checkpoint-N", or -1. */
static int64_t checkpoint_step(const char *name) {
    static const char prefix[] = "checkpoint-";
    if (!str_starts(name, prefix)) return -1;
    const char *digits = name + sizeof prefix - 1;
    size_t n = strspn(digits, "0123456789");
    if (n == 0 || n > 15 || digits[n]) return -1;
    return strtoll(digits, NULL, 10);
}

/* A log of the surrounding shell, or a hidden file: not part of a run. */
static bool stranger(const char *name) {
    return name[0] == '.' || str_ends(name, ".log");
}

static bool is_own(const char *name) {
    for (size_t i = 0; i < sizeof own_files / sizeof *own_files; i++)
        if (!strcmp(name, own_files[i])) return true;
    return checkpoint_step(name) >= 0;
}

static enum mil_status remove_entry(const char *dir, const char *name, struct mil_error *err) {
    char path[PATH_CAP];
    TRY(path_join(path, dir, name, err));
    if (unlink(path) == 0 || errno == ENOENT) return MIL_OK;
    if (path_is_dir(path)) return dir_remove(path, err);
    return error_errno(err, errno, "%s", path);
}

/* Of another program's runs and of a comparison's folder nothing goes. */
static enum mil_status remove_tensorboard(const char *dir, struct mil_error *err) {
    char path[PATH_CAP], **names;
    size_t n;
    enum mil_status st = MIL_OK;
    TRY(path_join(path, dir, tensorboard, err));
    if (!path_is_dir(path)) return MIL_OK;
    TRY(dir_list(path, &names, &n, err));
    for (size_t i = 0; i < n && st == MIL_OK; i++)
        if (str_starts(names[i], "events.out.tfevents.")) st = remove_entry(path, names[i], err);
    dir_list_free(names, n);
    if (st == MIL_OK) rmdir(path); /* where nothing else is in it */
    return st;
}

/* What a directory holds, as far as it matters to a run that would start there. */
struct contents {
    const char *any, *own; /* the first name that is no stranger's, that a run makes; or NULL */
    bool marked, checkpoint;
};

static struct contents look_through(char *const *names, size_t n) {
    struct contents c = {0};
    for (size_t i = 0; i < n; i++) {
        if (stranger(names[i])) continue;
        if (!c.any) c.any = names[i];
        if (!c.own && is_own(names[i])) c.own = names[i];
        c.marked = c.marked || strcmp(names[i], mark) == 0;
        c.checkpoint = c.checkpoint || checkpoint_step(names[i]) >= 0;
    }
    return c;
}

enum mil_status output_check(const char *dir, bool overwrite, struct mil_error *err) {
    char **names;
    size_t n;
    enum mil_status st = MIL_OK;
    if (!path_exists(dir)) return MIL_OK;
    TRY(dir_list(dir, &names, &n, err));
    struct contents c = look_through(names, n);
    if (overwrite && c.own && !c.marked)
        st = error_set(err, MIL_ACCESS,
                       "%.250s: output_dir holds %.100s but no %s, so it was not made by a "
                       "training and is not replaced; choose another",
                       dir, c.own, mark);
    else if (!overwrite && c.any)
        st = error_set(err, MIL_ACCESS,
                       "%.250s: output_dir is not empty (it holds %.100s); %s"
                       "replace it by overwrite_output_dir=true, or choose another",
                       dir, c.any, c.checkpoint ? "go on with it by --resume last, " : "");
    dir_list_free(names, n);
    return st;
}

/* The mark goes last: a run that is killed here leaves a directory that is still its own. */
enum mil_status output_prepare(const char *dir, struct mil_error *err) {
    char **names;
    size_t n;
    enum mil_status st = MIL_OK;
    TRY(dir_make(dir, err));
    if (access(dir, W_OK | X_OK) != 0) return error_errno(err, errno, "%s", dir);
    TRY(dir_list(dir, &names, &n, err));
    struct contents c = look_through(names, n);
    for (size_t i = 0; i < n && c.marked && st == MIL_OK; i++) {
        if (!is_own(names[i]) || strcmp(names[i], mark) == 0) continue;
        st = strcmp(names[i], tensorboard) == 0 ? remove_tensorboard(dir, err)
                                                : remove_entry(dir, names[i], err);
    }
    if (st == MIL_OK && c.marked) st = remove_entry(dir, mark, err);
    dir_list_free(names, n);
    return st;
}

/* The process of "tmp-<own name>-<pid>[-<attempt>]" (io/atomic.c), or 0. */
static long half_made_by(const char *name) {
    if (!str_starts(name, "tmp-")) return 0;
    for (const char *at = strchr(name + 4, '-'); at; at = strchr(at + 1, '-')) {
        char own[64];
        int n = snprintf(own, sizeof own, "%.*s", (int)(at - name - 4), name + 4);
        if (n < (int)sizeof own && is_own(own) && at[1 + strspn(at + 1, "0123456789-")] == '\0') {
            long process = strtol(at + 1, NULL, 10);
            return process > 0 ? process : 0;
        }
    }
    return 0;
}

void output_sweep(const char *dir) {
    char **names;
    size_t n;
    if (dir_list(dir, &names, &n, NULL) != MIL_OK) return;
    for (size_t i = 0; i < n; i++) {
        long process = half_made_by(names[i]);
        if (process == 0) continue;
        /* Another living run's is left alone. */
        if (process != (long)getpid() && (kill((pid_t)process, 0) == 0 || errno != ESRCH)) continue;
        remove_entry(dir, names[i], NULL);
    }
    dir_list_free(names, n);
}

enum mil_status output_last_checkpoint(const char *dir, char path[PATH_CAP],
                                       struct mil_error *err) {
    char **names;
    size_t n;
    int64_t best = -1;
    char name[64];
    if (!path_is_dir(dir))
        return error_set(err, MIL_ACCESS, "%s: there is no such directory to resume from", dir);
    TRY(dir_list(dir, &names, &n, err));
    for (size_t i = 0; i < n; i++)
        if (checkpoint_step(names[i]) > best) best = checkpoint_step(names[i]);
    dir_list_free(names, n);
    if (best < 0)
        return error_set(err, MIL_ACCESS,
                         "%s: there is no checkpoint-N to resume from; start without --resume",
                         dir);
    snprintf(name, sizeof name, "checkpoint-%" PRId64, best);
    return path_join(path, dir, name, err);
}

static int by_step(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

enum mil_status output_rotate(const char *dir, int64_t keep, int64_t written, int64_t best,
                              struct mil_error *err) {
    char **names;
    size_t n, found = 0;
    enum mil_status st = MIL_OK;
    if (keep <= 0) return MIL_OK;
    TRY(dir_list(dir, &names, &n, err));
    int64_t *steps = mem_alloc(MEM_OTHER, n, sizeof *steps);
    if (!steps) st = error_nomem(err, n * sizeof *steps);
    for (size_t i = 0; i < n && st == MIL_OK; i++)
        if (checkpoint_step(names[i]) >= 0) steps[found++] = checkpoint_step(names[i]);
    dir_list_free(names, n);
    if (st == MIL_OK) qsort(steps, found, sizeof *steps, by_step);
    size_t excess = found > (size_t)keep ? found - (size_t)keep : 0;
    for (size_t i = 0; i < found && excess > 0 && st == MIL_OK; i++) {
        char name[64];
        if (steps[i] == written || steps[i] == best) continue;
        snprintf(name, sizeof name, "checkpoint-%" PRId64, steps[i]);
        st = remove_entry(dir, name, err);
        excess--;
    }
    mem_free(steps);
    return st;
}
