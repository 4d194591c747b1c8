/* SPDX-License-Identifier: Apache-2.0 */
/* triangle.c - packing a Cholesky factor, and solving with it; layout in triangle.h, the inner loops
 * in kern (triangle_fwd, triangle_bwd).
 *
 * Right-hand sides are turned to [rows][lanes], 16 lanes a strip: then a row is a vector, and one
 * number of the factor meets all of them.  Strips are independent: threads share them. */
#include "linalg/triangle.h"

#include <string.h>

#include "core/mem.h"
#include "core/threads.h"

enum { ROWS = KERN_TRIANGLE_ROWS, TILE = KERN_TRIANGLE_TILE, LANES = KERN_TRIANGLE_LANES };

static int64_t panel_offset(int64_t i) {
    return i * (i + 1) / 2 * TILE;
}

size_t triangle_bytes(int64_t k) {
    return (size_t)panel_offset((k + ROWS - 1) / ROWS) * sizeof(float);
}

/* The inverse of a lower triangular 16 x 16 block, both [column][row]; false: singular. */
static bool invert(const double *l, float *out) {
    double x[TILE] = {0};
    for (int j = 0; j < ROWS; j++)
        for (int i = j; i < ROWS; i++) {
            double sum = i == j;
            for (int c = j; c < i; c++) sum -= l[c * ROWS + i] * x[j * ROWS + c];
            if (!(l[i * ROWS + i] > 0)) return false;
            x[j * ROWS + i] = sum / l[i * ROWS + i];
        }
    for (int i = 0; i < TILE; i++) out[i] = (float)x[i];
    return true;
}

struct packing {
    struct triangle *t;
    const float *l;
    bool *sound; /* one a panel */
};

static void pack_panel(const struct packing *c, int64_t panel) {
    const struct triangle *t = c->t;
    int64_t first = panel * ROWS, rows = t->k - first < ROWS ? t->k - first : ROWS;
    float *out = t->tiles + panel_offset(panel);
    double block[TILE] = {0};
    for (int64_t j = 0; j < first; j++)
        for (int64_t i = 0; i < ROWS; i++)
            out[j * ROWS + i] = i < rows ? -c->l[first + i + j * t->k] : 0;
    for (int64_t j = 0; j < ROWS; j++)
        for (int64_t i = j; i < ROWS; i++)
            block[j * ROWS + i] = i < rows && j < rows
                                      ? (double)c->l[first + i + (first + j) * t->k]
                                      : (double)(i == j);
    c->sound[panel] = invert(block, out + first * ROWS);
}

static void pack_panels(void *ctx, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) pack_panel(ctx, i);
}

enum mil_status triangle_init(struct triangle *t, const float *l, int64_t k,
                              struct mil_error *err) {
    *t = (struct triangle){.k = k, .panels = (k + ROWS - 1) / ROWS};
    t->tiles = mem_alloc(MEM_SCRATCH, triangle_bytes(k), 1);
    bool *sound = mem_alloc(MEM_SCRATCH, (size_t)t->panels, sizeof *sound), all = true;
    if (!t->tiles || !sound) {
        mem_free(sound);
        triangle_release(t);
        return error_nomem(err, triangle_bytes(k));
    }
    kern_table_init(&t->kern, DT_F32, cpu_isa_used());
    struct packing c = {t, l, sound};
    parallel_for(t->panels, 4, pack_panels, &c);
    for (int64_t i = 0; i < t->panels; i++) all = all && sound[i];
    mem_free(sound);
    if (all) return MIL_OK;
    triangle_release(t);
    return error_set(err, MIL_NUMERIC, "a Cholesky factor is singular in f32");
}

void triangle_release(struct triangle *t) {
    mem_free(t->tiles);
    memset(t, 0, sizeof *t);
}

/* ---- solving ---- */

static int64_t lanes_of(int64_t p) {
    return (p + LANES - 1) / LANES * LANES;
}

size_t triangle_spare(const struct triangle *t, int64_t p) {
    return (size_t)(t->panels * ROWS * lanes_of(p));
}

struct solving {
    const struct triangle *t;
    float *x, *lanes; /* [k, p]; [panels * 16][width] */
    int64_t p, width;
};

/* x's columns of strips [begin, end) to lanes, zeros where there are none; or back. */
static void turn(const struct solving *s, int64_t begin, int64_t end, bool back) {
    int64_t rows = s->t->panels * ROWS;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t c = begin * LANES; c < end * LANES; c++) {
            bool inside = i < s->t->k && c < s->p;
            if (!back)
                s->lanes[i * s->width + c] = inside ? s->x[c * s->t->k + i] : 0;
            else if (inside)
                s->x[c * s->t->k + i] = s->lanes[i * s->width + c];
        }
}

static void solve_strips(void *ctx, int64_t begin, int64_t end) {
    const struct solving *s = ctx;
    const struct triangle *t = s->t;
    struct kern_triangle a = {.x = s->lanes, .width = s->width};
    turn(s, begin, end, false);
    for (a.index = 0; a.index < t->panels; a.index++) {
        a.panel = t->tiles + panel_offset(a.index);
        t->kern.triangle_fwd(&a, begin, end);
    }
    for (a.index = t->panels - 1; a.index >= 0; a.index--) {
        a.panel = t->tiles + panel_offset(a.index);
        t->kern.triangle_bwd(&a, begin, end);
    }
    turn(s, begin, end, true);
}

void triangle_solve(const struct triangle *t, float *x, int64_t p, float *spare) {
    struct solving s = {t, x, spare, p, lanes_of(p)};
    int64_t strips = s.width / LANES, share = (strips + threads_count() - 1) / threads_count();
    parallel_for(strips, share, solve_strips, &s);
}
