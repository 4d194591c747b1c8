/* SPDX-License-Identifier: Apache-2.0 */
/* sandbox.c - the parent's side: make everything, fork, read, keep the time, clean up.
 *
 *     parent                               child (sandbox_child.c)
 *     sealed memory file  ---------------> 0   its input, whole before it starts
 *     pipe  <----------------------------- 1   bounded
 *     /dev/null <------------------------- 2
 *     pipe  <----------------------------- 3   why it could not start; closed by exec
 *
 * A sealed memory file instead of a pipe for the input: nothing to write while reading, and no
 * SIGPIPE.  The filter keeps the child alone, so the end of its output is its end, unless it closed
 * that itself; then it is asked for until the clock runs out.  _Fork: no fork handlers of other
 * libraries run. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/threads.h"
#include "eval/sandbox/sandbox_internal.h"
#include "io/file.h"

static const double longest = 1e6; /* seconds */
enum { POLL_MS = 2, READ_BYTES = 1 << 16, UNTOLD = -1 /* no status of waitpid */ };

/* ---- the filter, made once a process ---- */

static struct sandbox_filter filter;
static enum mil_status filter_status;
static struct mil_error filter_error;
static pthread_once_t filter_once = PTHREAD_ONCE_INIT;

static void make_filter(void) {
    filter_status = sandbox_filter_build(&filter, &filter_error);
}

static enum mil_status have_filter(struct mil_error *err) {
    pthread_once(&filter_once, make_filter);
    if (filter_status != MIL_OK && err) *err = filter_error;
    return filter_status;
}

/* ---- what a run holds ---- */

struct launch {
    struct sandbox_setup setup;
    int output, status; /* ends to read */
    char directory[PATH_CAP], program[PATH_CAP];
    pid_t pid;
    double start;
};

static void close_fd(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

/* Above the numbers that the child gives to its streams. */
static int raise_fd(int fd) {
    if (fd < 0 || fd >= SANDBOX_FIRST_FD) return fd;
    int up = fcntl(fd, F_DUPFD_CLOEXEC, SANDBOX_FIRST_FD), saved = errno;
    close(fd);
    errno = saved;
    return up;
}

static enum mil_status open_pipe(int *read_end, int *write_end, struct mil_error *err) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return error_errno(err, errno, "sandbox: a pipe");
    *read_end = raise_fd(ends[0]);
    *write_end = raise_fd(ends[1]);
    if (*read_end < 0 || *write_end < 0) return error_errno(err, errno, "sandbox: a pipe");
    return MIL_OK;
}

static enum mil_status open_input(const char *input, size_t n, int *out, struct mil_error *err) {
    int fd = *out = raise_fd(memfd_create("input", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (fd < 0) return error_errno(err, errno, "sandbox: a file in memory");
    for (size_t done = 0; done < n;) {
        ssize_t k = write(fd, input + done, n - done);
        if (k < 0 && errno == EINTR) continue;
        if (k <= 0) return error_errno(err, errno, "sandbox: %zu bytes of input", n);
        done += (size_t)k;
    }
    if (lseek(fd, 0, SEEK_SET) != 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) != 0)
        return error_errno(err, errno, "sandbox: sealing the input");
    return MIL_OK;
}

static bool program_at(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISREG(s.st_mode) && access(path, X_OK) == 0;
}

/* Absolute, for the child runs in a directory of its own; symbolic links stay (a virtual
 * environment's interpreter finds its libraries by the name it was called by). */
static enum mil_status find_program(const char *name, char out[PATH_CAP], struct mil_error *err) {
    char here[PATH_CAP] = "", dir[PATH_CAP];
    if (strchr(name, '/')) {
        if (name[0] != '/' && !getcwd(here, sizeof here))
            return error_errno(err, errno, "the present directory");
        TRY(path_join(out, here, name, err));
        return program_at(out) ? MIL_OK
                               : error_set(err, MIL_ACCESS, "%s: no program that can be run", out);
    }
    const char *path = getenv("PATH");
    for (const char *p = path ? path : "/usr/bin:/bin"; *p;) {
        size_t n = strcspn(p, ":");
        snprintf(dir, sizeof dir, "%.*s", (int)(n < sizeof dir ? n : 0), p);
        if (dir[0] == '/' && path_join(out, dir, name, NULL) == MIL_OK && program_at(out))
            return MIL_OK;
        p += n + (p[n] == ':');
    }
    return error_set(err, MIL_ACCESS, "%s: no such program in PATH", name);
}

static enum mil_status make_directory(char out[PATH_CAP], struct mil_error *err) {
    const char *base = getenv("TMPDIR");
    char path[PATH_CAP];
    TRY(path_join(path, base && *base == '/' ? base : "/tmp", "milora-sandbox-XXXXXX", err));
    if (!mkdtemp(path)) return error_errno(err, errno, "%s", path);
    memcpy(out, path, sizeof path);
    return MIL_OK;
}

static void launch_init(struct launch *l) {
    memset(l, 0, sizeof *l);
    l->output = l->status = -1;
    l->setup.input = l->setup.output = l->setup.null = l->setup.status = -1;
    l->setup.landlock = -1;
}

static void launch_release(struct launch *l) {
    struct sandbox_setup *s = &l->setup;
    int *fds[] = {&l->output, &l->status, &s->input,   &s->output,
                  &s->null,   &s->status, &s->landlock};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) close_fd(fds[i]);
    if (l->directory[0]) rmdir(l->directory); /* empty: nothing could be made in it */
}

