/* SPDX-License-Identifier: Apache-2.0 */
/* peers.c - the same matrix by LAPACK's full dgesdd (f64, this process) and by torch.linalg.svd
 * (f32, another process that reads it from a .npy file and answers one line of JSON).
 *
 * Both are repeated until a second has passed, at most 5 times, and the minimum counts: the small
 * shapes take milliseconds.  The sine of two r-spaces with orthonormal rows X and Y is taken from
 * X - (X Y^T) Y, which keeps small angles that 1 - cos^2 loses. */
#include <cblas.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/threads.h"
#include "io/file.h"
#include "io/json.h"
#include "io/npy.h"
#include "svd/bench_svd.h"

extern char **environ;

/* ---- LAPACK ---- */

/* Every index that an asked decomposition needs, and its neighbours. */
static enum mil_status wanted(const struct options *o, const struct svd_matrix *w, struct peers *p,
                              int64_t *count, struct mil_error *err) {
    int64_t k = w->m < w->n ? w->m : w->n;
    p->index = mem_calloc(MEM_OTHER, (size_t)k, sizeof *p->index);
    if (!p->index) return error_nomem(err, (uint64_t)k * sizeof *p->index);
    for (size_t i = 0; i < o->n_ranks * ENDS; i++) {
        int64_t r = o->ranks[i / ENDS] < k ? o->ranks[i / ENDS] : k, first = k - r;
        if (i % ENDS == SVD_TOP) first = 0;
        if (i % ENDS == SVD_MIDDLE) first = (k - r) / 2;
        for (int64_t t = first - 1; o->ends[i % ENDS] && t <= first + r; t++)
            if (t >= 0 && t < k) p->index[t] = 1;
    }
    *count = 0;
    for (int64_t i = 0; i < k; i++) /* flags into a list, in place */
        if (p->index[i]) p->index[(*count)++] = i;
    return MIL_OK;
}

static enum mil_status run_gesdd(const struct options *o, const struct svd_matrix *w,
                                 struct peers *p, struct mil_error *err) {
    struct svd_request q = {.end = SVD_CHOSEN, .only = "dgesdd"};
    double spent = 0;
    TRY(wanted(o, w, p, &q.rank, err));
    q.chosen = p->index;
    for (int i = 0; i < 5 && spent < 1; i++) {
        svd_release(&p->all);
        TRY(svd_compute(w, &q, &p->all, err));
        spent += p->all.seconds;
        if (i == 0 || p->all.seconds < p->gesdd_seconds) p->gesdd_seconds = p->all.seconds;
    }
    return MIL_OK;
}

/* ---- torch ---- */

static enum mil_status spawn_script(const struct options *o, const char *file, int out,
                                    struct mil_error *err) {
    char threads[16], python[PATH_CAP], script[] = BENCH_ROOT "/peers/svd_torch.py",
                                        option[] = "--threads";
    char *argv[] = {python, script, option, threads, (char *)(uintptr_t)file, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int code = 0;
    snprintf(threads, sizeof threads, "%d", threads_count());
    snprintf(python, sizeof python, "%s", o->torch);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out, 1);
    int e = posix_spawnp(&child, python, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (e) return error_errno(err, e, "%s: cannot start", python);
    while (waitpid(child, &code, 0) < 0 && errno == EINTR) continue;
    if (WIFEXITED(code) && WEXITSTATUS(code) == 0) return MIL_OK;
    return error_set(err, MIL_IO, "%s %s: failed (status %d)", python, script, code);
}

/* {"torch": version, "seconds": [...], "sigma_max": s, ...} */
static enum mil_status read_answer(const char *path, struct peers *p, struct mil_error *err) {
    json_t *root = NULL;
    double sigma_max = 0, seconds = 0;
    TRY(json_read_file(path, &root, err));
    enum mil_status st =
        json_member_f64(root, "svd_torch.py", "sigma_max", true, 0, 1e30, &sigma_max, err);
    if (st == MIL_OK)
        st = json_member_f64(root, "svd_torch.py", "seconds", true, 0, 1e9, &seconds, err);
    p->torch_sigma_max = sigma_max;
    p->torch_seconds = seconds;
    json_decref(root);
    return st;
}

static enum mil_status write_matrix(const struct svd_matrix *w, const char *path,
                                    struct mil_error *err) {
    int64_t n = w->m * w->n, shape[2] = {w->m, w->n};
    float *f = mem_alloc(MEM_OTHER, (size_t)n, sizeof *f);
    if (!f) return error_nomem(err, (uint64_t)n * sizeof *f);
    for (int64_t i = 0; i < n; i++) f[i] = bf16_to_f32(((const bf16 *)w->data)[i]);
    enum mil_status st = npy_write_f32(path, f, 2, shape, err);
    mem_free(f);
    return st;
}

static enum mil_status run_torch(const struct options *o, const struct svd_matrix *w,
                                 struct peers *p, struct mil_error *err) {
    char dir[512], matrix[PATH_CAP], answer[PATH_CAP];
    const char *base = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/bench-svd-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(dir)) return error_errno(err, errno, "%s: cannot create", dir);
    enum mil_status st;
    int fd = -1;
    TRY_GOTO(path_join(matrix, dir, "w.npy", err));
    TRY_GOTO(path_join(answer, dir, "answer.json", err));
    TRY_GOTO(write_matrix(w, matrix, err));
    fd = open(answer, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        st = error_errno(err, errno, "%s: cannot create", answer);
        goto fail;
    }
    TRY_GOTO(spawn_script(o, matrix, fd, err));
    st = read_answer(answer, p, err);
fail:
    if (fd >= 0) close(fd);
    dir_remove(dir, NULL);
    return st;
}

