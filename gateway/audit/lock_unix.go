//go:build unix && !solaris && !aix

package audit

import (
	"os"
	"syscall"
)

const posix = true

// lock marks a file as the one that this process writes, until it is closed or
// the process ends, however it ends. It reports false if another process, or
// this one with another descriptor, has marked it.
func lock(f *os.File) (bool, error) {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == syscall.EWOULDBLOCK {
		return false, nil
	}
	return err == nil, err
}

// ownAsDir gives what root has made to the account that owns the directory:
// a command that an administrator runs must not shut the gateway out.
func ownAsDir(name, dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok {
		return os.Chown(name, int(owner.Uid), int(owner.Gid))
	}
	return nil
}

// locked reports whether somebody writes a file, without being in their way.
func locked(f *os.File) bool {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB) == syscall.EWOULDBLOCK
}
