/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - paths, directories, and whole-file reading.  What writes lives in atomic.c and stage.c.
 *
 * Only regular files are read: a FIFO would block, and a device has no size to check ranges
 * against.  Directory trees are walked by descriptors (openat), so that nobody can swap a
 * directory for a symbolic link between the look and the removal. */
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"

#define READ_CHUNK ((size_t)1 << 20)

enum mil_status path_join(char out[PATH_CAP], const char *dir, const char *name,
                          struct mil_error *err) {
    size_t n = strlen(dir);
    const char *sep = n == 0 || dir[n - 1] == '/' ? "" : "/";
    int used = snprintf(out, PATH_CAP, "%s%s%s", dir, sep, name);
    if (used < 0 || used >= PATH_CAP)
        return error_set(err, MIL_USAGE, "%.100s...: path longer than %d bytes", dir, PATH_CAP - 1);
    return MIL_OK;
}

const char *path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool path_exists(const char *path) {
    struct stat s;
    return stat(path, &s) == 0;
}

bool path_is_dir(const char *path) {
    struct stat s;
    return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

bool path_same_file(const char *a, const char *b) {
    struct stat s, t;
    if (stat(a, &s) != 0 || stat(b, &t) != 0) return strcmp(a, b) == 0;
    return S_ISREG(s.st_mode) && s.st_dev == t.st_dev && s.st_ino == t.st_ino;
}

/* mkdir of one component; a directory (or a link to one) that is there already is success. */
static enum mil_status make_one(const char *path, struct mil_error *err) {
    if (mkdir(path, 0777) == 0) return MIL_OK;
    int e = errno;
    if (e == EEXIST && path_is_dir(path)) return MIL_OK;
    return error_errno(err, e, "%s: cannot create the directory", path);
}

enum mil_status dir_make(const char *path, struct mil_error *err) {
    if (path_is_dir(path)) return MIL_OK;
    char part[PATH_CAP];
    TRY(path_join(part, "", path, err));
    for (char *p = part + 1; *part && *p; p++) {
        if (*p != '/') continue;
        *p = 0;
        TRY(make_one(part, err));
        *p = '/';
    }
    return make_one(part, err);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_dots(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

struct name_list {
    char **names;
    size_t n, cap;
};

static bool name_list_add(struct name_list *list, const char *name) {
    if (list->n == list->cap) {
        size_t cap = list->cap ? 2 * list->cap : 16;
        char **grown = mem_realloc(MEM_IO, list->names, cap, sizeof *grown);
        if (!grown) return false;
        list->names = grown;
        list->cap = cap;
    }
    list->names[list->n] = mem_strdup(MEM_IO, name);
    if (!list->names[list->n]) return false;
    list->n++;
    return true;
}

enum mil_status dir_list(const char *path, char ***names, size_t *n, struct mil_error *err) {
    struct name_list list = {0};
    enum mil_status st = MIL_OK;
    DIR *dir = opendir(path);
    if (!dir) return error_errno(err, errno, "%s: cannot list the directory", path);
    struct dirent *e;
    while (errno = 0, (e = readdir(dir))) {
        if (is_dots(e->d_name)) continue;
        if (!name_list_add(&list, e->d_name)) {
            st = error_nomem(err, 0);
            goto fail;
        }
    }
    if (errno) {
        st = error_errno(err, errno, "%s: cannot list the directory", path);
        goto fail;
    }
    closedir(dir);
    if (list.n) qsort(list.names, list.n, sizeof *list.names, by_name);
    *names = list.names;
    *n = list.n;
    return MIL_OK;
fail:
    closedir(dir);
    dir_list_free(list.names, list.n);
    return st;
}

void dir_list_free(char **names, size_t n) {
    for (size_t i = 0; i < n; i++) mem_free(names[i]);
    mem_free(names);
}

/* Empties the directory open as fd (which this closes).  0, or an errno. */
static int empty_dir(int fd) {
    DIR *dir = fdopendir(fd);
    int result = 0;
    if (!dir) {
        result = errno;
        close(fd);
        return result;
    }
    struct dirent *e;
    while (!result && (errno = 0, (e = readdir(dir)))) {
        if (is_dots(e->d_name) || unlinkat(fd, e->d_name, 0) == 0) continue;
        if (errno != EISDIR && errno != EPERM) {
            result = errno;
            continue;
        }
        int child = openat(fd, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        result = child < 0 ? errno : empty_dir(child);
        if (!result && unlinkat(fd, e->d_name, AT_REMOVEDIR) != 0) result = errno;
    }
    if (!result) result = errno;
    closedir(dir);
    return result;
}

enum mil_status dir_remove(const char *path, struct mil_error *err) {
    if (unlink(path) == 0 || errno == ENOENT) return MIL_OK; /* a file, or a link to somewhere */
    int e = 0, fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    e = fd < 0 ? errno : empty_dir(fd);
    if (!e && rmdir(path) != 0) e = errno;
    if (e && e != ENOENT) return error_errno(err, e, "%s: cannot remove", path);
    return MIL_OK;
}

/* O_NONBLOCK: opening a FIFO must not wait for a writer. */
enum mil_status file_open_regular(const char *path, int *fd, size_t *size, struct mil_error *err) {
    *fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (*fd < 0) return error_errno(err, errno, "%s: cannot open", path);
    struct stat s;
    enum mil_status st;
    if (fstat(*fd, &s) != 0)
        st = error_errno(err, errno, "%s: cannot open", path);
    else if (S_ISDIR(s.st_mode))
        st = error_set(err, MIL_ACCESS, "%s: is a directory, not a file", path);
    else if (!S_ISREG(s.st_mode))
        st = error_set(err, MIL_ACCESS, "%s: is not a regular file; copy it to one first", path);
    else {
        *size = (size_t)s.st_size;
        return MIL_OK;
    }
    close(*fd);
    *fd = -1;
    return st;
}

enum mil_status file_map(const char *path, struct mapped_file *m, struct mil_error *err) {
    memset(m, 0, sizeof *m);
    int fd;
    size_t size = 0;
    TRY(file_open_regular(path, &fd, &size, err));
    void *data = size ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    int e = errno;
    close(fd);
    if (data == MAP_FAILED) return error_errno(err, e, "%s: cannot map %zu bytes", path, size);
    m->data = data;
    m->size = size;
    return MIL_OK;
}

void file_unmap(struct mapped_file *m) {
    if (m->data) munmap((void *)(uintptr_t)m->data, m->size);
    memset(m, 0, sizeof *m);
}

/* Append what fd still holds; more than limit bytes are MIL_INPUT. */
static enum mil_status read_all(int fd, const char *path, size_t limit, struct str *out,
                                struct mil_error *err) {
    char *chunk = mem_alloc(MEM_IO, READ_CHUNK, 1);
    if (!chunk) return error_nomem(err, READ_CHUNK);
    size_t total = 0;
    enum mil_status st = MIL_OK;
    for (;;) {
        ssize_t got = read(fd, chunk, READ_CHUNK);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) st = error_errno(err, errno, "%s: cannot read", path);
        if (got <= 0) break;
        total += (size_t)got;
        if (total > limit) {
            st = error_set(err, MIL_INPUT, "%s: larger than the limit of %zu bytes", path, limit);
            break;
        }
        str_addn(out, chunk, (size_t)got);
    }
    mem_free(chunk);
    return st == MIL_OK ? str_status(out, err) : st;
}

enum mil_status file_read(const char *path, size_t limit, struct str *out, struct mil_error *err) {
    int fd;
    size_t size = 0;
    TRY(file_open_regular(path, &fd, &size, err));
    enum mil_status st = MIL_OK;
    if (size > limit)
        st = error_set(err, MIL_INPUT, "%s: %zu bytes, larger than the limit of %zu bytes", path,
                       size, limit);
    else
        st = read_all(fd, path, limit, out, err);
    close(fd);
    return st;
}

enum mil_status file_copy(const char *from, const char *to, struct mil_error *err) {
    int fd;
    size_t size = 0;
    struct atomic_file a = {0};
    char *chunk = NULL;
    TRY(file_open_regular(from, &fd, &size, err));
    enum mil_status st = atomic_open(&a, to, err);
    if (st != MIL_OK) goto fail;
    chunk = mem_alloc(MEM_IO, READ_CHUNK, 1);
    st = chunk ? MIL_OK : error_nomem(err, READ_CHUNK);
    while (st == MIL_OK) {
        ssize_t got = read(fd, chunk, READ_CHUNK);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) st = error_errno(err, errno, "%s: cannot read", from);
        if (got <= 0) break;
        st = atomic_write(&a, chunk, (size_t)got, err);
    }
    if (st == MIL_OK) st = atomic_commit(&a, err);
fail:
    mem_free(chunk);
    atomic_abort(&a);
    close(fd);
    return st;
}

void file_scattered(const void *bytes, size_t n, bool on) {
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)bytes & ~(page - 1);
    madvise((void *)first, n + ((uintptr_t)bytes - first), on ? MADV_RANDOM : MADV_NORMAL);
}
