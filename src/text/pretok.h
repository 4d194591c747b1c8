/* SPDX-License-Identifier: Apache-2.0 */
/* pretok.h - pre-tokenisation: cutting the (normalised) text into the stretches within which byte
 * pairs may merge.  A list of steps, each applied to every stretch that the one before left. */
#ifndef MIL_TEXT_PRETOK_H
#define MIL_TEXT_PRETOK_H

#include "text/normalize.h"
#include "text/pattern.h"
#include "text/tokenizer.h"

/* X(enumerator, name in tokenizer.json): what becomes of a match */
#define SPLIT_BEHAVIOR_MAP(X)                                                                      \
    X(SPLIT_REMOVED, "Removed")                                                                    \
    X(SPLIT_ISOLATED, "Isolated")                                                                  \
    X(SPLIT_WITH_PREVIOUS, "MergedWithPrevious")                                                   \
    X(SPLIT_WITH_NEXT, "MergedWithNext")                                                           \
    X(SPLIT_CONTIGUOUS, "Contiguous")

enum split_behavior {
#define SPLIT_ENUM(name, text) name,
    SPLIT_BEHAVIOR_MAP(SPLIT_ENUM)
#undef SPLIT_ENUM
};

/* When a prefix goes in front of a stretch that does not begin with it. */
enum prefix_when { PREFIX_NEVER, PREFIX_ALWAYS, PREFIX_FIRST /* at the text's beginning only */ };

enum pretok_kind {
    PRETOK_SPLIT,   /* by pattern */
    PRETOK_PREFIX,  /* literal of pattern in front */
    PRETOK_REPLACE, /* a space by the literal of pattern */
};
struct pretok_step {
    enum pretok_kind kind;
    struct pattern pattern;
    enum split_behavior behavior;
    bool invert;
    enum prefix_when when;
};
#define PRETOK_MAX_STEPS 16
struct pretok {
    struct pretok_step steps[PRETOK_MAX_STEPS];
    size_t n;
};
void pretok_release(struct pretok *p);
enum mil_status pretok_add(struct pretok *p, enum pretok_kind kind, struct pretok_step **step,
                           struct mil_error *err);
/* Common steps: matches of a regular expression isolated; the ByteLevel expression of GPT-2. */
enum mil_status pretok_add_isolated(struct pretok *p, const char *regex, struct mil_error *err);
#define PRETOK_GPT2                                                                                \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

struct span_list {
    struct span *spans;
    size_t n, cap;
};
void span_list_release(struct span_list *l);
/* Empty spans are left out. */
enum mil_status span_list_add(struct span_list *l, size_t begin, size_t end, struct mil_error *err);

struct pretok_scratch {
    struct mapped_text text, spare; /* used when a step changes the text */
    struct span_list spans, spare_spans, matches;
    struct search search;
};
void pretok_scratch_release(struct pretok_scratch *s);
/* What a run gives: the stretches are spans of text, byte i of it comes from map[i] (or base + i
 * when map is NULL). Borrowed from the arguments and from the scratch. */
struct pretok_result {
    const char *text;
    const int64_t *map;
    int64_t base;
};
/* text[0, n) at original offsets map[i] or base + i; the stretches are left in s->spans. */
enum mil_status pretok_run(const struct pretok *p, const char *text, size_t n, const int64_t *map,
                           int64_t base, struct pretok_scratch *s, struct pretok_result *out,
                           struct mil_error *err);

#endif
