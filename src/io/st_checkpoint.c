/* SPDX-License-Identifier: Apache-2.0 */
/* st_checkpoint.c - one safetensors file, or the shards of an index, behind one set of accessors.
 *
 * The index (model.safetensors.index.json) maps each tensor's name to a shard.  Shard names are
 * plain file names: anything with a '/' or beginning with a dot is refused before a path is made
 * of it.  Index and shards must agree in both directions. */
#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "io/json.h"
#include "io/st_internal.h"

#define SINGLE "model.safetensors"
#define INDEX "model.safetensors.index.json"
#define MAX_SHARDS 10000

struct st_file {
    struct st_shard *shards;
    size_t n_shards;
    struct st_tensor *all;            /* every shard's tensors, shard by shard */
    const struct st_tensor **by_name; /* sorted */
    size_t n;
};

static int by_name(const void *a, const void *b) {
    const struct st_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Tensors of all shards in one array, and sorted by name; a name in two shards is MIL_INPUT. */
static enum mil_status collect(struct st_file *f, struct mil_error *err) {
    for (size_t i = 0; i < f->n_shards; i++) f->n += f->shards[i].n;
    f->all = mem_calloc(MEM_IO, f->n, sizeof *f->all);
    f->by_name = mem_calloc(MEM_IO, f->n, sizeof *f->by_name);
    if (!f->all || !f->by_name) return error_nomem(err, f->n * sizeof *f->all);
    size_t at = 0;
    for (size_t i = 0; i < f->n_shards; i++) {
        const struct st_shard *s = &f->shards[i];
        if (s->n) memcpy(f->all + at, s->tensors, s->n * sizeof *s->tensors);
        at += s->n;
    }
    for (size_t i = 0; i < f->n; i++) f->by_name[i] = &f->all[i];
    if (f->n) qsort(f->by_name, f->n, sizeof *f->by_name, by_name);
    for (size_t i = 1; i < f->n; i++)
        if (strcmp(f->by_name[i - 1]->name, f->by_name[i]->name) == 0)
            return error_set(err, MIL_INPUT, "tensor '%.128s' is in both %s and %s",
                             f->by_name[i]->name, f->shards[f->by_name[i - 1]->shard].name,
                             f->shards[f->by_name[i]->shard].name);
    return MIL_OK;
}

static enum mil_status file_new(size_t n_shards, struct st_file **out, struct mil_error *err) {
    struct st_file *f = mem_calloc(MEM_IO, 1, sizeof *f);
    if (!f) return error_nomem(err, sizeof *f);
    f->shards = mem_calloc(MEM_IO, n_shards, sizeof *f->shards);
    if (!f->shards) {
        mem_free(f);
        return error_nomem(err, n_shards * sizeof *f->shards);
    }
    *out = f;
    return MIL_OK;
}

/* Open the next shard; path is where it lies, name what it is called. */
static enum mil_status add_shard(struct st_file *f, const char *path, const char *name,
                                 struct mil_error *err) {
    struct st_shard *s = &f->shards[f->n_shards];
    TRY(st_shard_open(path, (int)f->n_shards, s, err));
    f->n_shards++; /* from here on st_free releases it */
    s->name = mem_strdup(MEM_IO, name);
    return s->name ? MIL_OK : error_nomem(err, 0);
}

enum mil_status st_open(const char *path, struct st_file **out, struct mil_error *err) {
    struct st_file *f = NULL;
    enum mil_status st;
    *out = NULL;
    TRY(file_new(1, &f, err));
    TRY_GOTO(add_shard(f, path, path_base(path), err));
    TRY_GOTO(collect(f, err));
    *out = f;
    return MIL_OK;
fail:
    st_free(&f);
    return st;
}

static enum mil_status check_shard_name(const char *path, const json_t *name, const char *tensor,
                                        struct mil_error *err) {
    const char *s = json_string_value(name);
    if (!s)
        return error_set(err, MIL_INPUT, "%s: weight_map: '%.128s' must name a file", path, tensor);
    if (!*s || *s == '.' || strchr(s, '/') || strchr(s, '\\'))
        return error_set(
            err, MIL_INPUT,
            "%s: weight_map: '%.64s' is not the plain name of a file in this directory", path, s);
    return MIL_OK;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The distinct shard names of the map, sorted (borrowed from it); *names is mem_free'd by the
 * caller. */
static enum mil_status shard_names(const char *path, json_t *map, const char ***names, size_t *n,
                                   struct mil_error *err) {
    const char *tensor;
    json_t *name;
    size_t all = 0, kept = 0;
    const char **list = mem_alloc(MEM_IO, json_object_size(map), sizeof *list);
    *names = list;
    if (!list) return error_nomem(err, 0);
    json_object_foreach(map, tensor, name) {
        TRY(check_shard_name(path, name, tensor, err));
        list[all++] = json_string_value(name);
    }
    if (all) qsort(list, all, sizeof *list, by_text);
    for (size_t i = 0; i < all; i++)
        if (i == 0 || strcmp(list[i], list[kept - 1]) != 0) list[kept++] = list[i];
    if (kept == 0 || kept > MAX_SHARDS)
        return error_set(err, MIL_INPUT, "%s: weight_map names %zu shards, must be 1 to %d", path,
                         kept, MAX_SHARDS);
    *n = kept;
    return MIL_OK;
}

/* Every tensor of the files is in the map under its file, and the map holds nothing else. */
static enum mil_status check_map(const struct st_file *f, const char *path, const json_t *map,
                                 struct mil_error *err) {
    for (size_t i = 0; i < f->n; i++) {
        const char *shard = f->shards[f->all[i].shard].name,
                   *listed = json_string_value(json_object_get(map, f->all[i].name));
        if (!listed || strcmp(listed, shard) != 0)
            return error_set(
                err, MIL_INPUT, "%s: tensor '%.128s' lies in %.64s, but is listed %s%.64s", path,
                f->all[i].name, shard, listed ? "in " : "nowhere", listed ? listed : "");
    }
    if (f->n == json_object_size(map)) return MIL_OK;
    const char *name;
    json_t *shard, *object = (json_t *)(uintptr_t)map;
    json_object_foreach(object, name, shard) {
        if (!st_find(f, name))
            return error_set(err, MIL_INPUT,
                             "%s: tensor '%.128s' is listed in %.64s, which does not hold it", path,
                             name, json_string_value(shard));
    }
    return MIL_OK;
}

static enum mil_status open_shards(const char *dir, const char *path, json_t *map,
                                   struct st_file **out, struct mil_error *err) {
    char shard[PATH_CAP];
    const char **names = NULL;
    size_t n = 0;
    enum mil_status st;
    TRY_GOTO(shard_names(path, map, &names, &n, err));
    TRY_GOTO(file_new(n, out, err));
    for (size_t i = 0; i < n; i++) {
        TRY_GOTO(path_join(shard, dir, names[i], err));
        TRY_GOTO(add_shard(*out, shard, names[i], err));
    }
    st = collect(*out, err);
    if (st != MIL_OK)
        error_prefix(err, "%s: ", path);
    else
        st = check_map(*out, path, map, err);
fail:
    mem_free(names);
    if (st != MIL_OK) st_free(out);
    return st;
}

enum mil_status st_open_checkpoint(const char *dir, struct st_file **out, struct mil_error *err) {
    char path[PATH_CAP];
    *out = NULL;
    TRY(path_join(path, dir, SINGLE, err));
    if (path_exists(path)) return st_open(path, out, err);
    TRY(path_join(path, dir, INDEX, err));
    if (!path_exists(path))
        return error_set(err, MIL_ACCESS,
                         "%s: holds neither " SINGLE " nor " INDEX
                         " (pickled .bin weights are not read: convert them to safetensors)",
                         dir);
    json_t *index;
    TRY(json_read_file(path, &index, err));
    json_t *map = json_object_get(index, "weight_map");
    enum mil_status st;
    if (json_is_object(map))
        st = open_shards(dir, path, map, out, err);
    else
        st = error_set(err, MIL_INPUT, "%s: 'weight_map' must be an object", path);
    json_decref(index);
    return st;
}

void st_free(struct st_file **f) {
    if (!f || !*f) return;
    for (size_t i = 0; i < (*f)->n_shards; i++) st_shard_release(&(*f)->shards[i]);
    mem_free((*f)->shards);
    mem_free((*f)->all);
    mem_free((*f)->by_name);
    mem_free(*f);
    *f = NULL;
}

size_t st_count(const struct st_file *f) {
    return f->n;
}

const struct st_tensor *st_at(const struct st_file *f, size_t i) {
    REQUIRE(i < f->n);
    return &f->all[i];
}

const struct st_tensor *st_find(const struct st_file *f, const char *name) {
    size_t lo = 0, hi = f->n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = strcmp(name, f->by_name[mid]->name);
        if (c == 0) return f->by_name[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

const json_t *st_metadata_all(const struct st_file *f) {
    return json_object_get(f->shards[0].header, "__metadata__");
}

const char *st_metadata(const struct st_file *f, const char *key) {
    return json_string_value(json_object_get(st_metadata_all(f), key));
}

size_t st_shards(const struct st_file *f) {
    return f->n_shards;
}

const char *st_shard_name(const struct st_file *f, size_t shard) {
    REQUIRE(shard < f->n_shards);
    return f->shards[shard].name;
}
