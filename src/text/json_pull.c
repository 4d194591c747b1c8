/* SPDX-License-Identifier: Apache-2.0 */
/* json_pull.c - see json_pull.h.  Grammar: RFC 8259; as io/json.h, no NUL in a string, and an escaped
 * surrogate only as half of a pair. */
#include "text/json_pull.h"

#include <string.h>

int pull_peek(struct json_pull *p) {
    for (; p->at < p->n; p->at++) {
        unsigned char c = (unsigned char)p->text[p->at];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r') return c;
    }
    return -1;
}

bool pull_byte(struct json_pull *p, char c) {
    if (pull_peek(p) != c) return false;
    p->at++;
    return true;
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hexadecimal digits at p->at. */
static bool hex_unit(struct json_pull *p, uint32_t *out) {
    if (p->n - p->at < 4) return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(p->text[p->at + (size_t)i]);
        if (digit < 0) return false;
        *out = *out << 4 | (uint32_t)digit;
    }
    p->at += 4;
    return true;
}

/* What stands behind "\u": one unit, or a pair of surrogates. */
static bool unicode_escape(struct json_pull *p, struct str *out) {
    uint32_t c, low;
    if (!hex_unit(p, &c) || c == 0 || (c >= 0xdc00 && c <= 0xdfff)) return false;
    if (c >= 0xd800 && c <= 0xdbff) {
        if (p->n - p->at < 2 || memcmp(p->text + p->at, "\\u", 2) != 0) return false;
        p->at += 2;
        if (!hex_unit(p, &low) || low < 0xdc00 || low > 0xdfff) return false;
        c = 0x10000 + ((c - 0xd800) << 10 | (low - 0xdc00));
    }
    str_add_utf8(out, c);
    return true;
}

/* p->at is behind a backslash. */
static bool escape(struct json_pull *p, struct str *out) {
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (p->at >= p->n) return false;
    char c = p->text[p->at++];
    if (c == 'u') return unicode_escape(p, out);
    const char *found = c ? strchr(names, c) : NULL;
    if (found) str_addc(out, values[found - names]);
    return found != NULL;
}

/* The rest of a string whose first escape is at p->at; it began at begin. */
static bool escaped_string(struct json_pull *p, size_t begin, struct str *spare,
                           struct json_string *out) {
    str_reset(spare);
    str_addn(spare, p->text + begin, p->at - begin);
    while (p->at < p->n) {
        char c = p->text[p->at++];
        if (c == '"') {
            *out = (struct json_string){str_c(spare), spare->len};
            return true;
        }
        if (c == '\\' ? !escape(p, spare) : (unsigned char)c < 0x20) return false;
        if (c != '\\') str_addc(spare, c);
    }
    return false;
}

bool pull_string(struct json_pull *p, struct str *spare, struct json_string *out) {
    if (!pull_byte(p, '"')) return false;
    size_t begin = p->at;
    for (; p->at < p->n; p->at++) {
        unsigned char c = (unsigned char)p->text[p->at];
        if (c == '\\') return escaped_string(p, begin, spare, out);
        if (c < 0x20) return false;
        if (c != '"') continue;
        *out = (struct json_string){p->text + begin, p->at++ - begin};
        return true;
    }
    return false;
}

bool pull_integer(struct json_pull *p, int64_t *out) {
    bool negative = pull_byte(p, '-');
    size_t begin = p->at;
    uint64_t value = 0, limit = (uint64_t)INT64_MAX + negative;
    for (; p->at < p->n && p->text[p->at] >= '0' && p->text[p->at] <= '9'; p->at++) {
        uint64_t digit = (uint64_t)(p->text[p->at] - '0');
        if (value > (limit - digit) / 10) return false;
        value = 10 * value + digit;
    }
    size_t digits = p->at - begin;
    char next = p->at < p->n ? p->text[p->at] : 0;
    if (digits == 0 || (digits > 1 && p->text[begin] == '0')) return false;
    if (next == '.' || next == 'e' || next == 'E') return false;
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* Past the string whose opening quote is at p->at. */
static bool skip_string(struct json_pull *p) {
    for (p->at++; p->at < p->n; p->at++) {
        if (p->text[p->at] == '\\')
            p->at++;
        else if (p->text[p->at] == '"')
            return p->at++, true;
    }
    p->at = p->n;
    return false;
}

/* Past what is neither string nor bracket, up to a byte that ends it. */
static bool skip_scalar(struct json_pull *p) {
    size_t begin = p->at;
    while (p->at < p->n && !strchr(",]}:\"[{ \n\t\r", p->text[p->at])) p->at++;
    return p->at > begin;
}

bool pull_skip(struct json_pull *p) {
    size_t depth = 0;
    int c = pull_peek(p);
    if (c == '"') return skip_string(p);
    if (c != '{' && c != '[') return c >= 0 && skip_scalar(p);
    while (p->at < p->n) {
        char byte = p->text[p->at];
        if (byte == '"') {
            if (!skip_string(p)) return false;
            continue;
        }
        p->at++;
        if (byte == '{' || byte == '[') depth++;
        if ((byte == '}' || byte == ']') && --depth == 0) return true;
    }
    return false;
}
