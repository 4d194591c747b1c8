/* SPDX-License-Identifier: Apache-2.0 */
/* svd_cache.c - the directory of decompositions: look up, compute, keep, evict.
 *
 * The lock guards the counters, the list of names in use and the making of room; hashing, reading,
 * computing and writing go on outside of it, side by side.  Two threads or processes that want the
 * same entry both compute it, and the second rename replaces a file by an equal one.
 *
 * Room is made before an entry is written, by what the directory holds, so that processes that share
 * it agree without talking to each other.  It is looked through at the first entry, when the limit
 * is near, and after every SURVEY_EVERY entries: on a network disk with thousands of files each look
 * takes a second.  So between processes the limit can be passed by that many entries each.  "Recently" is the
 * modification time, renewed at every hit: access times are often not kept. */
#include "adapt/svd_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "adapt/svd_entry.h"
#include "core/mem.h"
#include "io/file.h"
#include "io/sealed.h"

/* A temporary file that nobody has written to for an hour is what a kill left. */
enum { STALE_SECONDS = 3600, SURVEY_EVERY = 16 };

struct svd_cache {
    char dir[PATH_CAP];
    struct svd_cache_options options;
    pthread_mutex_t lock;
    char (*used)[SVD_ENTRY_NAME]; /* read or written by this object: never evicted */
    size_t n_used, cap_used;
    double computed;  /* seconds */
    uint64_t total;   /* bytes in the directory, as far as this object knows */
    int until_survey; /* entries that may be written by that knowledge */
    uint64_t flying;  /* bytes promised to entries that are being written */
    bool unwritable;  /* one failure ends the writing of this object */
    struct svd_cache_stats stats;
    char warning[400];
    size_t warnings; /* since it was last taken */
};

enum mil_status svd_cache_open(const struct svd_cache_options *o, struct svd_cache **out,
                               struct mil_error *err) {
    *out = NULL;
    if (path_exists(o->dir) && !path_is_dir(o->dir))
        return error_set(err, MIL_ACCESS, "%s: is not a directory, it cannot hold decompositions",
                         o->dir);
    struct svd_cache *c = mem_calloc(MEM_OTHER, 1, sizeof *c);
    if (!c) return error_nomem(err, sizeof *c);
    enum mil_status st = path_join(c->dir, "", o->dir, err);
    c->options = *o;
    c->options.dir = c->dir;
    if (st == MIL_OK && pthread_mutex_init(&c->lock, NULL) != 0) st = error_nomem(err, 0);
    if (st == MIL_OK)
        *out = c;
    else
        mem_free(c);
    return st;
}

void svd_cache_free(struct svd_cache **c) {
    if (!c || !*c) return;
    pthread_mutex_destroy(&(*c)->lock);
    mem_free((*c)->used);
    mem_free(*c);
    *c = NULL;
}

struct svd_cache_stats svd_cache_stats(struct svd_cache *c) {
    pthread_mutex_lock(&c->lock);
    struct svd_cache_stats s = c->stats;
    pthread_mutex_unlock(&c->lock);
    return s;
}

bool svd_cache_warning(struct svd_cache *c, char line[512]) {
    pthread_mutex_lock(&c->lock);
    size_t n = c->warnings;
    if (n == 1) snprintf(line, 512, "%s", c->warning);
    if (n > 1) snprintf(line, 512, "%s (and %zu more)", c->warning, n - 1);
    c->warnings = 0;
    pthread_mutex_unlock(&c->lock);
    return n > 0;
}

/* With the lock held. */
static void warn(struct svd_cache *c, const char *what, const struct mil_error *err) {
    if (c->warnings++ == 0)
        snprintf(c->warning, sizeof c->warning, "%s: %.320s", what, err->message);
}

/* With the lock held.  Without memory the name is merely not protected. */
static void mark_used(struct svd_cache *c, const char *name) {
    for (size_t i = 0; i < c->n_used; i++)
        if (strcmp(c->used[i], name) == 0) return;
    if (c->n_used == c->cap_used) {
        size_t cap = c->cap_used ? 2 * c->cap_used : 64;
        void *grown = mem_realloc(MEM_OTHER, c->used, cap, sizeof *c->used);
        if (!grown) return;
        c->used = grown;
        c->cap_used = cap;
    }
    snprintf(c->used[c->n_used++], SVD_ENTRY_NAME, "%s", name);
}

static bool is_used(const struct svd_cache *c, const char *name) {
    for (size_t i = 0; i < c->n_used; i++)
        if (strcmp(c->used[i], name) == 0) return true;
    return false;
}

/* ---- room ---- */

