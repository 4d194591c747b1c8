/* SPDX-License-Identifier: Apache-2.0 */
/* str.c - see str.h.  Strings are capped at STR_LIMIT bytes: nothing this program builds in memory
 * as one text is longer, and a hostile file must not make it try. */
#include "core/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/mem.h"

#define STR_LIMIT ((size_t)1 << 34)

void str_release(struct str *s) {
    mem_free(s->data);
    memset(s, 0, sizeof *s);
}

void str_reset(struct str *s) {
    s->len = 0;
    s->failed = false;
    if (s->data) s->data[0] = 0;
}

/* Room for n more bytes and the NUL. */
static bool reserve(struct str *s, size_t n) {
    if (s->failed) return false;
    size_t need;
    if (!checked_add(s->len, n, &need) || !checked_add(need, 1, &need) || need > STR_LIMIT) {
        s->failed = true;
        return false;
    }
    if (need <= s->cap) return true;
    size_t cap = s->cap ? s->cap : 64;
    while (cap < need) cap *= 2;
    char *grown = mem_realloc(MEM_TEXT, s->data, cap, 1);
    if (!grown) {
        s->failed = true;
        return false;
    }
    s->data = grown;
    s->cap = cap;
    return true;
}

void str_addn(struct str *s, const void *bytes, size_t n) {
    if (!reserve(s, n)) return;
    if (n) memcpy(s->data + s->len, bytes, n);
    s->len += n;
    s->data[s->len] = 0;
}

void str_add(struct str *s, const char *text) {
    str_addn(s, text, strlen(text));
}

void str_addc(struct str *s, char c) {
    str_addn(s, &c, 1);
}

void str_addf(struct str *s, const char *fmt, ...) {
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    if (n >= 0 && reserve(s, (size_t)n)) {
        vsnprintf(s->data + s->len, (size_t)n + 1, fmt, again);
        s->len += (size_t)n;
    }
    va_end(again);
}

void str_add_utf8(struct str *s, uint32_t c) {
    char b[4];
    size_t n;
    if (c < 0x80) {
        b[0] = (char)c;
        n = 1;
    } else if (c < 0x800) {
        b[0] = (char)(0xc0 | (c >> 6));
        b[1] = (char)(0x80 | (c & 0x3f));
        n = 2;
    } else if (c < 0x10000) {
        b[0] = (char)(0xe0 | (c >> 12));
        b[1] = (char)(0x80 | ((c >> 6) & 0x3f));
        b[2] = (char)(0x80 | (c & 0x3f));
        n = 3;
    } else {
        b[0] = (char)(0xf0 | (c >> 18));
        b[1] = (char)(0x80 | ((c >> 12) & 0x3f));
        b[2] = (char)(0x80 | ((c >> 6) & 0x3f));
        b[3] = (char)(0x80 | (c & 0x3f));
        n = 4;
    }
    str_addn(s, b, n);
}

enum mil_status str_status(const struct str *s, struct mil_error *err) {
    return s->failed ? error_nomem(err, s->cap) : MIL_OK;
}

char *str_take(struct str *s) {
    if (!reserve(s, 0)) {
        str_release(s);
        return NULL;
    }
    s->data[s->len] = 0;
    char *p = s->data;
    memset(s, 0, sizeof *s);
    return p;
}

bool str_starts(const char *s, const char *prefix) {
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix) {
    size_t n = strlen(s), m = strlen(suffix);
    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

#define DISTANCE_MAX 64 /* longer names are not compared: no option of ours is that long */

static size_t min3(size_t a, size_t b, size_t c) {
    size_t m = a < b ? a : b;
    return m < c ? m : c;
}

size_t str_distance(const char *a, const char *b) {
    size_t n = strlen(a), m = strlen(b);
    if (n > DISTANCE_MAX || m > DISTANCE_MAX) return DISTANCE_MAX;
    size_t d[DISTANCE_MAX + 1][DISTANCE_MAX + 1];
    for (size_t i = 0; i <= n; i++) d[i][0] = i;
    for (size_t j = 0; j <= m; j++) d[0][j] = j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            size_t replace = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            d[i][j] = min3(d[i - 1][j] + 1, d[i][j - 1] + 1, replace);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
                d[i - 2][j - 2] + 1 < d[i][j])
                d[i][j] = d[i - 2][j - 2] + 1;
        }
    return d[n][m];
}

const char *str_nearest(const char *name, const char *const *names, size_t n) {
    const char *best = NULL;
    size_t best_distance = strlen(name) / 2 + 1;
    if (best_distance > 6) best_distance = 6;
    for (size_t i = 0; i < n; i++) {
        size_t d = str_distance(name, names[i]);
        if (d < best_distance) {
            best_distance = d;
            best = names[i];
        }
    }
    return best;
}

size_t utf8_decode(const char *s, size_t n, uint32_t *codepoint) {
    const unsigned char *p = (const unsigned char *)s;
    if (n == 0) return 0;
    if (p[0] < 0x80) {
        *codepoint = p[0];
        return 1;
    }
    size_t len;
    uint32_t c, least;
    if (p[0] >= 0xc2 && p[0] <= 0xdf) {
        len = 2, c = p[0] & 0x1fu, least = 0x80;
    } else if ((p[0] & 0xf0) == 0xe0) {
        len = 3, c = p[0] & 0x0fu, least = 0x800;
    } else if (p[0] >= 0xf0 && p[0] <= 0xf4) {
        len = 4, c = p[0] & 0x07u, least = 0x10000;
    } else {
        return 0;
    }
    if (n < len) return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        c = (c << 6) | (p[i] & 0x3fu);
    }
    if (c < least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff)) return 0;
    *codepoint = c;
    return len;
}

size_t utf8_valid_prefix(const char *s, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint32_t c;
        size_t len = utf8_decode(s + i, n - i, &c);
        if (len == 0) break;
        i += len;
    }
    return i;
}

const char *format_bytes(char buf[32], uint64_t bytes) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes;
    int u = 0;
    while (x >= 1024 && u < 4) {
        x /= 1024;
        u++;
    }
    snprintf(buf, 32, u == 0 || x >= 100 ? "%.0f %s" : "%.1f %s", x, units[u]);
    return buf;
}

const char *format_seconds(char buf[32], double s) {
    if (!(s >= 0) || s > 1e9)
        snprintf(buf, 32, "?");
    else if (s < 60)
        snprintf(buf, 32, "%.1f s", s);
    else if (s < 3600)
        snprintf(buf, 32, "%dm %02ds", (int)s / 60, (int)s % 60);
    else
        snprintf(buf, 32, "%dh %02dm", (int)s / 3600, (int)s / 60 % 60);
    return buf;
}
