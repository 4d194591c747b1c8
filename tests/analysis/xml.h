/* SPDX-License-Identifier: Apache-2.0 */
/* xml.h - is a text well-formed XML?  A checker for the figures: elements nest and close, attributes
 * are quoted and unique, only the five named entities, numeric references and legal characters, one
 * root, no scripts and nothing loaded from elsewhere.  Stricter than XML where that is simpler: no
 * comments, no CDATA, no processing instruction but the first. */
#ifndef MIL_TESTS_ANALYSIS_XML_H
#define MIL_TESTS_ANALYSIS_XML_H

#include "check.h"

#include <ctype.h>

#include "core/str.h"

enum { XML_DEPTH = 16, XML_ATTRIBUTES = 16 };

static inline size_t xml_name(const char *s) {
    size_t n = 0;
    while (isalnum((unsigned char)s[n]) || strchr(":_-", s[n] ? s[n] : ' ')) n++;
    if (n == 0 || !isalpha((unsigned char)*s)) fail_msg("no name at '%.40s'", s);
    return n;
}

/* Characters up to `end`: returns the place of it. */
static inline const char *xml_text(const char *s, char end) {
    static const char *const entities[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    while (*s && *s != end) {
        if (*s == '<') fail_msg("'<' within a value at '%.40s'", s);
        if (*s == '&') {
            size_t i = 0;
            while (i < 5 && strncmp(s, entities[i], strlen(entities[i])) != 0) i++;
            if (i == 5) fail_msg("bare '&' at '%.40s'", s);
        }
        uint32_t c = 0;
        size_t n = utf8_decode(s, strnlen(s, 4), &c);
        bool legal = n > 0 && (c >= 0x20 || c == '\n') && c != 0xFFFE && c != 0xFFFF;
        if (!legal) fail_msg("illegal character at '%.40s'", s);
        s += n;
    }
    if (*s != end) fail_msg("the text ends where '%c' should stand", end);
    return s;
}

/* From after "<name": the attributes; returns the place of '>' or "/>". */
static inline const char *xml_attributes(const char *s) {
    const char *names[XML_ATTRIBUTES];
    size_t lengths[XML_ATTRIBUTES], n = 0;
    while (*s == ' ' || *s == '\n') {
        s += strspn(s, " \n");
        if (*s == '>' || *s == '/') break;
        names[n] = s;
        lengths[n] = xml_name(s);
        if (strncmp(s, "on", 2) == 0 || strncmp(s, "href", 4) == 0 || strncmp(s, "xlink", 5) == 0)
            fail_msg("active attribute at '%.40s'", s);
        for (size_t i = 0; i < n; i++)
            if (lengths[i] == lengths[n] && strncmp(names[i], s, lengths[n]) == 0)
                fail_msg("attribute given twice at '%.40s'", s);
        s += lengths[n++];
        assert_true(n < XML_ATTRIBUTES);
        if (s[0] != '=' || s[1] != '"') fail_msg("no value at '%.40s'", s);
        s = xml_text(s + 2, '"') + 1;
    }
    return s;
}

/* Fails the test at the first fault.  Returns the number of elements. */
static inline size_t assert_well_formed(const char *s) {
    static const char head[] = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
    const char *open[XML_DEPTH];
    size_t depth = 0, elements = 0;
    if (strncmp(s, head, strlen(head)) != 0) fail_msg("no declaration: '%.60s'", s);
    for (s += strlen(head); *s; s += *s == '\n') {
        if (*s != '<') { /* character data, only inside the root */
            if (depth == 0) fail_msg("text outside the root: '%.40s'", s);
            const char *end = strchr(s, '<');
            if (!end) fail_msg("not closed: '%.40s'", s);
            for (const char *t = s; t < end; t++)
                if (*t == '>') fail_msg("bare '>' at '%.40s'", t);
            s = xml_text(s, '<');
            if (*s != '<') continue;
        }
        bool closing = s[1] == '/';
        const char *name = s + 1 + closing;
        size_t n = xml_name(name);
        if (closing) {
            if (depth == 0) fail_msg("nothing to close at '%.40s'", s);
            depth--;
            if (xml_name(open[depth]) != n || strncmp(open[depth], name, n) != 0)
                fail_msg("'%.20s' closes '%.20s'", name, open[depth]);
            s = name + n;
        } else {
            if (depth == 0 && elements > 0) fail_msg("a second root at '%.40s'", s);
            if (n == 6 && strncmp(name, "script", 6) == 0) fail_msg("a script");
            elements++;
            assert_true(depth < XML_DEPTH);
            open[depth++] = name;
            s = xml_attributes(name + n);
            if (*s == '/') {
                depth--;
                s++;
            }
        }
        if (*s++ != '>') fail_msg("no '>' at '%.40s'", s - 1);
    }
    if (depth) fail_msg("'%.20s' is not closed", open[depth - 1]);
    return elements;
}

/* How often `part` stands in s. */
static inline size_t occurrences(const char *s, const char *part) {
    size_t n = 0;
    for (; (s = strstr(s, part)); s += strlen(part)) n++;
    return n;
}

#endif