enum mil_status peers_run(const struct options *o, const struct svd_matrix *w, struct peers *p,
                          struct mil_error *err) {
    memset(p, 0, sizeof *p);
    enum mil_status st = o->reference ? run_gesdd(o, w, p, err) : MIL_OK;
    if (st == MIL_OK && o->torch) st = run_torch(o, w, p, err);
    if (st != MIL_OK) peers_release(p);
    return st;
}

void peers_release(struct peers *p) {
    svd_release(&p->all);
    mem_free(p->index);
    memset(p, 0, sizeof *p);
}

/* ---- comparison ---- */

/* ||X - (X Y^T) Y||_F of X, Y [r, len] by rows. */
static double sine(const double *x, const double *y, int64_t r, int64_t len, double *c, double *d) {
    int rows = (int)r, cols = (int)len;
    memcpy(d, x, (size_t)(r * len) * sizeof *d);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, rows, rows, cols, 1, x, cols, y, cols, 0,
                c, rows);
    cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, rows, cols, rows, -1, c, rows, y, cols,
                1, d, cols);
    return cblas_dnrm2((int)(r * len), d, 1);
}

enum mil_status peers_compare(const struct peers *p, const struct svd_request *q,
                              const struct svd_result *r, struct difference *out,
                              struct mil_error *err) {
    const struct svd_result *a = &p->all;
    int64_t rank = r->rank, at = 0, longest = r->m > r->n ? r->m : r->n, first;
    double *c = mem_alloc(MEM_OTHER, (size_t)(rank * rank), sizeof *c),
           *d = mem_alloc(MEM_OTHER, (size_t)(rank * longest), sizeof *d);
    int64_t *index = mem_alloc(MEM_OTHER, (size_t)rank, sizeof *index);
    enum mil_status st = c && d && index ? MIL_OK : error_nomem(err, 0);
    if (st == MIL_OK) st = svd_indices(q, r->m, r->n, index, err);
    if (st != MIL_OK) goto fail;
    first = index[0];
    *out = (struct difference){0};
    while (p->index[at] != first) at++; /* the asked ones lie side by side in the reference */
    for (int64_t t = 0; t < rank; t++)
        out->sigma = fmax(out->sigma, fabs(r->sigma[t] - a->sigma[at + t]) / a->sigma_max);
    out->sine = fmax(sine(r->u, a->u + at * r->m, rank, r->m, c, d),
                     sine(r->v, a->v + at * r->n, rank, r->n, c, d));
    double above = first > 0 ? a->sigma[at - 1] - a->sigma[at] : INFINITY, below = INFINITY;
    if (at + rank < a->rank) below = a->sigma[at + rank - 1] - a->sigma[at + rank];
    out->gap = isfinite(fmin(above, below)) ? fmin(above, below) / a->sigma_max : 0;
fail:
    mem_free(index);
    mem_free(d);
    mem_free(c);
    return st;
}
