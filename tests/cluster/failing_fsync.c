/* A disk whose syncs fail, lie or hang, for LD_PRELOAD. Files outside SHIM_DIRECTORY are left alone.
 *
 *   SHIM_FAIL_AFTER=k   the k first syncs work, every later one fails with EIO
 *   SHIM_FAIL_GROWN=n   the first sync of a log that grew by n bytes since its last one fails, and all later ones
 *   SHIM_LIE_AFTER=k    the k first syncs work, every later one claims to and does nothing
 *   SHIM_HANG=file      while there is this file, no sync ends
 *   SHIM_LOG=file       a line "SIZE PATH" for each sync that worked: of the file at PATH at least
 *                       SIZE bytes are on the disk. What lies beyond, a power cut may take.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static atomic_long syncs;
static atomic_int broken;       /* a log grew by SHIM_FAIL_GROWN */
static atomic_llong log_synced; /* how large the log was that was synced last */

static long limit(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : LONG_MAX;
}

/* Whether fd is a file of the directory; its path, without a trailing zero cut off. */
static int ours(int fd, char path[PATH_MAX]) {
    const char *directory = getenv("SHIM_DIRECTORY");
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = directory ? readlink(link, path, PATH_MAX - 1) : -1;
    if (length < 0)
        return 0;
    path[length] = 0;
    return strncmp(path, directory, strlen(directory)) == 0;
}

/* The size is taken before the sync begins: what is written meanwhile is not promised. */
static int watched(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    struct stat before;
    if (!ours(fd, path))
        return real(fd);
    long number = atomic_fetch_add(&syncs, 1);
    const char *hang = getenv("SHIM_HANG");
    while (hang && access(hang, F_OK) == 0)
        usleep(20000);
    int log_file = strlen(path) > 4 && strcmp(path + strlen(path) - 4, ".log") == 0;
    if (fstat(fd, &before))
        return -1;
    if (log_file && before.st_size - atomic_load(&log_synced) >= limit("SHIM_FAIL_GROWN"))
        atomic_store(&broken, 1);
    if (atomic_load(&broken) || number >= limit("SHIM_FAIL_AFTER")) {
        errno = EIO;
        return -1;
    }
    if (number >= limit("SHIM_LIE_AFTER"))
        return 0;
    if (real(fd))
        return -1;
    if (log_file)
        atomic_store(&log_synced, before.st_size);
    const char *log = getenv("SHIM_LOG");
    if (log) {
        char line[PATH_MAX + 32];
        int length = snprintf(line, sizeof line, "%lld %s\n", (long long)before.st_size, path);
        int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (out < 0 || write(out, line, length) != length)
            abort();
        close(out);
    }
    return 0;
}

int fsync(int fd) {
    return watched(fd, (int (*)(int))dlsym(RTLD_NEXT, "fsync"));
}

int fdatasync(int fd) {
    return watched(fd, (int (*)(int))dlsym(RTLD_NEXT, "fdatasync"));
}

/* Only starts or waits for writing; nothing may be built on it, so it fails and lies, and never counts. */
int sync_file_range(int fd, off64_t offset, off64_t bytes, unsigned int flags) {
    char path[PATH_MAX];
    if (ours(fd, path) && (atomic_load(&broken) || atomic_load(&syncs) >= limit("SHIM_FAIL_AFTER"))) {
        errno = EIO;
        return -1;
    }
    int (*real)(int, off64_t, off64_t, unsigned int) =
        (int (*)(int, off64_t, off64_t, unsigned int))dlsym(RTLD_NEXT, "sync_file_range");
    return real(fd, offset, bytes, flags);
}
