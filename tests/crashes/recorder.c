/* Writes down, for LD_PRELOAD, everything a process does to the files of one directory.
 *
 *   RECORDER_DIRECTORY=dir/  what is watched, as an absolute path that ends with a slash
 *   RECORDER_LOG=file        where it is written down; the form is `struct entry` below
 *
 * An operation and its entry happen under one lock, so the log has the order in which the files
 * changed. A sync has two entries, with the thread as `offset`: what was written before it began is
 * durable once it has ended.
 * `recorder_note` lets the watched program put marks between the operations. What cannot be written
 * down (a shared writable mapping) ends the process: a log with a hole proves nothing.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { CREATE = 1, WRITE, TRUNCATE, RENAME, LINK, UNLINK, MKDIR, SYNC_BEGIN, SYNC_END, NOTE };

/* Followed by `path_bytes` of path, relative to the directory, and `data_bytes` of data. */
struct entry {
    uint8_t operation;
    uint8_t is_directory;
    uint16_t path_bytes;
    uint32_t data_bytes;
    uint64_t inode;
    uint64_t offset;
} __attribute__((packed));

#define REAL(type, name, ...) ((type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int log_fd = -1;

static void give_up(const char *what) {
    fprintf(stderr, "the recorder cannot go on: %s\n", what);
    _exit(99);
}

/* The path below the directory, "" for the directory itself, or NULL for what is not watched. */
static const char *below(const char *path) {
    const char *directory = getenv("RECORDER_DIRECTORY");
    if (!directory || !path)
        return NULL;
    size_t length = strlen(directory);
    if (strncmp(path, directory, length) == 0)
        return path + length + strspn(path + length, "/"); /* RocksDB writes some with two */
    return strlen(path) == length - 1 && strncmp(path, directory, length - 1) == 0 ? "" : NULL;
}

static const char *below_fd(int fd, char path[PATH_MAX]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0)
        return NULL;
    path[length] = 0;
    return below(path);
}

/* Called with the lock held. */
static void put(struct entry entry, const char *path, const void *data, size_t data_bytes) {
    if (log_fd < 0) {
        log_fd = syscall(SYS_openat, AT_FDCWD, getenv("RECORDER_LOG"),
                         O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_fd < 0)
            give_up("RECORDER_LOG cannot be opened");
    }
    entry.path_bytes = strlen(path);
    entry.data_bytes = data_bytes;
    struct iovec parts[] = {
        {&entry, sizeof entry}, {(void *)path, entry.path_bytes}, {(void *)data, data_bytes}};
    if (syscall(SYS_writev, log_fd, parts, 3) != (long)(sizeof entry + entry.path_bytes + data_bytes))
        give_up("RECORDER_LOG cannot be written");
}

static void put_fd(int operation, int fd, const void *data, size_t data_bytes, uint64_t offset) {
    struct stat now;
    if (fstat(fd, &now))
        give_up("a file cannot be looked at");
    struct entry entry = {operation, S_ISDIR(now.st_mode), 0, 0, now.st_ino, offset};
    put(entry, "", data, data_bytes);
}

void recorder_note(const void *data, size_t data_bytes) {
    struct entry entry = {NOTE, 0, 0, 0, 0, 0};
    pthread_mutex_lock(&lock);
    put(entry, "", data, data_bytes);
    pthread_mutex_unlock(&lock);
}

/* End the process between two operations: none is done and not written down. */
void recorder_end(void) {
    pthread_mutex_lock(&lock);
    _exit(0);
}

/* --- opening ----------------------------------------------------------------------------------- */

static void opened(int fd, const char *path, int existed, int truncates) {
    struct stat now;
    if (fstat(fd, &now))
        give_up("an opened file cannot be looked at");
    struct entry entry = {CREATE, 0, 0, 0, now.st_ino, 0};
    if (!existed)
        put(entry, path, NULL, 0);
    else if (truncates)
        put_fd(TRUNCATE, fd, NULL, 0, 0);
}

