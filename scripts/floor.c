// floor: the least that a step of a build, and a system call that a listener looks at, can take on this machine.
//
//     floor run DIR ROOTFS N    N steps, one after the other, as root of a user namespace. DIR is on the disk and is filled.
//     floor call WHAT N         one process makes N stat(2) calls. WHAT is done about each:
//                               0 nothing; 1 let go on; 2 its path is read; 3 and its file asked for one attribute.
//
// It shares nothing with coracle. What a step does here no step can do without: namespaces of its own, an overlay of all layers before
// it, /proc, /dev and /sys, another root, a shell that writes one file, and the removal of the overlay's working folder. What can be
// done beside another step is: the namespaces of the next one are made, and the folder of the last one is removed.
// There is no filter of system calls, nothing is masked, and nobody reads what the step prints or what it changed.
// It prints one number: the microseconds of one.
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

#define DO(call) do { if ((call) < 0) err(1, "%s", #call); } while (0)

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static char *text(const char *form, ...) {
    va_list values;
    char *made;
    va_start(values, form);
    if (vasprintf(&made, form, values) < 0) err(1, "vasprintf");
    va_end(values);
    return made;
}

static const char *const devices[] = {"null", "zero", "full", "random", "urandom", "tty"};

static void step(const char *options, const char *root, int n) {
    DO(mount("", "/", 0, MS_REC | MS_PRIVATE, 0));
    DO(mount("overlay", root, "overlay", 0, options));
    DO(chdir(root));
    DO(mount("tmpfs", "dev", "tmpfs", MS_NOSUID, "mode=755,size=64k"));
    for (unsigned at = 0; at < sizeof devices / sizeof *devices; at++) {
        char *target = text("dev/%s", devices[at]), *source = text("/dev/%s", devices[at]);
        DO(mknod(target, S_IFREG | 0666, 0));
        DO(mount(source, target, 0, MS_BIND, 0));
    }
    DO(mkdir("dev/pts", 0755));
    DO(mount("devpts", "dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666"));
    DO(mkdir("dev/shm", 0755));
    DO(mount("tmpfs", "dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777,size=64k"));
    DO(mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, 0));
    DO(mount("/sys", "sys", 0, MS_BIND | MS_REC, 0));
    DO(syscall(SYS_pivot_root, ".", "."));
    DO(umount2(".", MNT_DETACH));
    DO(chdir("/"));
    char *const arguments[] = {"/bin/sh", "-c", text("echo step %d >/floor", n), 0};
    char *const environment[] = {"PATH=/bin", 0};
    DO(execve(arguments[0], arguments, environment));
}

/// Makes the namespaces of a step ahead of it. It hears its number on the pipe.
static pid_t prepare(int there[2]) {
    DO(pipe2(there, O_CLOEXEC));
    pid_t child = syscall(SYS_clone, CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID | SIGCHLD, 0, 0, 0, 0);
    DO(child);
    return child;
}

/// Removes, beside the steps, what overlayfs and the steps leave of the working folders whose numbers come.
static void sweep(int numbers) {
    for (int n; read(numbers, &n, sizeof n) == sizeof n;) {
        DO(unlink(text("w%d/work/incompat/volatile/dirty", n)));
        DO(rmdir(text("w%d/work/incompat/volatile", n)));
        DO(rmdir(text("w%d/work/incompat", n)));
        DO(rmdir(text("w%d/work", n)));
        DO(rmdir(text("w%d", n)));
    }
    _exit(0);
}

