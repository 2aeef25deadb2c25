/* What a power cut leaves: each fsync copies the file, as it is at that moment, to a second folder. A file or a part of one that was never synced
 * is not there, and one that was removed is gone once its folder was synced. Loaded before the C library of the program under test (LD_PRELOAD); ONLY_SYNCED_FROM and ONLY_SYNCED_TO name the folders. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void forget_removed(const char *from, const char *to) {
    char here[2 * PATH_MAX], kept[2 * PATH_MAX];
    DIR *folder = opendir(to);
    if (!folder) abort();
    for (struct dirent *entry; (entry = readdir(folder));) {
        snprintf(here, sizeof here, "%s/%s", from, entry->d_name);
        snprintf(kept, sizeof kept, "%s/%s", to, entry->d_name);
        if (entry->d_type == DT_REG && access(here, F_OK) != 0) unlink(kept);
    }
    closedir(folder);
}

static void keep(int fd) {
    const char *from = getenv("ONLY_SYNCED_FROM"), *to = getenv("ONLY_SYNCED_TO");
    char link[64], path[PATH_MAX], fresh[2 * PATH_MAX], kept[2 * PATH_MAX], buffer[1 << 16];
    struct stat file;
    if (!from || !to || fstat(fd, &file) != 0 || (!S_ISREG(file.st_mode) && !S_ISDIR(file.st_mode))) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return;
    path[length] = 0;
    if (S_ISDIR(file.st_mode)) {
        if (strcmp(path, from) == 0) forget_removed(from, to);
        return;
    }
    if (strncmp(path, from, strlen(from)) != 0 || strchr(path + strlen(from) + 1, '/')) return;
    snprintf(kept, sizeof kept, "%s%s", to, path + strlen(from));
    snprintf(fresh, sizeof fresh, "%s.%d.fresh", kept, getpid());
    int copy = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (copy < 0) abort();
    /* Through the same descriptor where it can read: closing another one of a database would drop the program's locks on it. */
    int source = fd;
    if (pread(fd, buffer, 1, 0) < 0 && errno == EBADF && (source = open(path, O_RDONLY | O_CLOEXEC)) < 0) abort();
    off_t at = 0;
    for (ssize_t got; (got = pread(source, buffer, sizeof buffer, at)) > 0; at += got)
        if (write(copy, buffer, (size_t)got) != got) abort();
    close(copy);
    if (source != fd) close(source);
    /* Renamed into place: a kill in the midst of the copy leaves the state of the sync before. */
    if (rename(fresh, kept) != 0) abort();
}

int fsync(int fd) {
    int done = ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
    if (done == 0) keep(fd);
    return done;
}

int fdatasync(int fd) {
    int done = ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
    if (done == 0) keep(fd);
    return done;
}
