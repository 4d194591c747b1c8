/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_write.c - a JSON tree as a YAML document that yaml.c reads back as an equal tree.
 *
 * Mappings in block style; a list of scalars in one line as [a, b] where it is short, otherwise
 * one "- " a line.  A text stands bare only when it is made of letters, digits and - _ . / , begins
 * with a letter or '/' , and is no word of the core schema; otherwise double-quoted.  A key of
 * 1024 bytes or more needs the explicit form "? key" (the parser looks no further for a ':'). */
#include <string.h>
#include <strings.h>

#include "io/json.h"
#include "io/yaml.h"

#define LIST_WIDTH 80
#define LONG_KEY 200 /* quoted, a byte may become six */

static bool is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool may_be_bare(const char *s, size_t n) {
    /* the first three would not stay text here; the others would not in readers of YAML 1.1 */
    static const char *const words[] = {"null", "true", "false", "yes", "no",
                                        "on",   "off",  "y",     "n"};
    if (n == 0 || n > 128 || !(is_letter(*s) || *s == '/' || *s == '_')) return false;
    for (size_t i = 0; i < n; i++)
        if (!is_letter(s[i]) && !(s[i] >= '0' && s[i] <= '9') && !(s[i] && strchr("-_./", s[i])))
            return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcasecmp(s, words[i]) == 0) return false;
    return true;
}

/* Double-quoted; whatever YAML does not call printable, or calls a line break, becomes \u. */
static void quoted(const char *s, size_t n, struct str *out) {
    str_addc(out, '"');
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        size_t len = utf8_decode(s + i, n - i, &c);
        if (len == 0) return; /* jansson holds valid UTF-8 only */
        bool odd = c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
                   c == 0xfeff || c == 0xfffe || c == 0xffff;
        if (c == '"' || c == '\\')
            str_addf(out, "\\%c", (char)c);
        else if (c == '\n')
            str_add(out, "\\n");
        else if (odd)
            str_addf(out, "\\u%04x", c);
        else
            str_addn(out, s + i, len);
        i += len;
    }
    str_addc(out, '"');
}

static void text(const char *s, size_t n, struct str *out) {
    if (may_be_bare(s, n))
        str_addn(out, s, n);
    else
        quoted(s, n, out);
}

static bool is_block(const json_t *v) {
    return (json_is_object(v) && json_object_size(v)) || (json_is_array(v) && json_array_size(v));
}

/* A scalar, [] or {}. */
static void leaf(const json_t *v, struct str *out) {
    if (json_is_string(v))
        text(json_string_value(v), json_string_length(v), out);
    else
        json_append(v, -1, out);
}

/* "[a, b]" appended if v is a list of leaves that fits a line; otherwise nothing, and false. */
static bool short_list(const json_t *v, struct str *out) {
    size_t start = out->len, n = json_array_size(v);
    if (!json_is_array(v) || n > LIST_WIDTH / 2) return false;
    str_addc(out, '[');
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_array_get(v, i);
        if (i) str_add(out, ", ");
        if (!is_block(item)) leaf(item, out);
        if (!is_block(item) && out->len - start <= LIST_WIDTH) continue;
        if (out->data) out->data[out->len = start] = 0;
        return false;
    }
    str_addc(out, ']');
    return true;
}

static void indent(int level, struct str *out) {
    for (int i = 0; i < level; i++) str_add(out, "  ");
}

static void block(const json_t *v, int level, struct str *out);

/* What follows "key:" or "-", up to and with the newline. */
static void value(const json_t *v, int level, struct str *out) {
    size_t start = out->len;
    str_addc(out, ' ');
    if (!is_block(v)) {
        leaf(v, out);
    } else if (!short_list(v, out)) {
        if (out->data) out->len = start;
        str_addc(out, '\n');
        block(v, level + 1, out);
        return;
    }
    str_addc(out, '\n');
}

/* The pairs of an object; the first stands where the cursor is if `begun` ("- a: 1"). */
static void pairs(const json_t *v, int level, bool begun, struct str *out) {
    const char *key;
    json_t *item, *object = (json_t *)(uintptr_t)v; /* the iterator takes no const object */
    json_object_foreach(object, key, item) {
        size_t n = strlen(key);
        if (!begun) indent(level, out);
        begun = false;
        if (n >= LONG_KEY) str_add(out, "? ");
        text(key, n, out);
        if (n >= LONG_KEY) {
            str_addc(out, '\n');
            indent(level, out);
        }
        str_addc(out, ':');
        value(item, level, out);
    }
}

static void block(const json_t *v, int level, struct str *out) {
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *item = json_array_get(v, i);
        indent(level, out);
        str_addc(out, '-');
        if (json_is_object(item) && json_object_size(item)) {
            str_addc(out, ' ');
            pairs(item, level + 1, true, out);
        } else {
            value(item, level, out);
        }
    }
    pairs(v, level, false, out);
}

static int depth_of(const json_t *v) {
    int deepest = 0;
    for (size_t i = 0; i < json_array_size(v); i++) {
        int d = depth_of(json_array_get(v, i));
        if (d > deepest) deepest = d;
    }
    const char *key;
    json_t *item, *object = (json_t *)(uintptr_t)v;
    json_object_foreach(object, key, item) {
        int d = depth_of(item);
        if (d > deepest) deepest = d;
    }
    return json_is_object(v) || json_is_array(v) ? deepest + 1 : 0;
}

enum mil_status yaml_write(const json_t *root, struct str *out, struct mil_error *err) {
    if (depth_of(root) > YAML_MAX_DEPTH)
        return error_set(err, MIL_UNSUPPORTED, "more than %d levels cannot be written as YAML",
                         YAML_MAX_DEPTH);
    if (is_block(root)) {
        block(root, 0, out);
    } else {
        leaf(root, out);
        str_addc(out, '\n');
    }
    return str_status(out, err);
}