struct candidate {
    const char *name;
    uint64_t bytes;
    struct timespec time;
};

static int oldest_first(const void *a, const void *b) {
    const struct candidate *x = a, *y = b;
    if (x->time.tv_sec != y->time.tv_sec) return x->time.tv_sec < y->time.tv_sec ? -1 : 1;
    if (x->time.tv_nsec != y->time.tv_nsec) return x->time.tv_nsec < y->time.tv_nsec ? -1 : 1;
    return strcmp(x->name, y->name);
}

static bool remove_name(const struct svd_cache *c, const char *name) {
    char path[PATH_CAP];
    return path_join(path, c->dir, name, NULL) == MIL_OK && unlink(path) == 0;
}

/* The entries that may go, into list; returns the bytes of all, but for the one to be replaced. */
static uint64_t survey(const struct svd_cache *c, char **names, size_t n, const char *replaced,
                       struct candidate *list, size_t *n_list) {
    uint64_t total = 0;
    for (size_t i = 0; i < n; i++) {
        char path[PATH_CAP];
        struct stat s;
        bool temporary = sealed_is_temporary(names[i]);
        if (!temporary && !svd_entry_is_name(names[i])) continue;
        if (path_join(path, c->dir, names[i], NULL) != MIL_OK || lstat(path, &s) != 0) continue;
        if (temporary && time(NULL) - s.st_mtime > STALE_SECONDS && unlink(path) == 0) continue;
        if (strcmp(names[i], replaced) == 0) continue;
        total += (uint64_t)s.st_size;
        if (!temporary && !is_used(c, names[i]))
            list[(*n_list)++] = (struct candidate){names[i], (uint64_t)s.st_size, s.st_mtim};
    }
    return total;
}

/* Oldest first, until at most `most` bytes are left; how many are. */
static uint64_t evict(struct svd_cache *c, struct candidate *list, size_t n, uint64_t total,
                      uint64_t most) {
    if (n) qsort(list, n, sizeof *list, oldest_first);
    for (size_t i = 0; i < n && total > most; i++)
        if (remove_name(c, list[i].name)) {
            total -= list[i].bytes;
            c->stats.evicted++;
        }
    return total;
}

/* `need` more bytes fit, or MIL_IO and nothing is evicted. */
static enum mil_status survey_and_evict(struct svd_cache *c, const char *replaced, uint64_t need,
                                        uint64_t limit, struct mil_error *err) {
    char **names;
    size_t n, n_list = 0;
    TRY(dir_list(c->dir, &names, &n, err));
    struct candidate *list = mem_alloc(MEM_OTHER, n, sizeof *list);
    enum mil_status st = list ? MIL_OK : error_nomem(err, n * sizeof *list);
    uint64_t total = c->flying + (list ? survey(c, names, n, replaced, list, &n_list) : 0);
    uint64_t fixed = total; /* what flies may be there already, too: counted twice, never missed */
    for (size_t i = 0; i < n_list; i++) fixed -= list[i].bytes;
    if (st == MIL_OK && (need > limit || fixed > limit - need))
        st = error_set(err, MIL_IO,
                       "%.200s: an entry of %llu bytes does not fit beside those of this run, the "
                       "limit is %llu bytes; raise it",
                       c->dir, (unsigned long long)need, (unsigned long long)limit);
    if (st == MIL_OK) c->total = evict(c, list, n_list, total, limit - need);
    mem_free(list);
    dir_list_free(names, n);
    return st;
}

/* With the lock held. */
static enum mil_status make_room(struct svd_cache *c, const char *replaced, uint64_t need,
                                 struct mil_error *err) {
    uint64_t limit = c->options.limit_bytes ? c->options.limit_bytes : UINT64_MAX;
    if (c->until_survey > 0 && c->total <= limit && need <= limit - c->total) {
        c->until_survey--;
    } else {
        TRY(survey_and_evict(c, replaced, need, limit, err));
        c->until_survey = SURVEY_EVERY - 1;
    }
    c->total += need;
    c->flying += need;
    return MIL_OK;
}

/* ---- keeping ---- */

/* Is this result to be kept?  Marks its name as used. */
static enum mil_status prepare(struct svd_cache *c, const char *name, const struct svd_result *r,
                               struct mil_error *err) {
    TRY(dir_make(c->dir, err));
    enum mil_status st = make_room(c, name, svd_entry_bytes(r->m, r->n, r->rank), err);
    if (st == MIL_OK) mark_used(c, name);
    return st;
}