static enum mil_status prepare(struct launch *l, const char *program, const char *input,
                               size_t n_input, const struct sandbox_limits *limits,
                               struct mil_error *err) {
    struct sandbox_setup *s = &l->setup;
    TRY(have_filter(err));
    if (program) TRY(find_program(program, l->program, err));
    TRY(make_directory(l->directory, err));
    TRY(open_input(input, n_input, &s->input, err));
    TRY(open_pipe(&l->output, &s->output, err));
    TRY(open_pipe(&l->status, &s->status, err));
    if (fcntl(l->output, F_SETFL, O_NONBLOCK) != 0) return error_errno(err, errno, "sandbox");
    s->null = raise_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
    if (s->null < 0) return error_errno(err, errno, "/dev/null");
    if (!limits->seccomp_alone) {
        int set = sandbox_landlock_open(program ? l->program : NULL, limits->readable);
        s->landlock = raise_fd(set);
        if (set != -1 && s->landlock < 0) return error_errno(err, errno, "sandbox: Landlock");
    }
    s->filter = &filter;
    s->seconds = limits->seconds;
    s->memory = limits->memory;
    s->parent = getpid();
    s->directory = l->directory;
    s->program = program ? l->program : NULL;
    return MIL_OK;
}

/* ---- the start ---- */

static enum mil_status not_started(const struct sandbox_failure *f, const char *program,
                                   struct mil_error *err) {
    const char *why = strerror(f->error);
    switch (f->stage) {
    case SANDBOX_STAGE_EXEC:
        return error_set(err, MIL_ACCESS, "%s: cannot be run: %s", program, why);
    case SANDBOX_STAGE_SECCOMP:
        return error_set(err, MIL_UNSUPPORTED,
                         "this system refuses filters of system calls (seccomp: %s), without which "
                         "nothing untrusted is run; a kernel with CONFIG_SECCOMP_FILTER, or a "
                         "container that permits seccomp(2), does it",
                         why);
    case SANDBOX_STAGE_LANDLOCK:
        return error_set(err, MIL_UNSUPPORTED, "Landlock is there but refuses its rules: %s", why);
    case SANDBOX_STAGE_PRIVILEGES:
        return error_set(err, MIL_UNSUPPORTED, "privileges cannot be given up (prctl: %s)", why);
    case SANDBOX_STAGE_LIMITS:
        return error_set(err, MIL_UNSUPPORTED, "resource limits cannot be set: %s", why);
    default: return error_set(err, MIL_IO, "the sandboxed child could not be set up: %s", why);
    }
}

static int wait_for(pid_t pid, int options, int *status) {
    pid_t r;
    do r = waitpid(pid, status, options);
    while (r < 0 && errno == EINTR);
    return (int)r;
}

/* The child up to its exec: its failure, or the end of the pipe. */
static enum mil_status start(struct launch *l, struct mil_error *err) {
    struct sandbox_failure failure = {0};
    l->start = clock_seconds();
    l->pid = _Fork();
    if (l->pid == 0) sandbox_child(&l->setup);
    if (l->pid < 0) return error_errno(err, errno, "starting a sandboxed process");
    close_fd(&l->setup.output);
    close_fd(&l->setup.status);
    ssize_t n;
    do n = read(l->status, &failure, sizeof failure);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)sizeof failure) return MIL_OK;
    int status;
    wait_for(l->pid, 0, &status);
    return not_started(&failure, l->program, err);
}

/* ---- while it runs ---- */

/* What is there now; false at the end of the output. */
static bool take_output(int fd, char *buffer, const struct sandbox_limits *limits,
                        struct sandbox_result *out) {
    ssize_t n = read(fd, buffer, READ_BYTES);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    size_t room = limits->max_output - out->n_output, take = (size_t)n < room ? (size_t)n : room;
    memcpy(out->output + out->n_output, buffer, take);
    out->n_output += take;
    out->output_cut |= take < (size_t)n;
    return true;
}