/// Runs the steps; each one's upper folder is the topmost layer of the next.
static double run(const char *dir, const char *rootfs, int count) {
    DO(chdir(dir));
    DO(mkdir("root", 0755));
    // What is mounted on is there in every image.
    char *layers = text("points:%s", rootfs);
    DO(mkdir("points", 0755));
    DO(mkdir("points/dev", 0755));
    DO(mkdir("points/proc", 0755));
    DO(mkdir("points/sys", 0755));
    int swept[2], there[2], status;
    DO(pipe2(swept, O_CLOEXEC));
    pid_t sweeper = fork();
    DO(sweeper);
    if (sweeper == 0) {
        close(swept[1]);
        sweep(swept[0]);
    }
    pid_t next = prepare(there);
    double start = now();
    for (int n = 0; n <= count; n++) {
        if (next == 0) {
            char word[4096];
            close(there[1]);
            ssize_t length = read(there[0], word, sizeof word - 1);
            if (length <= 0) _exit(0);
            word[length] = 0;
            step(word, "root", n);
        }
        if (n == count) break;
        char *options = text("lowerdir=%s,upperdir=u%d,workdir=w%d,userxattr,volatile", layers, n, n);
        DO(mkdir(text("u%d", n), 0755));
        DO(mkdir(text("w%d", n), 0755));
        DO(write(there[1], options, strlen(options)));
        close(there[0]);
        close(there[1]);
        pid_t child = next;
        next = prepare(there);
        if (next == 0) continue;
        // Not earlier: a layer that is mounted to be changed must not be mounted as another's.
        DO(waitpid(child, &status, 0));
        if (status != 0) errx(1, "step %d ended with %#x", n, status);
        DO(write(swept[1], &n, sizeof n));
        layers = text("u%d:%s", n, layers);
    }
    double took = (now() - start) / count;
    close(there[1]);
    close(swept[1]);
    DO(waitpid(next, 0, 0));
    DO(waitpid(sweeper, 0, 0));
    return took;
}

static int install(int is_watched) {
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_newfstatat, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, is_watched ? SECCOMP_RET_USER_NOTIF : SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {4, program};
    int flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW, listener;
    DO(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    DO(listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter));
    return listener;
}

static void answer(int listener, int what) {
    union { struct seccomp_notif notif; char room[512]; } call;
    for (;;) {
        memset(&call, 0, sizeof call);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call.notif) < 0) _exit(0);
        char path[64] = "", value[64];
        if (what > 1) {
            struct iovec here = {path, sizeof path - 1}, there = {(void *)call.notif.data.args[1], sizeof path - 1};
            DO(process_vm_readv(call.notif.pid, &here, 1, &there, 1, 0));
        }
        if (what > 2) getxattr(path, "user.floor", value, sizeof value);
        struct seccomp_notif_resp response = {.id = call.notif.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
    }
}

/// One child makes the calls, and another one answers them.
static double call(int what, int count) {
    int there[2], go[2];
    DO(pipe(there));
    DO(pipe(go));
    double *took = mmap(0, sizeof *took, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (took == MAP_FAILED) err(1, "mmap");
    pid_t caller = fork();
    DO(caller);
    if (caller == 0) {
        int listener = install(what > 0);
        DO(write(there[1], &listener, sizeof listener));
        char byte;
        DO(read(go[0], &byte, 1));
        close(listener);
        char path[128] = "/etc/passwd";
        struct stat stat;
        double start = now();
        for (int n = 0; n < count; n++) syscall(SYS_newfstatat, AT_FDCWD, path, &stat, 0);
        *took = (now() - start) / count;
        _exit(0);
    }
    int theirs, listener, process;
    DO(read(there[0], &theirs, sizeof theirs));
    DO(process = syscall(SYS_pidfd_open, caller, 0));
    DO(listener = syscall(SYS_pidfd_getfd, process, theirs, 0));
    // Both sides take turns on one processor; older kernels than 6.6 can not do that.
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, 1L);
    pid_t server = fork();
    DO(server);
    if (server == 0) answer(listener, what);
    DO(write(go[1], "", 1));
    DO(waitpid(caller, 0, 0));
    DO(kill(server, SIGKILL));
    DO(waitpid(server, 0, 0));
    return *took;
}

int main(int count, char **words) {
    if (count == 5 && !strcmp(words[1], "run")) return printf("%.1f\n", run(words[2], words[3], atoi(words[4]))) < 0;
    if (count == 4 && !strcmp(words[1], "call")) return printf("%.2f\n", call(atoi(words[2]), atoi(words[3]))) < 0;
    errx(2, "usage: floor run DIR ROOTFS N | floor call WHAT N");
}