static int open_any(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    const char *name = below(path);
    if (!name || !(flags & (O_CREAT | O_TRUNC)))
        return real(path, flags, mode);
    pthread_mutex_lock(&lock);
    int existed = access(path, F_OK) == 0;
    int fd = real(path, flags, mode);
    if (fd >= 0)
        opened(fd, name, existed, flags & O_TRUNC);
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags, last)                                                                              \
    mode_t mode = 0;                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                             \
        va_list rest;                                                                                  \
        va_start(rest, last);                                                                          \
        mode = va_arg(rest, mode_t);                                                                   \
        va_end(rest);                                                                                  \
    }

int open(const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_any(REAL(int, open, const char *, int, ...), path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE(flags, flags)
    return open_any(REAL(int, open64, const char *, int, ...), path, flags, mode);
}

static FILE *fopen_any(FILE *(*real)(const char *, const char *), const char *path, const char *how) {
    const char *name = below(path);
    if (!name || how[0] == 'r')
        return real(path, how);
    pthread_mutex_lock(&lock);
    int existed = access(path, F_OK) == 0;
    FILE *file = real(path, how);
    if (file)
        opened(fileno(file), name, existed, how[0] == 'w');
    pthread_mutex_unlock(&lock);
    return file;
}

FILE *fopen(const char *path, const char *how) {
    return fopen_any(REAL(FILE *, fopen, const char *, const char *), path, how);
}

FILE *fopen64(const char *path, const char *how) {
    return fopen_any(REAL(FILE *, fopen64, const char *, const char *), path, how);
}

/* --- contents ---------------------------------------------------------------------------------- */

/* Where the next `write` to fd will go. */
static uint64_t position(int fd) {
    struct stat now;
    if (fcntl(fd, F_GETFL) & O_APPEND)
        return fstat(fd, &now) ? 0 : now.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

ssize_t write(int fd, const void *data, size_t bytes) {
    ssize_t (*real)(int, const void *, size_t) = REAL(ssize_t, write, int, const void *, size_t);
    char path[PATH_MAX];
    if (!below_fd(fd, path))
        return real(fd, data, bytes);
    pthread_mutex_lock(&lock);
    uint64_t offset = position(fd);
    ssize_t done = real(fd, data, bytes);
    if (done > 0)
        put_fd(WRITE, fd, data, done, offset);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    if (!below_fd(fd, path))
        return REAL(ssize_t, writev, int, const struct iovec *, int)(fd, parts, count);
    return count ? write(fd, parts[0].iov_base, parts[0].iov_len) : 0; /* a short write is allowed */
}

static ssize_t pwrite_any(ssize_t (*real)(int, const void *, size_t, off64_t), int fd, const void *data,
                          size_t bytes, off64_t offset) {
    char path[PATH_MAX];
    if (!below_fd(fd, path))
        return real(fd, data, bytes, offset);
    pthread_mutex_lock(&lock);
    ssize_t done = real(fd, data, bytes, offset);
    if (done > 0)
        put_fd(WRITE, fd, data, done, offset);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset) {
    return pwrite_any(REAL(ssize_t, pwrite, int, const void *, size_t, off64_t), fd, data, bytes, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t offset) {
    return pwrite_any(REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t), fd, data, bytes, offset);
}

/* RocksDB's own text log goes through stdio; it is flushed at once, to have it in its place. */
size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    size_t (*real)(const void *, size_t, size_t, FILE *) =
        REAL(size_t, fwrite, const void *, size_t, size_t, FILE *);
    char path[PATH_MAX];
    int fd = fileno(file);
    if (fd < 0 || !below_fd(fd, path))
        return real(data, size, count, file);
    pthread_mutex_lock(&lock);
    fflush(file);
    uint64_t offset = position(fd);
    size_t done = real(data, size, count, file);
    fflush(file);
    if (done > 0)
        put_fd(WRITE, fd, data, size * done, offset);
    pthread_mutex_unlock(&lock);
    return done;
}

static int truncate_any(int (*real)(int, off64_t), int fd, off64_t bytes) {
    char path[PATH_MAX];
    if (!below_fd(fd, path))
        return real(fd, bytes);
    pthread_mutex_lock(&lock);
    int result = real(fd, bytes);
    if (result == 0)
        put_fd(TRUNCATE, fd, NULL, 0, bytes);
    pthread_mutex_unlock(&lock);
    return result;
}

int ftruncate(int fd, off_t bytes) {
    return truncate_any(REAL(int, ftruncate, int, off64_t), fd, bytes);
}

int ftruncate64(int fd, off64_t bytes) {
    return truncate_any(REAL(int, ftruncate64, int, off64_t), fd, bytes);
}

static void refuse_shared(int prot, int flags, int fd) {
    char path[PATH_MAX];
    if (fd >= 0 && prot & PROT_WRITE && flags & MAP_SHARED && below_fd(fd, path))
        give_up("a file of the directory was mapped to be written");
}

void *mmap(void *where, size_t bytes, int prot, int flags, int fd, off_t offset) {
    refuse_shared(prot, flags, fd);
    return (void *)syscall(SYS_mmap, where, bytes, prot, flags, fd, offset);
}

void *mmap64(void *where, size_t bytes, int prot, int flags, int fd, off64_t offset) {
    refuse_shared(prot, flags, fd);
    return (void *)syscall(SYS_mmap, where, bytes, prot, flags, fd, offset);
}

/* --- names ------------------------------------------------------------------------------------- */

static int pair(int operation, int (*real)(const char *, const char *), const char *from, const char *to) {
    const char *source = below(from), *target = below(to);
    if (!source && !target)
        return real(from, to);
    if (!source || !target)
        give_up("a file was moved into or out of the directory");
    struct entry entry = {operation, 0, 0, 0, 0, 0};
    pthread_mutex_lock(&lock);
    int result = real(from, to);
    if (result == 0)
        put(entry, source, target, strlen(target));
    pthread_mutex_unlock(&lock);
    return result;
}

int rename(const char *from, const char *to) {
    return pair(RENAME, REAL(int, rename, const char *, const char *), from, to);
}

int link(const char *from, const char *to) {
    return pair(LINK, REAL(int, link, const char *, const char *), from, to);
}

static int single(int operation, const char *path, int (*real)(const char *)) {
    const char *name = below(path);
    if (!name)
        return real(path);
    struct entry entry = {operation, 0, 0, 0, 0, 0};
    pthread_mutex_lock(&lock);
    int result = real(path);
    if (result == 0)
        put(entry, name, NULL, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

int unlink(const char *path) {
    return single(UNLINK, path, REAL(int, unlink, const char *));
}

int mkdir(const char *path, mode_t mode) {
    int result = REAL(int, mkdir, const char *, mode_t)(path, mode);
    const char *name = below(path);
    struct entry entry = {MKDIR, 1, 0, 0, 0, 0};
    if (name && result == 0) {
        pthread_mutex_lock(&lock);
        put(entry, name, NULL, 0);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

/* --- durability -------------------------------------------------------------------------------- */

static int watched_sync(int fd, int (*real)(int)) {
    char path[PATH_MAX];
    if (!below_fd(fd, path))
        return real(fd);
    pthread_mutex_lock(&lock);
    put_fd(SYNC_BEGIN, fd, NULL, 0, syscall(SYS_gettid));
    pthread_mutex_unlock(&lock);
    int result = real(fd);
    pthread_mutex_lock(&lock);
    if (result == 0)
        put_fd(SYNC_END, fd, NULL, 0, syscall(SYS_gettid));
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) {
    return watched_sync(fd, REAL(int, fsync, int));
}

int fdatasync(int fd) {
    return watched_sync(fd, REAL(int, fdatasync, int));
}