/* Anything in the entry's place that is no regular file would be written through. */
static void clear_place(const char *path) {
    struct stat s;
    if (lstat(path, &s) == 0 && !S_ISREG(s.st_mode) && !S_ISDIR(s.st_mode)) unlink(path);
}

static bool worth_keeping(struct svd_cache *c, const struct svd_result *r) {
    c->computed += r->seconds;
    return !c->unwritable && c->computed >= c->options.after_seconds;
}

/* replace: what is in its place is not to be trusted; otherwise an entry of a larger rank, made by
 * somebody else in the meantime, stays. */
static void keep(struct svd_cache *c, const char *path, const char *name,
                 const struct svd_entry_id *id, const int64_t *index, const struct svd_result *r,
                 bool replace) {
    struct mil_error err = {0};
    pthread_mutex_lock(&c->lock);
    c->stats.misses++;
    bool write = worth_keeping(c, r);
    enum mil_status st = write ? prepare(c, name, r, &err) : MIL_OK;
    pthread_mutex_unlock(&c->lock);
    if (!write) return;
    bool promised = st == MIL_OK;
    if (st == MIL_OK && (replace || svd_entry_rank(path) <= r->rank)) {
        clear_place(path);
        st = svd_entry_write(path, id, index, r, &err);
    }
    pthread_mutex_lock(&c->lock);
    if (promised) c->flying -= svd_entry_bytes(r->m, r->n, r->rank);
    c->stats.stored += st == MIL_OK;
    c->stats.unwritten += st != MIL_OK;
    if (st != MIL_OK && !c->unwritable) warn(c, "not kept in the cache of decompositions", &err);
    c->unwritable |= st != MIL_OK;
    pthread_mutex_unlock(&c->lock);
}

/* ---- looking up ---- */

static void count_hit(struct svd_cache *c, const char *path, const char *name) {
    utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW); /* may be a cache of somebody else's */
    pthread_mutex_lock(&c->lock);
    c->stats.hits++;
    mark_used(c, name);
    pthread_mutex_unlock(&c->lock);
}

static void count_rejected(struct svd_cache *c, const struct mil_error *err) {
    pthread_mutex_lock(&c->lock);
    c->stats.rejected++;
    warn(c, "an entry of the cache of decompositions is not used and made anew", err);
    pthread_mutex_unlock(&c->lock);
}

static enum mil_status through_cache(struct svd_cache *c, const struct svd_matrix *w,
                                     const struct svd_request *q, const int64_t *index,
                                     struct svd_result *out, bool *hit, struct mil_error *err) {
    struct svd_entry_id id;
    char name[SVD_ENTRY_NAME], path[PATH_CAP];
    struct mil_error why = {0};
    enum svd_entry_found found = SVD_ENTRY_ABSENT;
    TRY(svd_entry_name(w, q, index, &id, name, err));
    TRY(path_join(path, c->dir, name, err));
    enum mil_status st = svd_entry_read(path, &id, w, index, q->rank, out, &found, &why);
    *hit = st == MIL_OK && found == SVD_ENTRY_SERVES;
    if (*hit) {
        count_hit(c, path, name);
        return MIL_OK;
    }
    if (st != MIL_OK) count_rejected(c, &why);
    TRY(svd_compute(w, q, out, err));
    keep(c, path, name, &id, index, out, st != MIL_OK);
    return MIL_OK;
}

/* A request that means nothing goes to svd_compute, which says so. */
enum mil_status svd_cached(struct svd_cache *c, const struct svd_matrix *w,
                           const struct svd_request *q, struct svd_result *out, bool *hit,
                           struct mil_error *err) {
    *hit = false;
    int64_t k = w->m < w->n ? w->m : w->n;
    if (!c || q->only || q->rank < 1 || q->rank > k) return svd_compute(w, q, out, err);
    int64_t *index = mem_alloc(MEM_SCRATCH, (size_t)q->rank, sizeof *index);
    if (!index) return error_nomem(err, (uint64_t)q->rank * sizeof *index);
    enum mil_status st = svd_indices(q, w->m, w->n, index, err);
    if (st == MIL_OK) st = through_cache(c, w, q, index, out, hit, err);
    mem_free(index);
    return st;
}

/* ---- removing ---- */

void svd_cache_remove(struct svd_cache *c) {
    char **names;
    size_t n;
    if (dir_list(c->dir, &names, &n, NULL) != MIL_OK) return;
    for (size_t i = 0; i < n; i++)
        if (svd_entry_is_name(names[i]) || sealed_is_temporary(names[i])) remove_name(c, names[i]);
    dir_list_free(names, n);
    rmdir(c->dir); /* left alone if somebody put something else there */
}