/* Wait for its end; true when the clock ran out first. */
static bool watch(struct launch *l, char *buffer, const struct sandbox_limits *limits,
                  struct sandbox_result *out, int *status) {
    double deadline = l->start + limits->seconds;
    for (bool open = true;;) {
        double left = deadline - clock_seconds();
        if (left <= 0) return true;
        struct pollfd p = {.fd = open ? l->output : -1, .events = POLLIN};
        poll(&p, 1, open ? (int)(1000 * left) + 1 : POLL_MS);
        if (open) open = take_output(l->output, buffer, limits, out);
        if (!open && wait_for(l->pid, WNOHANG, status) != 0) return false;
    }
}

static enum mil_status run_child(struct launch *l, const struct sandbox_limits *limits,
                                 struct sandbox_result *out, struct mil_error *err) {
    int status = UNTOLD;
    char *buffer = mem_alloc(MEM_SCRATCH, READ_BYTES, 1);
    out->output = mem_calloc(MEM_TEXT, limits->max_output + 1, 1);
    enum mil_status st =
        buffer && out->output ? start(l, err) : error_nomem(err, limits->max_output + READ_BYTES);
    if (st == MIL_OK && watch(l, buffer, limits, out, &status)) {
        kill(l->pid, SIGKILL);
        wait_for(l->pid, 0, &status);
        out->end = SANDBOX_TIMEOUT;
    } else if (st == MIL_OK && status == UNTOLD) {
        st = error_set(err, MIL_IO,
                       "the system does not tell how a sandboxed program ended; start this one "
                       "with SIGCHLD not ignored");
    } else if (st == MIL_OK) {
        out->end = WIFSIGNALED(status) ? SANDBOX_SIGNAL : SANDBOX_EXITED;
        out->code = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    }
    out->seconds = clock_seconds() - l->start;
    mem_free(buffer);
    return st;
}

/* ---- the doors ---- */

static enum mil_status check_limits(const struct sandbox_limits *l, struct mil_error *err) {
    size_t bytes;
    if (!(l->seconds > 0 && l->seconds <= longest))
        return error_set(err, MIL_USAGE, "a limit of %g seconds; it is above 0 and at most %g",
                         l->seconds, longest);
    if (!checked_add(l->max_output, READ_BYTES, &bytes) || l->memory == 0)
        return error_set(err, MIL_USAGE, "limits of memory and output that nothing can have");
    return MIL_OK;
}

static char *const environment[] = {
    "PATH=/usr/bin:/bin",        "LANG=C.UTF-8",           "HOME=/nonexistent",
    "PYTHONDONTWRITEBYTECODE=1", "PYTHONHASHSEED=0",       "PYTHONSAFEPATH=1",
    "OMP_NUM_THREADS=1",         "OPENBLAS_NUM_THREADS=1", NULL};

enum mil_status sandbox_run(const char *const *argv, const char *input, size_t n_input,
                            const struct sandbox_limits *limits, struct sandbox_result *out,
                            struct mil_error *err) {
    struct launch l;
    launch_init(&l);
    memset(out, 0, sizeof *out);
    TRY(check_limits(limits, err));
    enum mil_status st = prepare(&l, argv[0], input, n_input, limits, err);
    l.setup.argv = (char *const *)(uintptr_t)argv; /* exec's argument is not const, but unchanged */
    l.setup.environment = environment;
    if (st == MIL_OK) st = run_child(&l, limits, out, err);
    launch_release(&l);
    if (st != MIL_OK) sandbox_release(out);
    return st;
}

enum mil_status sandbox_check(struct mil_error *err) {
    static const struct sandbox_limits limits = {
        .seconds = 20, .memory = (uint64_t)1 << 30, .max_output = 0};
    struct sandbox_result result = {0};
    struct launch l;
    launch_init(&l);
    enum mil_status st = prepare(&l, NULL, "", 0, &limits, err);
    if (st == MIL_OK) st = run_child(&l, &limits, &result, err);
    launch_release(&l);
    if (st == MIL_OK && result.end != SANDBOX_EXITED)
        st = error_set(err, MIL_UNSUPPORTED, "the sandbox's probe did not end by itself (%s %d)",
                       result.end == SANDBOX_TIMEOUT ? "timeout" : "signal", result.code);
    else if (st == MIL_OK && result.code != 0)
        st = error_set(err, MIL_UNSUPPORTED,
                       "a sandboxed process can still %s here; nothing untrusted is run",
                       sandbox_probe_text(result.code));
    sandbox_release(&result);
    return st;
}

void sandbox_release(struct sandbox_result *r) {
    mem_free(r->output);
    memset(r, 0, sizeof *r);
}
