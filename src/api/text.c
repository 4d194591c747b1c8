/* SPDX-License-Identifier: Apache-2.0 */
/* text.c - the containers of milora/text.h, and the helpers that core already has. */
#include "milora/text.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/str.h"
#include "core/threads.h"
#include "io/file.h"
#include "text/template.h"

/* Room for n more bytes and a NUL. */
static enum mil_status reserve(struct mil_text *t, size_t n, struct mil_error *err) {
    size_t need, cap = t->cap ? t->cap : 256;
    if (!checked_add(t->len, n, &need) || !checked_add(need, 1, &need))
        return error_nomem(err, UINT64_MAX);
    if (need <= t->cap) return MIL_OK;
    while (cap < need) cap = cap > need / 2 ? need : cap * 2;
    char *data = mem_realloc(MEM_TEXT, t->data, cap, 1);
    if (!data) return error_nomem(err, cap);
    t->data = data;
    t->cap = cap;
    return MIL_OK;
}

enum mil_status mil_text_add(struct mil_text *t, const void *bytes, size_t n,
                             struct mil_error *err) {
    TRY(reserve(t, n, err));
    if (n) memcpy(t->data + t->len, bytes, n);
    t->len += n;
    t->data[t->len] = '\0';
    return MIL_OK;
}

void mil_text_reset(struct mil_text *t) {
    t->len = 0;
    if (t->data) t->data[0] = '\0';
}

void mil_text_release(struct mil_text *t) {
    mem_free(t->data);
    *t = (struct mil_text){0};
}

static enum mil_status read_stdin(struct mil_text *t, size_t limit, struct mil_error *err) {
    char buffer[65536];
    size_t before = t->len;
    for (;;) {
        ssize_t n = read(STDIN_FILENO, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return error_errno(err, errno, "standard input");
        if (n == 0) return mil_text_add(t, "", 0, err);
        if (t->len - before + (size_t)n > limit)
            return error_set(err, MIL_INPUT, "standard input: more than %zu bytes", limit);
        TRY(mil_text_add(t, buffer, (size_t)n, err));
    }
}

enum mil_status mil_text_read(struct mil_text *t, const char *path, size_t limit,
                              struct mil_error *err) {
    if (strcmp(path, "-") == 0) return read_stdin(t, limit, err);
    struct str content = {0};
    enum mil_status st = file_read(path, limit, &content, err);
    if (st == MIL_OK) st = mil_text_add(t, str_c(&content), content.len, err);
    str_release(&content);
    return st;
}

enum mil_status mil_file_write(const char *path, const void *bytes, size_t n,
                               struct mil_error *err) {
    return file_write(path, bytes, n, err);
}

enum mil_status mil_ids_add(struct mil_ids *list, int32_t id, struct mil_error *err) {
    if (list->n == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        int32_t *ids = mem_realloc(MEM_TEXT, list->ids, cap, sizeof *ids);
        if (!ids) return error_nomem(err, (uint64_t)cap * sizeof *ids);
        list->ids = ids;
        list->cap = cap;
    }
    list->ids[list->n++] = id;
    return MIL_OK;
}

enum mil_status mil_ids_parse(struct mil_ids *list, const char *text, struct mil_error *err) {
    static const char separators[] = " \t\r\n\v\f,[]";
    for (const char *s = text + strspn(text, separators); *s; s += strspn(s, separators)) {
        char *end;
        errno = 0;
        long long id = strtoll(s, &end, 10);
        size_t word = strcspn(s, separators);
        if (end != s + word || errno || id < 0 || id > INT32_MAX)
            return error_set_at(err, MIL_USAGE, s - text,
                                "'%.*s' is no token id (a number from 0 to %d)",
                                (int)(word < 40 ? word : 40), s, INT32_MAX);
        TRY(mil_ids_add(list, (int32_t)id, err));
        s = end;
    }
    return MIL_OK;
}

void mil_ids_release(struct mil_ids *list) {
    mem_free(list->ids);
    *list = (struct mil_ids){0};
}

void *mil_alloc(size_t n, size_t size) {
    return mem_calloc(MEM_OTHER, n, size);
}

void mil_free(void *p) {
    mem_free(p);
}

const char *const *mil_template_names(void) {
    return template_names();
}

const char *mil_nearest(const char *name, const char *const *names, size_t n) {
    return str_nearest(name, names, n);
}

const char *mil_format_bytes(char buf[32], uint64_t bytes) {
    return format_bytes(buf, bytes);
}

const char *mil_format_seconds(char buf[32], double seconds) {
    return format_seconds(buf, seconds);
}

double mil_clock(void) {
    return clock_seconds();
}
