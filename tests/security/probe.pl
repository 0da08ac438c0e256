# Run by a RUN step that means harm: it looks for what it must not see, and tries what it must not do.
#
#   REACHED WHAT WHERE     a secret (a word that begins with "canary-") of somebody else was read
#   TOUCHED WHAT WHERE     a process outside was stopped or traced
#   call NAME ERRNO        how a system call ended: an error's name, or "done"
use strict;
use Errno;

my $mark = "canary" . "-";          # not to find this script itself
my %ours = map { $_ => 1 } ($$, getppid());
my %said;

sub say_once { my ($line) = @_; print "$line\n" unless $said{$line}++; }

sub look { my ($text, $where) = @_; say_once("REACHED $mark$1 $where") while $text =~ /\Q$mark\E([a-z]+)/g; }

sub slurp {
    my ($path) = @_;
    open(my $file, '<', $path) or return '';
    local $/;
    return scalar(<$file>) // '';
}

# Everything that /proc tells of a process, and all that can be reached through it.
sub process {
    my ($pid) = @_;
    look(slurp("/proc/$pid/environ"), "environ");
    for my $link ("root", "cwd") {
        for my $home ("", "/work", "/root", "/home/dev", "/work/home") {
            look(slurp("/proc/$pid/$link$home/.docker/config.json"), "$link");
            look(slurp("/proc/$pid/$link$home/secret-of-the-user"), "$link");
        }
    }
    if (opendir(my $fds, "/proc/$pid/fd")) {
        for my $fd (grep { /^\d+$/ } readdir($fds)) {
            # A pipe would be waited for.
            look(slurp("/proc/$pid/fd/$fd"), "fd") if -f "/proc/$pid/fd/$fd";
        }
    }
    open(my $memory, '<', "/proc/$pid/mem") or return;
    for my $line (split /\n/, slurp("/proc/$pid/maps")) {
        next unless $line =~ /^([0-9a-f]+)-([0-9a-f]+) rw.*(\[heap\]|\[stack\]|\s0\s*$)/;
        my ($from, $length) = (hex($1), hex($2) - hex($1));
        next if $length > (64 << 20) || !sysseek($memory, $from, 0);
        my $bytes = '';
        sysread($memory, $bytes, $length);
        look($bytes, "mem");
    }
}

for my $round (1 .. 3) {
    opendir(my $proc, "/proc") or last;
    process($_) for grep { /^\d+$/ && !$ours{$_} } readdir($proc);
    select(undef, undef, undef, 0.3);
}

# The files of the user, by their names outside.
for my $path (glob("/work/* /work/.* /home/*/* /root/* /context/* /base/*")) {
    look(slurp($path), "file") if -f $path;
}
look(slurp("$_/.docker/config.json"), "file") for ("/root", "/home/dev", "/work", "/work/home", "");

sub call {
    my ($name, $number, @arguments) = @_;
    my $result = syscall($number, @arguments);
    my ($errno) = grep { $!{$_} } keys %!;
    print "call $name ", ($result >= 0 ? "done" : $errno), "\n";
    return $result;
}

if ($ARGV[0] eq "attack") {
    opendir(my $proc, "/proc");
    for my $pid (grep { /^\d+$/ && !$ours{$_} && $_ != 1 } readdir($proc)) {
        say_once("TOUCHED ptrace") if syscall(101, 16, $pid + 0, 0, 0) == 0;    # PTRACE_ATTACH
        # Asking for a limit (RLIMIT_CORE) takes the same right as setting it. Signal 0 only tries it.
        say_once("TOUCHED prlimit") if syscall(302, $pid + 0, 4, 0, my $limit = "\0" x 16) == 0;
        my $behind = syscall(434, $pid + 0, 0);
        say_once("TOUCHED pidfd") if $behind >= 0 && syscall(424, $behind, 0, 0, 0) == 0;
        say_once("TOUCHED setown") if fcntl(STDIN, 8, $pid + 0);
        kill('KILL', $pid);     # who is outside notices: see the test
    }
}

# In each case arguments with which the kernel would do something, or would complain about something else.
my $buffer = "\0" x 256;
open(my $null, '<', '/dev/null');
call("keyctl", 250, 0, -3, 1);
call("add_key", 248, "user", "name", "value", 5, -3);
call("request_key", 249, "user", "name", "", -3);
call("io_uring_setup", 425, 4, $buffer);
call("userfaultfd", 323, 1);
call("bpf", 321, 0, $buffer, 72);
call("perf_event_open", 298, $buffer, 0, -1, -1, 0);
call("open_by_handle_at", 304, -100, $buffer, 0);
call("unshare", 272, 0x10000000);
call("mount", 165, "none", "/mnt", "tmpfs", 0, 0);
call("setns", 308, fileno($null), 0);
call("clone3", 435, $buffer, 88);
call("init_module", 175, $buffer, 256, "");
call("tiocsti", 16, fileno($null), 0x5412, "x");

# The old way out of a chroot: a new root below the working directory, which then is outside of it.
mkdir("/below");
chdir("/");
if (chroot("/below")) {
    my $up = '../' x 60;
    for my $file ("work/secret-of-the-user", "work/home/secret-of-the-user", "work/home/.docker/config.json") {
        look(slurp("$up$file"), "chroot");
        look(slurp("/$up$file"), "chroot");
    }
    chdir("..") for 1 .. 60;
    look(slurp("work/secret-of-the-user"), "chroot");
    chroot(".");
    look(slurp("/work/secret-of-the-user"), "chroot");
}
print "end\n";
