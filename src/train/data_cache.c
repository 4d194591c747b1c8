/* SPDX-License-Identifier: Apache-2.0 */
/* data_cache.c - the directory of tokenised data: look up, tokenise, keep, make room.
 *
 * An entry is written under a temporary name and renamed (io/file.h); two processes that miss the
 * same one both make it, and the second replaces a file by an equal one.  The key is computed from
 * the data before and after they are tokenised: a file that changed in between is not kept.  Nothing
 * that goes wrong here fails a run. */
#include "train/data_cache.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/log.h"
#include "core/mem.h"
#include "io/file.h"
#include "io/sealed.h"

/* A temporary file that nobody has written to for an hour is what a kill left. */
enum { STALE_SECONDS = 3600 };

/* ---- place ---- */

/* The user's cache folder, by the XDG Base Directory Specification; false: there is none. */
static bool user_directory(char dir[PATH_CAP]) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (cache && *cache == '/') return path_join(dir, cache, "milora/data", NULL) == MIL_OK;
    return home && *home == '/' && path_join(dir, home, ".cache/milora/data", NULL) == MIL_OK;
}

/* The data may be nobody else's business: what is created is for its owner alone. */
static enum mil_status make_directory(const char *dir, struct mil_error *err) {
    if (path_is_dir(dir)) return MIL_OK;
    TRY(dir_make(dir, err));
    chmod(dir, 0700);
    return MIL_OK;
}

/* ---- room ---- */

struct candidate {
    char path[PATH_CAP];
    uint64_t bytes;
    struct timespec time;
};

/* The sum of all entries, and the one that was used longest ago, but for `spare`. */
static uint64_t survey(const char *dir, char **names, size_t n, const char *spare,
                       struct candidate *oldest) {
    uint64_t total = 0;
    *oldest = (struct candidate){.path = ""};
    for (size_t i = 0; i < n; i++) {
        char path[PATH_CAP];
        struct stat s;
        bool temporary = sealed_is_temporary(names[i]);
        if (!temporary && !data_entry_is_name(names[i])) continue;
        if (path_join(path, dir, names[i], NULL) != MIL_OK || lstat(path, &s) != 0) continue;
        if (temporary && time(NULL) - s.st_mtime > STALE_SECONDS && unlink(path) == 0) continue;
        if (strcmp(names[i], spare) == 0) continue; /* will be replaced */
        total += (uint64_t)s.st_size;
        if (temporary) continue;
        bool older =
            s.st_mtim.tv_sec < oldest->time.tv_sec ||
            (s.st_mtim.tv_sec == oldest->time.tv_sec && s.st_mtim.tv_nsec < oldest->time.tv_nsec);
        if (oldest->path[0] && !older) continue;
        memcpy(oldest->path, path, sizeof path);
        oldest->bytes = (uint64_t)s.st_size;
        oldest->time = s.st_mtim;
    }
    return total;
}

/* Remove entries until `need` bytes fit under the limit. */
static enum mil_status make_room(const char *dir, const char *name, uint64_t need,
                                 struct mil_error *err) {
    struct candidate oldest;
    if (need > DATA_CACHE_LIMIT)
        return error_set(err, MIL_IO, "%s: %llu bytes of tokenised data, the limit is %llu", dir,
                         (unsigned long long)need, (unsigned long long)DATA_CACHE_LIMIT);
    for (;;) {
        char **names;
        size_t n;
        TRY(dir_list(dir, &names, &n, err));
        uint64_t total = survey(dir, names, n, name, &oldest);
        dir_list_free(names, n);
        if (total <= DATA_CACHE_LIMIT - need) return MIL_OK;
        if (!oldest.path[0] || unlink(oldest.path) != 0)
            return error_set(err, MIL_IO, "%s: no room for an entry of %llu bytes", dir,
                             (unsigned long long)need);
    }
}

/* ---- the cache ---- */

/* Something else in the entry's place (a link, a device) would be written through. */
static void clear_place(const char *path) {
    struct stat s;
    if (lstat(path, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode)) unlink(path);
}

static enum mil_status keep_entry(const char *dir, const char key[HASH_HEX],
                                  const struct dataset *d, struct mil_error *err) {
    char name[DATA_ENTRY_NAME], path[PATH_CAP];
    data_entry_name(key, name);
    TRY(make_directory(dir, err));
    TRY(path_join(path, dir, name, err));
    TRY(make_room(dir, name, data_entry_bytes(d), err));
    clear_place(path);
    return data_entry_write(path, key, d, err);
}

struct cache {
    const char *dir, *what;
    bool keep, given; /* given: by the user, who wants to know why it does not work */
};

static enum mil_status make_entry(const struct cache *c, const char key[HASH_HEX],
                                  const struct data_request *q, struct dataset *out,
                                  struct mil_error *err) {
    struct mil_error why = {0};
    char again[HASH_HEX];
    uint64_t bytes;
    TRY(dataset_load(q->sources, q->n, q->tokenizer, q->options, out, err));
    if (!c->keep || data_entry_key(q, again, &bytes, &why) != MIL_OK || strcmp(key, again) != 0)
        return MIL_OK;
    if (keep_entry(c->dir, key, out, &why) != MIL_OK && c->given)
        log_warning("%s: not kept in the cache of tokenised data: %s", c->what, why.message);
    return MIL_OK;
}

/* A hit renews the entry's time, by which room is made. */
static enum mil_status load_through(const struct cache *c, const char key[HASH_HEX],
                                    const struct data_request *q, struct dataset *out,
                                    struct mil_error *err) {
    char name[DATA_ENTRY_NAME], path[PATH_CAP];
    struct mil_error why = {0};
    bool found = false;
    data_entry_name(key, name);
    TRY(path_join(path, c->dir, name, err));
    enum mil_status st = data_entry_read(path, key, q, out, &found, &why);
    if (st == MIL_OK && found) {
        utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
        log_info("%s: tokenised before, taken from %s", c->what, path);
        return MIL_OK;
    }
    if (st != MIL_OK)
        log_warning("%s: an entry of the cache of tokenised data is not used and made anew: %s",
                    c->what, why.message);
    return make_entry(c, key, q, out, err);
}

enum mil_status data_cache_load(const char *setting, bool keep, const char *what,
                                const struct data_request *q, struct dataset *out,
                                struct mil_error *err) {
    char dir[PATH_CAP], key[HASH_HEX];
    struct cache c = {setting, what, keep, true};
    uint64_t bytes = 0;
    bool off = strcmp(setting, "off") == 0, worth = true;
    if (strcmp(setting, "auto") == 0) {
        off = !user_directory(dir);
        c.dir = dir;
        c.given = false;
    }
    if (!off) worth = data_entry_key(q, key, &bytes, NULL) == MIL_OK;
    if (!c.given) worth = worth && bytes >= DATA_CACHE_WORTH;
    if (off || !worth) /* also where the data cannot be read: dataset_load says why */
        return dataset_load(q->sources, q->n, q->tokenizer, q->options, out, err);
    return load_through(&c, key, q, out, err);
}
