/* SPDX-License-Identifier: Apache-2.0 */
/* json_write.c - JSON text of a tree.  jansson's own writer prints 0.05 as 0.050000000000000003;
 * here a real gets the fewest digits (15, 16 or 17) that read back to the same double. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/json.h"

void json_append_real(double value, struct str *out) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value) break;
    }
    if (!strpbrk(text, ".e")) memcpy(text + strlen(text), ".0", 3);
    str_add(out, text);
}

void json_append_string(const char *s, size_t n, struct str *out) {
    static const char short_form[] = "\b\f\n\r\t\"\\", letter[] = "bfnrt\"\\";
    size_t from = 0;
    str_addc(out, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        str_addn(out, s + from, i - from);
        from = i + 1;
        const char *at = c ? strchr(short_form, c) : NULL;
        if (at)
            str_addf(out, "\\%c", letter[at - short_form]);
        else
            str_addf(out, "\\u%04x", c);
    }
    str_addn(out, s + from, n - from);
    str_addc(out, '"');
}

static void newline(int indent, int level, struct str *out) {
    if (indent < 0) return;
    str_addc(out, '\n');
    for (int i = 0; i < indent * level; i++) str_addc(out, ' ');
}

static void append(const json_t *v, int indent, int level, struct str *out);

static void append_array(const json_t *v, int indent, int level, struct str *out) {
    size_t n = json_array_size(v);
    str_addc(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) str_add(out, indent < 0 ? ", " : ",");
        newline(indent, level + 1, out);
        append(json_array_get(v, i), indent, level + 1, out);
    }
    if (n) newline(indent, level, out);
    str_addc(out, ']');
}

static void append_object(const json_t *v, int indent, int level, struct str *out) {
    const char *key;
    json_t *item, *object = (json_t *)(uintptr_t)v; /* the iterator takes no const object */
    bool first = true;
    str_addc(out, '{');
    json_object_foreach(object, key, item) {
        if (!first) str_add(out, indent < 0 ? ", " : ",");
        first = false;
        newline(indent, level + 1, out);
        json_append_string(key, strlen(key), out);
        str_add(out, ": ");
        append(item, indent, level + 1, out);
    }
    if (!first) newline(indent, level, out);
    str_addc(out, '}');
}

static void append(const json_t *v, int indent, int level, struct str *out) {
    switch (json_typeof(v)) {
    case JSON_OBJECT: append_object(v, indent, level, out); break;
    case JSON_ARRAY: append_array(v, indent, level, out); break;
    case JSON_STRING: json_append_string(json_string_value(v), json_string_length(v), out); break;
    case JSON_INTEGER: str_addf(out, "%lld", (long long)json_integer_value(v)); break;
    case JSON_REAL: json_append_real(json_real_value(v), out); break;
    case JSON_TRUE: str_add(out, "true"); break;
    case JSON_FALSE: str_add(out, "false"); break;
    case JSON_NULL: str_add(out, "null"); break;
    }
}

void json_append(const json_t *root, int indent, struct str *out) {
    append(root, indent, 0, out);
}

enum mil_status json_write_file(const char *path, const json_t *root, struct mil_error *err) {
    struct str text = {0};
    json_append(root, 2, &text);
    str_addc(&text, '\n');
    enum mil_status st = str_status(&text, err);
    if (st == MIL_OK) st = file_write(path, text.data, text.len, err);
    str_release(&text);
    return st;
}
