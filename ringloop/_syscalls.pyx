"""The numbers of system calls on this processor: of those that the table names and those that are refused."""

cdef extern from *:
    """
    #include <sys/syscall.h>

    /* Each processor has its own numbers, and some lack some calls. */
    static const struct {
        const char *name;
        long number;
    } RL_SYSTEM_CALLS[] = {
    #define RL_NUMBER(call) {#call, SYS_##call},
        RL_NUMBER(getdents64) RL_NUMBER(readlinkat) RL_NUMBER(faccessat) RL_NUMBER(fchmodat)
        RL_NUMBER(fchownat) RL_NUMBER(utimensat) RL_NUMBER(statfs) RL_NUMBER(flock)
        RL_NUMBER(copy_file_range) RL_NUMBER(sendfile) RL_NUMBER(mknodat) RL_NUMBER(getcwd)
        RL_NUMBER(setuid) RL_NUMBER(setgid) RL_NUMBER(setreuid) RL_NUMBER(setregid)
        RL_NUMBER(setresuid) RL_NUMBER(setresgid) RL_NUMBER(setgroups) RL_NUMBER(setfsuid)
        RL_NUMBER(setfsgid) RL_NUMBER(capset) RL_NUMBER(keyctl)
        RL_NUMBER(prctl) RL_NUMBER(seccomp) RL_NUMBER(personality) RL_NUMBER(ptrace)
        RL_NUMBER(unshare) RL_NUMBER(setns) RL_NUMBER(chroot) RL_NUMBER(pivot_root) RL_NUMBER(chdir)
        RL_NUMBER(fchdir) RL_NUMBER(umask) RL_NUMBER(close_range)
        RL_NUMBER(rt_sigprocmask) RL_NUMBER(rt_sigaction) RL_NUMBER(rt_sigreturn)
        RL_NUMBER(rt_sigsuspend) RL_NUMBER(rt_sigtimedwait) RL_NUMBER(sigaltstack)
        RL_NUMBER(restart_syscall)
        RL_NUMBER(exit) RL_NUMBER(exit_group) RL_NUMBER(clone) RL_NUMBER(clone3) RL_NUMBER(execve)
        RL_NUMBER(execveat)
        RL_NUMBER(set_tid_address) RL_NUMBER(set_robust_list) RL_NUMBER(rseq) RL_NUMBER(brk)
        RL_NUMBER(pkey_alloc) RL_NUMBER(pkey_free)
        RL_NUMBER(sched_setscheduler) RL_NUMBER(sched_setparam) RL_NUMBER(sched_setattr)
        RL_NUMBER(sched_setaffinity) RL_NUMBER(setpriority) RL_NUMBER(ioprio_set) RL_NUMBER(set_mempolicy)
    #ifdef SYS_fork
        RL_NUMBER(fork) RL_NUMBER(vfork)
    #endif
    #ifdef SYS_arch_prctl
        RL_NUMBER(arch_prctl) RL_NUMBER(iopl) RL_NUMBER(ioperm) RL_NUMBER(set_thread_area)
        RL_NUMBER(modify_ldt)
    #endif
        {"landlock_restrict_self", 446}, /* 5.13 and 6.8; the same on every processor */
        {"lsm_set_self_attr", 460},
    };
    static const int RL_SYSTEM_CALL_COUNT = sizeof RL_SYSTEM_CALLS / sizeof RL_SYSTEM_CALLS[0];
    """
    ctypedef struct system_call:
        const char *name
        long number
    const system_call RL_SYSTEM_CALLS[]
    const int RL_SYSTEM_CALL_COUNT


def numbers():
    """A dict of the numbers by name."""
    cdef int position
    known = {}
    for position in range(RL_SYSTEM_CALL_COUNT):
        known[RL_SYSTEM_CALLS[position].name.decode()] = RL_SYSTEM_CALLS[position].number
    return known
