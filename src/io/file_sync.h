/* SPDX-License-Identifier: Apache-2.0 */
/* file_sync.h - what atomic.c and stage.c share; nobody else includes it. */
#ifndef MIL_IO_FILE_SYNC_H
#define MIL_IO_FILE_SYNC_H

#include "io/file.h"

/* "<dir>/tmp-<name>-<pid>" (and "-<attempt>" after the first try) for "<dir>/<name>". */
enum mil_status tmp_name(char out[PATH_CAP], const char *path, int attempt, struct mil_error *err);
/* fsync; 0 or an errno. */
int sync_fd(int fd);
/* fsync of the directory that path lies in; 0 or an errno. */
int sync_parent(const char *path);

#endif
