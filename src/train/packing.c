/* SPDX-License-Identifier: Apache-2.0 */
/* packing.c - see packing.h.
 *
 * First fit over n samples and as many micro-batches is found by a tree of maxima instead of a scan,
 * so that a step of a million samples packs in n log n:
 *     room[1] = most room of any      room[i] = max(room[2 i], room[2 i + 1])
 *     room[leaves + b] = tokens left in micro-batch b
 * The leftmost leaf with enough room is reached from the root by going left wherever the left side
 * has enough. */
#include "train/packing.h"

#include <stdlib.h>
#include <string.h>

#include "core/mem.h"
#include "train/loader.h"

struct packed_item {
    int64_t tokens, place, batch; /* place: in the step's order */
};

static int64_t leaves_for(int64_t n) {
    int64_t leaves = 1;
    while (leaves < n) leaves *= 2;
    return leaves;
}

size_t packing_bytes(int64_t cap) {
    size_t n = (size_t)cap;
    return n * sizeof(int64_t) + (n + 1) * sizeof(int64_t) + n * sizeof(struct packed_item) +
           2 * (size_t)leaves_for(cap) * sizeof(int64_t);
}

enum mil_status packing_init(struct packing *p, int64_t cap, struct mil_error *err) {
    size_t n = (size_t)cap;
    *p = (struct packing){.sample = mem_alloc(MEM_TEXT, n, sizeof *p->sample),
                          .begin = mem_alloc(MEM_TEXT, n + 1, sizeof *p->begin),
                          .items = mem_alloc(MEM_TEXT, n, sizeof *p->items),
                          .room = mem_alloc(MEM_TEXT, 2 * (size_t)leaves_for(cap), sizeof *p->room),
                          .cap = cap};
    if (p->sample && p->begin && p->items && p->room) return MIL_OK;
    packing_release(p);
    return error_nomem(err, packing_bytes(cap));
}

void packing_release(struct packing *p) {
    mem_free(p->sample);
    mem_free(p->begin);
    mem_free(p->items);
    mem_free(p->room);
    *p = (struct packing){0};
}

static int longest_first(const void *x, const void *y) {
    const struct packed_item *a = x, *b = y;
    if (a->tokens != b->tokens) return a->tokens > b->tokens ? -1 : 1;
    return (a->place > b->place) - (a->place < b->place);
}

/* The first micro-batch with room for `tokens`, which it takes. */
static int64_t first_fit(int64_t *room, int64_t leaves, int64_t tokens) {
    int64_t i = 1;
    REQUIRE(room[1] >= tokens);
    while (i < leaves) i = room[2 * i] >= tokens ? 2 * i : 2 * i + 1;
    room[i] -= tokens;
    int64_t batch = i - leaves;
    while ((i /= 2) > 0) room[i] = room[2 * i] > room[2 * i + 1] ? room[2 * i] : room[2 * i + 1];
    return batch;
}

void packing_fill(struct packing *p, const struct dataset *d, const int64_t *samples, int64_t n,
                  int64_t limit) {
    int64_t leaves = leaves_for(n);
    REQUIRE(n <= p->cap && limit > 0);
    for (int64_t i = 0; i < n; i++)
        p->items[i] = (struct packed_item){sample_tokens(d, samples[i]), i, 0};
    qsort(p->items, (size_t)n, sizeof *p->items, longest_first);
    for (int64_t i = 0; i < 2 * leaves; i++) p->room[i] = limit;
    memset(p->begin, 0, (size_t)(n + 1) * sizeof *p->begin);
    p->n = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t tokens = p->items[i].tokens;
        int64_t b = first_fit(p->room, leaves, tokens < limit ? tokens : limit);
        p->items[i].batch = b;
        p->begin[b + 1]++;
        if (b >= p->n) p->n = b + 1;
    }
    for (int64_t b = 0; b < p->n; b++) p->begin[b + 1] += p->begin[b];
    /* room has done its work: its start now counts what each micro-batch has been given. */
    memset(p->room, 0, (size_t)p->n * sizeof *p->room);
    for (int64_t i = 0; i < n; i++) {
        int64_t b = p->items[i].batch;
        p->sample[p->begin[b] + p->room[b]++] = samples[p->items[i].place];
    }
}

int64_t packing_tokens(const struct packing *p, const struct dataset *d, int64_t i) {
    int64_t tokens = 0;
    for (int64_t k = p->begin[i]; k < p->begin[i + 1]; k++)
        tokens += sample_tokens(d, p->sample[k]);
    return tokens;
}
